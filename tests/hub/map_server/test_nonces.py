"""Old Map-Registers are refused after any pause and restart; an option admits nodes that never count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.nonces import DEFAULT_LIMIT, STEP_MAX, Nonces, TooManyXtrs
from lispmob.hub.map_server.part import LIFETIME_S, MAX_LIFETIME_S
from lispmob.wire.auth import Key
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import MappingRecord
from tests.hub.exchange import HUB, KEY, Xtr, eid, events, plane, rlocs_of, site, xtr

LAPTOP, SECOND = "10.1.0.1/32", "10.1.0.2/32"
MONDAY = 1_790_000_000_000_000_000  # nanoseconds since 1970, from which lispd counts
TUESDAY = MONDAY + 86_400_000_000_000
NONCES = st.integers(0, 2**64 - 1)
NEW_KEY = dataclasses.replace(KEY, secret=b"the next key of the site", key_id=1)


def register(nonce: int, xtr_id: bytes | None = None) -> MapRegister:
    return MapRegister(nonce, (MappingRecord.of(eid(LAPTOP)),), xtr_id=xtr_id)


def accepted(
    nonces: Iterable[int], one: Nonces | None = None, *, must_grow: bool | None = None, pause_s: float = 60.0
) -> list[bool]:
    memory = one or Nonces()
    return [
        memory.accepts(register(nonce), KEY, number * pause_s, must_grow=must_grow)
        for number, nonce in enumerate(nonces)
    ]


def places(hub: ControlPlane, prefix: str = LAPTOP) -> list[str]:
    found = hub.map_server.registrations.get(eid(prefix))
    return rlocs_of(found.record) if found is not None and found.record is not None else []


def restarted(hub: ControlPlane, now: float, **options: object) -> ControlPlane:
    again = plane(site("10.1.0.0/16", **options))  # type: ignore[arg-type]
    again.map_server.restore_nonces(hub.map_server.take_new_nonces().new.items())
    again.map_server.on_restored(now)
    return again


def test_a_nonce_has_to_grow_unless_the_site_says_otherwise() -> None:
    assert accepted([MONDAY, MONDAY, MONDAY - 1, MONDAY + 1], must_grow=True) == [True, False, False, True]
    assert accepted([MONDAY, MONDAY, MONDAY - 1, 7], must_grow=False) == [True] * 4


@pytest.mark.parametrize("pause_s", [1.0, LIFETIME_S, 2 * MAX_LIFETIME_S, 1e9])
@pytest.mark.parametrize("must_grow", [True, None])
def test_a_count_is_never_forgotten(pause_s: float, must_grow: bool | None) -> None:
    nonces = [MONDAY, MONDAY + 1, MONDAY, TUESDAY, MONDAY + 1, TUESDAY + 1]

    assert accepted(nonces, must_grow=must_grow, pause_s=pause_s) == [True, True, False, True, False, True]


def test_the_register_of_a_former_life_is_refused_however_far_below_it_is() -> None:
    hub, monday, tuesday = plane(site("10.1.0.0/16")), xtr("192.0.2.9", nonces=iter([MONDAY])), xtr("203.0.113.5")
    captured = monday.register(LAPTOP)
    hub.on_datagram(captured, 0.0)
    hub.on_datagram(tuesday.register(LAPTOP, nonce=TUESDAY), 86400.0)

    hub.on_datagram(replace(captured, source=xtr("203.0.113.50").address), 86500.0)

    assert places(hub) == ["203.0.113.5"]
    assert hub.counters["rx_replay"] == 1


def test_a_restart_of_the_hub_forgets_no_count() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    captured = [node.register(LAPTOP, rlocs=["192.0.2.9"]) for _ in range(3)]
    for now, arrival in enumerate(captured):
        hub.on_datagram(arrival, float(now))

    again = restarted(hub, 10.0)
    for arrival in captured:
        again.on_datagram(arrival, 20.0)

    assert places(again) == []
    assert again.counters["rx_replay"] == 3


def test_a_site_that_is_lenient_restores_a_count_as_counting() -> None:
    hub, node = plane(site("10.1.0.0/16", strict_nonces=None)), xtr("203.0.113.5")
    captured = [node.register(LAPTOP) for _ in range(2)]
    for arrival in captured:
        hub.on_datagram(arrival, 0.0)

    again = restarted(hub, 10.0, strict_nonces=None)
    again.on_datagram(captured[1], 20.0)

    assert again.counters["rx_replay"] == 1


@pytest.mark.parametrize("rlocs", [["192.0.2.9"], []])
def test_a_withdrawal_works_once(rlocs: list[str]) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    hub.on_datagram(node.register(LAPTOP), 0.0)
    withdrawal = node.register(LAPTOP, rlocs=rlocs, ttl_min=0)
    hub.on_datagram(withdrawal, 1.0)
    hub.on_datagram(node.register(LAPTOP), 2.0)

    hub.on_datagram(withdrawal, 3.0)

    assert places(hub) == ["203.0.113.5"]


def test_a_withdrawal_of_what_was_not_registered_is_remembered_too() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    early = node.register(LAPTOP)
    hub.on_datagram(node.withdraw(LAPTOP), 0.0)

    assert hub.map_server.has_new_nonces
    hub.on_datagram(early, 1.0)

    assert places(hub) == []


def test_what_was_held_back_about_one_eid_is_old_once_a_message_about_several_has_come() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    held_back = node.register(SECOND, rlocs=["192.0.2.9"])
    hub.on_datagram(node.register(LAPTOP, SECOND), 0.0)

    hub.on_datagram(held_back, 1.0)

    assert places(hub, SECOND) == ["203.0.113.5"]


@pytest.mark.parametrize("first_has_id", [True, False])
def test_what_was_held_back_with_an_xtr_id_or_without_is_old_after_the_other_kind(first_has_id: bool) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    ids = (b"x" * 16, None) if first_has_id else (None, b"x" * 16)
    node.xtr_id = ids[0]
    held_back = node.register(LAPTOP, rlocs=["192.0.2.9"])
    node.xtr_id = ids[1]
    hub.on_datagram(node.register(LAPTOP), 0.0)

    hub.on_datagram(held_back, 1.0)

    assert places(hub) == ["203.0.113.5"]
    assert hub.counters["rx_replay"] == 1


@pytest.mark.parametrize("ids", [(None, b"x" * 16), (b"x" * 16, None)])
def test_two_messages_that_take_different_ways_may_overtake_each_other(ids: tuple[bytes | None, bytes | None]) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    arrivals = []
    for node.xtr_id in ids:
        arrivals.append(node.register(LAPTOP))

    for number, arrival in enumerate(reversed(arrivals)):
        hub.on_datagram(arrival, number / 100)

    assert hub.counters["rx_map_register"] == 2


@pytest.mark.parametrize("xtr_id", [None, bytes(16)])
def test_an_xtr_id_of_zeros_is_none(xtr_id: bytes | None) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5", xtr_id=xtr_id)
    captured = node.register(LAPTOP)
    hub.on_datagram(captured, 0.0)
    node.xtr_id = None if xtr_id is not None else bytes(16)
    hub.on_datagram(node.register(LAPTOP), 1.0)

    hub.on_datagram(captured, 2.0)

    assert hub.counters["rx_replay"] == 1


def test_the_old_key_of_a_roll_over_brings_nothing_back() -> None:
    both = replace(site("10.1.0.0/16"), keys=(KEY, NEW_KEY))
    hub, node = plane(both), xtr("203.0.113.5")
    held_back = node.register(LAPTOP, rlocs=["192.0.2.9"])
    node.key = NEW_KEY
    hub.on_datagram(node.register(LAPTOP), 0.0)

    hub.on_datagram(held_back, 1.0)

    assert places(hub) == ["203.0.113.5"]
    assert hub.counters["rx_replay"] == 1


def test_a_site_under_another_name_keeps_its_counts() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    captured = node.register(LAPTOP)
    hub.on_datagram(captured, 0.0)

    hub.on_sites([site("10.1.0.0/16", name="renamed")], (), now=1.0)
    hub.on_datagram(captured, 2.0)

    assert hub.counters["rx_replay"] == 1


def test_a_site_that_goes_and_comes_back_keeps_its_counts() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    captured = node.register(LAPTOP)
    hub.on_datagram(captured, 0.0)

    hub.on_sites([], (), now=1.0)
    hub.on_sites([], (), now=10 * MAX_LIFETIME_S)  # by now one row stands for all of them
    hub.on_sites([site("10.1.0.0/16")], (), now=11 * MAX_LIFETIME_S)
    hub.on_datagram(captured, 11 * MAX_LIFETIME_S)

    assert hub.counters["rx_replay"] == 1
    assert len(hub.map_server._nonces) == 0


def test_sites_cannot_set_each_others_counts() -> None:
    evil_key = Key(b"a key of evil", key_id=0, algorithm=KEY.algorithm)
    hub = plane(site("10.1.0.0/16"), site("10.9.0.0/16", name="evil", key=evil_key))
    node, evil = xtr("203.0.113.5", xtr_id=b"x" * 16), xtr("192.0.2.66", xtr_id=b"x" * 16, key=evil_key)

    hub.on_datagram(evil.register("10.9.0.1/32", nonce=2**64 - 1), 0.0)
    hub.on_datagram(node.register(LAPTOP), 1.0)

    assert places(hub) == ["203.0.113.5"]


def test_a_refused_register_names_the_option_that_lets_its_node_in() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5", nonces=iter([900, 7]))
    hub.on_datagram(node.register(LAPTOP), 0.0)

    (event,) = events(hub.on_datagram(node.register(LAPTOP), 60.0))

    assert event.kind == "refused"
    assert "strict-nonces: auto" in str(event.fields["why"])
    assert "home" in str(event.fields["why"])


@given(st.lists(NONCES, max_size=20))
def test_random_nonces_are_all_accepted_by_option(nonces: list[int]) -> None:
    spread = [nonce for n, nonce in enumerate(nonces) if all(abs(nonce - one) > STEP_MAX for one in nonces[:n])]

    assert all(accepted(spread))


def test_a_constant_nonce_is_accepted_by_option() -> None:
    assert all(accepted([MONDAY] * 10))


def test_a_node_that_the_default_refused_is_let_in_once_the_option_is_set() -> None:
    memory = Nonces()
    accepted([5 << 40, 9 << 40, 2 << 40], memory, must_grow=True)

    assert accepted([1 << 40, 8 << 40, 3 << 40], memory) == [True] * 3


def test_xtrs_that_share_a_prefix_by_merging_each_have_a_count() -> None:
    hub = plane(site("10.1.0.0/16"))
    one, two = xtr("203.0.113.5", xtr_id=b"1" * 16, nonces=iter([900, 901])), xtr("192.0.2.9", xtr_id=b"2" * 16)

    for node in (one, two, one, two):
        hub.on_datagram(node.register(LAPTOP, wants_merge=True), 0.0)

    assert hub.counters["rx_replay"] == 0
    assert sorted(places(hub)) == ["192.0.2.9", "203.0.113.5"]


def test_a_site_may_have_only_so_many_xtrs_and_gives_up_those_long_silent() -> None:
    memory = Nonces()
    for number in range(8):
        memory.accepts(register(100 + number, xtr_id=bytes([9] * 15 + [number + 1])), KEY, float(number),
                       must_grow=True, limit=9)  # fmt: skip
    newcomer = register(500, xtr_id=b"n" * 16)

    with pytest.raises(TooManyXtrs):
        memory.accepts(newcomer, KEY, 100.0, must_grow=True, limit=9)
    assert memory.accepts(newcomer, KEY, MAX_LIFETIME_S + 1.0, must_grow=True, limit=9)

    forgotten = register(100, xtr_id=bytes([9] * 15 + [1]))
    assert not memory.accepts(forgotten, KEY, MAX_LIFETIME_S + 2.0, must_grow=True, limit=9)
    assert len(memory) <= 9


@given(st.lists(st.tuples(NONCES, st.integers(0, 40)), max_size=60))
def test_what_is_remembered_is_bounded_and_never_accepted_twice(sent: list[tuple[int, int]]) -> None:
    memory, taken = Nonces(), set()
    for at, (nonce, who) in enumerate(sent):
        message = register(nonce, xtr_id=bytes([1] * 15 + [who]))
        try:
            is_new = memory.accepts(message, KEY, at * MAX_LIFETIME_S, must_grow=True, limit=8)
        except TooManyXtrs:
            continue
        assert not (is_new and (nonce, who) in taken)
        taken |= {(nonce, who)} if is_new else set()
    assert len(memory) <= 8
    assert DEFAULT_LIMIT > 8


def test_a_delayed_register_does_not_undo_a_newer_one() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    hub.on_datagram(node.register(LAPTOP), 0.0)
    delayed, newer = (
        node.register(LAPTOP, rlocs=["192.0.2.1"]),
        node.register(LAPTOP, rlocs=["192.0.2.2"]),
    )

    hub.on_datagram(newer, 1.0)
    hub.on_datagram(delayed, 1.5)

    assert places(hub) == ["192.0.2.2"]
    assert hub.counters["rx_replay"] == 1


def test_octets_that_are_not_the_nodes_change_no_count() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    forged = Xtr(node.address, key=Key(b"not the site's", algorithm=KEY.algorithm)).register(LAPTOP, nonce=2**64 - 1)

    hub.on_datagram(Arrival(forged.payload, node.address, 4342, HUB), 0.0)
    hub.on_datagram(node.register(LAPTOP), 1.0)

    assert places(hub) == ["203.0.113.5"]


def test_in_a_full_book_those_who_are_in_it_go_on_and_the_silent_make_room() -> None:
    memory, limit = Nonces(), 0
    ids = [bytes([number + 1]) * 16 for number in range(5)]
    for number in range(3):
        memory.accepts(register(MONDAY, ids[number]), KEY, 0.0, must_grow=True)
        limit = len(memory)

    def come(number: int, step: int, now: float) -> bool:
        return memory.accepts(register(MONDAY + step, ids[number]), KEY, now, must_grow=True, limit=limit)

    assert [come(number, 1, 10.0) for number in range(3)] == [True] * 3
    with pytest.raises(TooManyXtrs):
        come(3, 1, 11.0)
    assert [come(number, 2, 12.0) for number in range(3)] == [True] * 3
    assert len(memory) == limit

    later = 12.0 + 10 * MAX_LIFETIME_S
    assert come(4, 3, later)
    assert len(memory) <= limit
