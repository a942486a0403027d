"""Old Map-Registers are refused of nodes that count, and of no others."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lispmob.hub.nonces import COUNTS_PER_XTR, LIMIT, STEP_MAX, Nonces
from lispmob.hub.registration import LIFETIME_S
from tests.hub.exchange import eid, plane, rlocs_of, site, xtr

WHO = ("laptop", 0, "10.1.0.1/32")
START = 1_790_000_000_000_000_000  # nanoseconds since 1970, as lispd begins
NONCES = st.integers(0, 2**64 - 1)


def accepted(nonces: Iterable[int], one: Nonces | None = None, *, pause_s: float = 60.0) -> list[bool]:
    memory = one or Nonces()
    return [memory.accepts(WHO, nonce, number * pause_s, must_grow=None) for number, nonce in enumerate(nonces)]


def test_a_counting_node_is_believed_forwards_only() -> None:
    assert accepted([START, START + 1, START, START + 1, START + 2]) == [True, True, False, False, True]


def test_one_that_restarts_goes_on_and_what_it_sent_before_is_old() -> None:
    later = START + 7 * STEP_MAX
    assert accepted([START, START + 1, later, START + 1, later + 1, later], pause_s=10.0) == [
        True, True, True, False, True, False,
    ]  # fmt: skip


@given(st.lists(NONCES, max_size=20))
def test_random_nonces_are_all_accepted(nonces: list[int]) -> None:
    spread = [nonce for n, nonce in enumerate(nonces) if all(abs(nonce - one) > STEP_MAX for one in nonces[:n])]

    assert all(accepted(spread))


def test_a_constant_nonce_is_accepted() -> None:
    assert all(accepted([START] * 10))


def test_two_counts_far_from_each_other_are_kept_side_by_side() -> None:
    other = 5
    assert accepted([START, other, START + 1, other + 1, START + 2, other, START + 1]) == [True] * 5 + [False] * 2


def test_a_count_that_nobody_goes_on_with_is_forgotten_after_a_registrations_life() -> None:
    memory = Nonces()
    accepted([1, 2, 3], memory)  # at 0, 60 and 120 s

    assert not memory.accepts(WHO, 1, 120.0 + LIFETIME_S - 1, must_grow=None)
    assert memory.accepts(WHO, 1, 120.0 + LIFETIME_S, must_grow=None)


def test_a_site_that_wants_it_never_forgets() -> None:
    memory = Nonces()
    memory.accepts(WHO, START, 0.0, must_grow=True)

    assert not memory.accepts(WHO, START, 1e6, must_grow=True)
    assert memory.accepts(WHO, START + 2 * STEP_MAX, 1e6, must_grow=True)


@given(st.lists(NONCES, max_size=30))
def test_what_is_remembered_is_bounded(nonces: list[int]) -> None:
    memory = Nonces()
    accepted(nonces, memory, pause_s=0.0)

    assert all(len(counts) <= COUNTS_PER_XTR for counts in memory._counts.values())
    assert len(memory._counts) <= LIMIT


def test_after_a_restart_of_the_hub_the_next_register_shows_that_the_node_counts() -> None:
    memory = Nonces()
    memory.restore([(WHO, START)], 0.0)

    assert accepted([START + 1, START], memory) == [True, False]


def test_a_delayed_register_does_not_undo_a_newer_one() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    hub.on_datagram(node.register("10.1.0.1/32"), 0.0)
    delayed, newer = (
        node.register("10.1.0.1/32", rlocs=["192.0.2.1"]),
        node.register("10.1.0.1/32", rlocs=["192.0.2.2"]),
    )

    hub.on_datagram(newer, 1.0)
    hub.on_datagram(delayed, 1.5)

    registration = hub.map_server.registrations.get(eid("10.1.0.1/32"))
    assert registration is not None
    assert registration.record is not None
    assert rlocs_of(registration.record) == ["192.0.2.2"]
    assert hub.counters["rx_replay"] == 1
