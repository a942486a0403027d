"""A sender that floods a socket loses datagrams, and other senders lose none; without a flood nothing is dropped."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control_port.flood_watch import (
    ANY_TYPE,
    NOISE_PER_S,
    ONE_IN,
    SAMPLED_MAX,
    FloodWatch,
    Part,
    Sender,
    program,
    sender_of,
)

EVIL, NODE = ip_address("66.66.66.66"), ip_address("203.0.113.5")


def send(
    watch: FloodWatch, senders: dict[str, int], seconds: float, start: float = 0.0, *, empties: bool = False
) -> None:
    """Give the watch so many datagrams a second of each sender, evenly."""
    every = [(number / per_s, name) for name, per_s in senders.items() for number in range(int(per_s * seconds))]
    for at, name in sorted(every):
        watch.on_datagram(sender_of(ip_address(name)), start + at)
        if empties:
            watch.on_emptied()


def test_of_a_flood_on_a_socket_that_is_never_emptied_a_part_is_read_within_a_moment() -> None:
    watch = FloodWatch()

    send(watch, {str(EVIL): 15000, str(NODE): 50}, 0.25)

    assert watch.sampled == ((sender_of(EVIL), ANY_TYPE),)


def test_as_long_as_the_socket_is_emptied_every_sender_is_heard_in_full() -> None:
    watch = FloodWatch()

    send(watch, {str(EVIL): 15000, str(NODE): 50}, 1.0, empties=True)

    assert watch.sampled == ()


class Kernel:
    """The kernel with a socket from which so many datagrams a second are read; it drops the rest."""

    def __init__(self, takes_per_s: int) -> None:
        self._takes_per_s = takes_per_s
        self.lost = 0
        self.watch = FloodWatch(lambda: self.lost)

    def receive(self, senders: dict[str, int], seconds: float, proved: frozenset[str] = frozenset()) -> None:
        """So many datagrams a second of each sender arrive; the kernel keeps a random part of them."""
        every = sorted((number / rate, name) for name, rate in senders.items() for number in range(int(rate * seconds)))
        share, chance = self._takes_per_s / sum(senders.values()), random.Random(7)
        for at, name in every:
            if chance.random() >= share:
                self.lost += 1
            elif name in proved:
                self.watch.on_proved()
            else:
                self.watch.on_datagram(sender_of(ip_address(name)), at)


@pytest.mark.parametrize("takes_per_s", [200, 1000, 5000])
def test_a_flood_is_seen_for_what_it_is_by_a_machine_that_takes_little_of_it(takes_per_s: int) -> None:
    kernel = Kernel(takes_per_s)

    kernel.receive({str(EVIL): 15_000, str(NODE): 50}, 0.5)

    assert kernel.watch.sampled == ((sender_of(EVIL), ANY_TYPE),)


@pytest.mark.parametrize("takes_per_s", [200, 600])
def test_one_who_crowds_the_others_out_of_a_slow_machine_is_a_flood(takes_per_s: int) -> None:
    kernel = Kernel(takes_per_s)

    kernel.receive({str(EVIL): 1000, str(NODE): 100}, 0.5, frozenset({str(NODE)}))

    assert kernel.watch.sampled == ((sender_of(EVIL), ANY_TYPE),)


@pytest.mark.parametrize("per_s", [400, 900])
def test_one_who_sends_little_or_less_than_half_is_none_though_the_kernel_drops(per_s: int) -> None:
    kernel = Kernel(300)
    nodes = {f"198.18.0.{number}": 100 for number in range(1, 2 if per_s < 500 else 21)}

    kernel.receive({**nodes, str(EVIL): per_s}, 1.0, frozenset(nodes))

    assert kernel.lost > 100
    assert kernel.watch.sampled == ()


def test_a_stranger_beside_very_many_who_prove_who_they_are_is_no_flood() -> None:
    kernel = Kernel(1000)
    nodes = {f"198.18.0.{number}": 100 for number in range(1, 200)}

    kernel.receive({**nodes, str(EVIL): 300}, 1.0, frozenset(nodes))

    assert kernel.lost > 15_000
    assert kernel.watch.sampled == ()


def test_losses_before_anything_was_proven_are_charged_to_no_sender() -> None:
    kernel = Kernel(1000)
    kernel.lost = 1_000_000

    kernel.receive({str(EVIL): 900}, 0.5)

    assert kernel.watch.sampled == ()


def test_what_the_filter_drops_makes_no_other_sender_a_flood() -> None:
    kernel = Kernel(5000)
    kernel.receive({str(EVIL): 15_000, str(NODE): 50}, 0.5)
    kernel.lost += 1_000_000
    send(kernel.watch, {str(EVIL): 15_000 // ONE_IN, str(NODE): 200}, 0.3, start=0.5)

    assert kernel.watch.sampled == ((sender_of(EVIL), ANY_TYPE),)


def test_many_who_send_a_little_are_no_flood() -> None:
    watch = FloodWatch()

    send(watch, {f"198.18.0.{number}": 100 for number in range(1, 200)}, 0.5)

    assert watch.sampled == ()


def test_a_64_is_one_sender() -> None:
    watch = FloodWatch()

    send(watch, {str(ip_address((0x20010DB8 << 96) + number)): 50 for number in range(200)}, 0.5)

    assert watch.sampled == ((sender_of(ip_address("2001:db8::")), ANY_TYPE),)


def test_who_stops_is_heard_in_full_again_and_who_goes_on_is_not() -> None:
    watch = FloodWatch()
    send(watch, {str(EVIL): 15000, "66.66.66.67": 15000}, 0.25)
    assert (sender_of(ip_address("66.66.66.67")), ANY_TYPE) in watch.sampled

    # The kernel passes one in 64 of 60,000 a second; the other sender has stopped.
    send(watch, {str(EVIL): 60000 // ONE_IN, str(NODE): 50}, 5.0, start=1.0, empties=True)

    assert watch.sampled == ((sender_of(EVIL), ANY_TYPE),)


def test_who_is_gone_is_not_sampled_for_ever_though_nothing_more_comes() -> None:
    watch = FloodWatch()
    send(watch, {str(EVIL): 15000}, 0.25)

    changed = [watch.on_time(at) for at in (2.0, 4.0, 6.0)]  # the first still counts what came before

    assert changed == [False, False, True]
    assert watch.sampled == ()


def test_no_more_than_some_are_cut_short() -> None:
    watch = FloodWatch()

    send(watch, {f"66.66.66.{number}": 4000 for number in range(1, 17)}, 0.5)

    assert 0 < len(watch.sampled) <= SAMPLED_MAX


def make_noise(watch: FloodWatch, types: dict[int, int], seconds: float, start: float = 0.0) -> None:
    """One sender sends so many meaningless datagrams a second of each type; the socket is read until it is empty."""
    every = [(number / per_s, kind) for kind, per_s in types.items() for number in range(int(per_s * seconds))]
    for at, kind in sorted(every):
        watch.on_datagram(sender_of(EVIL), start + at, kind)
        watch.on_emptied()


def test_noise_of_one_type_is_heard_in_part_though_the_socket_is_emptied() -> None:
    watch = FloodWatch()

    make_noise(watch, {2: 2 * NOISE_PER_S, 3: 0}, 0.25)

    assert watch.sampled == ((sender_of(EVIL), 2),)


def test_noise_of_all_types_has_its_sender_heard_in_part() -> None:
    watch = FloodWatch()

    make_noise(watch, dict.fromkeys(range(16), NOISE_PER_S // 8), 0.25)

    assert watch.sampled == ((sender_of(EVIL), ANY_TYPE),)


def test_a_little_noise_is_heard_in_full() -> None:
    watch = FloodWatch()

    make_noise(watch, {2: NOISE_PER_S // 2}, 1.0)

    assert watch.sampled == ()


def test_noise_that_goes_on_stays_sampled_and_noise_that_ends_does_not() -> None:
    watch = FloodWatch()
    make_noise(watch, {2: 3 * NOISE_PER_S}, 0.25)

    make_noise(watch, {2: 3 * NOISE_PER_S // ONE_IN}, 5.0, start=1.0)
    on = watch.sampled
    make_noise(watch, {2: 2}, 10.0, start=7.0)

    assert (on, watch.sampled) == (((sender_of(EVIL), 2),), ())


def passed(code: list[tuple[int, int, int, int]], source: Sender, kind: int, drawn: int) -> bool:
    """Run the filter as the kernel would: the few instructions of its virtual machine that the filter uses."""
    at, value = 0, 0
    family, number = source
    words = {0xFFF00000 + 12: number} if family == 4 else {0xFFF00008: number >> 32, 0xFFF0000C: number & 0xFFFFFFFF}
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == 0x20:
            value = drawn if operand == 0xFFFFF038 else words[operand]
        elif operation == 0x30:
            value = {8: kind << 4 | 0x0F}[operand]
        elif operation == 0x54:
            value &= operand
        elif operation == 0x15:
            at += if_true if value == operand else if_false
        else:
            return bool(operand)


@pytest.mark.parametrize("family", [4, 6])
@given(data=st.data())
def test_the_filter_passes_one_in_64_of_the_sampled_and_all_of_others(family: int, data: st.DataObject) -> None:
    numbers = st.integers(0, 2**32 - 1) if family == 4 else st.integers(0, 2**64 - 1)
    parts = st.tuples(st.tuples(st.just(family), numbers), st.integers(ANY_TYPE, 15))
    sampled: list[Part] = data.draw(st.lists(parts, max_size=SAMPLED_MAX, unique=True))
    senders = [st.sampled_from([sender for sender, _ in sampled])] if sampled else []
    source = data.draw(st.one_of(*senders, st.tuples(st.just(family), numbers)))
    kind, drawn = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 2**32 - 1))

    is_sampled = (source, kind) in sampled or (source, ANY_TYPE) in sampled

    assert passed(program(sampled), source, kind, drawn) == (not is_sampled or drawn % ONE_IN == 0)
