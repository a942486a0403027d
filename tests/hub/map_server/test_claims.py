"""Two nodes register one EID-Prefix: the first keeps it while it refreshes, both are told, and the log names both."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.sharing import Sharing, sharing
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.claims import HOLD_S
from lispmob.protocol.effect import Event
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import Xtr, ask, eid, events, notify_in, plane, reply_in, rlocs_of, sent, site, xtr

FIRST, SECOND = bytes([1]) * 16, bytes([2]) * 16
WHAT = ["10.1.0.1/32", "10.1.0.0/24", "2001:db8:1::1/128"]


def two() -> tuple[ControlPlane, Xtr, Xtr]:
    hub = plane(site("10.1.0.0/24", "2001:db8:1::/48"))
    return hub, xtr("203.0.113.5", xtr_id=FIRST), xtr("192.0.2.9", xtr_id=SECOND)


def notified(hub: ControlPlane, node: Xtr, what: str, now: float, **flags: bool) -> MappingRecord:
    """Register; returns the record of the Map-Notify."""
    arrival = node.register(what, **flags)  # type: ignore[arg-type]
    [answer] = [effect for effect in sent(hub.on_datagram(arrival, now)) if effect.destination == node.address]
    return MapNotify.decode(answer.payload).records[0]


def shared(hub: ControlPlane, node: Xtr, what: str, now: float) -> Sharing | None:
    return sharing(notified(hub, node, what, now), [Locator(node.address)])


def at(hub: ControlPlane, what: str, now: float) -> list[str]:
    return rlocs_of(reply_in(hub.on_datagram(ask(what), now)).records[0])


@pytest.mark.parametrize("what", WHAT)
def test_the_first_one_keeps_it_as_long_as_it_refreshes(what: str) -> None:
    hub, first, second = two()
    where = []

    for minute in range(5):
        notified(hub, first, what, 60.0 * minute)
        notified(hub, second, what, 60.0 * minute + 30.0)
        where.append(at(hub, what, 60.0 * minute + 31.0))

    assert where == [["203.0.113.5"]] * 5


@pytest.mark.parametrize("what", WHAT)
def test_both_are_told_where_the_other_one_is(what: str) -> None:
    hub, first, second = two()
    assert shared(hub, first, what, 0.0) is None

    refused = shared(hub, second, what, 1.0)
    kept = shared(hub, first, what, 60.0)

    assert refused == Sharing(("203.0.113.5",), is_refused=True)
    assert kept == Sharing(("192.0.2.9",), is_refused=False)
    assert "203.0.113.5" in refused.text
    assert "192.0.2.9" in kept.text


def test_the_log_names_both_and_where_they_are_and_not_every_minute() -> None:
    hub, first, second = two()
    notified(hub, first, "10.1.0.1/32", 0.0)

    told = [
        effect
        for second_at in (1.0, 10.0, 20.0)
        for effect in hub.on_datagram(second.register("10.1.0.1/32"), second_at)
        if isinstance(effect, Event)
    ]

    assert [event.kind for event in told] == ["duplicate"]
    for part in (FIRST.hex(), SECOND.hex(), "203.0.113.5", "192.0.2.9"):
        assert part in str(told[0].fields["text"])


@pytest.mark.parametrize("what", WHAT)
def test_a_machine_that_was_installed_again_is_admitted_once_the_old_one_is_silent(what: str) -> None:
    hub, first, second = two()
    notified(hub, first, what, 0.0)

    answers = [shared(hub, second, what, second_at) for second_at in (10.0, HOLD_S - 1.0, HOLD_S)]

    assert [answer is not None and answer.is_refused for answer in answers] == [True, True, False]
    assert at(hub, what, HOLD_S + 1.0) == ["192.0.2.9"]


def test_one_that_refreshes_seldom_is_waited_for_longer() -> None:
    hub, first, second = two()
    for now in (0.0, 120.0):
        notified(hub, first, "10.1.0.1/32", now)

    assert shared(hub, second, "10.1.0.1/32", 120.0 + HOLD_S + 10.0) == Sharing(("203.0.113.5",), is_refused=True)


def test_when_the_first_one_leaves_the_second_has_it_with_its_next_try() -> None:
    hub, first, second = two()
    notified(hub, first, "10.1.0.1/32", 0.0)
    notified(hub, second, "10.1.0.1/32", 1.0)

    hub.on_datagram(first.withdraw("10.1.0.1/32"), 2.0)

    assert shared(hub, second, "10.1.0.1/32", 11.0) is None
    assert at(hub, "10.1.0.1/32", 12.0) == ["192.0.2.9"]


def test_who_is_refused_takes_nothing_with_it_when_it_leaves() -> None:
    hub, first, second = two()
    notified(hub, first, "10.1.0.1/32", 0.0)
    notified(hub, second, "10.1.0.1/32", 1.0)

    hub.on_datagram(second.withdraw("10.1.0.1/32"), 2.0)

    assert at(hub, "10.1.0.1/32", 3.0) == ["203.0.113.5"]
    assert shared(hub, first, "10.1.0.1/32", 4.0) is None


@pytest.mark.parametrize("xtr_id", [FIRST, None, bytes(16)], ids=["named", "unnamed", "zero"])
def test_one_node_that_moves_is_not_taken_for_two(xtr_id: bytes | None) -> None:
    hub = plane(site("10.1.0.0/24"))
    mover = xtr("203.0.113.5", xtr_id=xtr_id)
    notified(hub, mover, "10.1.0.1/32", 0.0)

    mover.address = xtr("192.0.2.77").address

    assert shared(hub, mover, "10.1.0.1/32", 1.0) is None
    assert at(hub, "10.1.0.1/32", 2.0) == ["192.0.2.77"]


def test_nodes_that_ask_to_be_merged_share_it_as_they_wish() -> None:
    hub, first, second = two()
    for node, now in ((first, 0.0), (second, 1.0)):
        notified(hub, node, "10.1.0.1/32", now, wants_merge=True)

    assert sorted(at(hub, "10.1.0.1/32", 2.0)) == ["192.0.2.9", "203.0.113.5"]


def test_two_behind_the_same_address_are_told_all_the_same() -> None:
    hub = plane(site("10.1.0.0/24"))
    first, second = xtr("203.0.113.5", xtr_id=FIRST), xtr("203.0.113.5", xtr_id=SECOND)
    notified(hub, first, "10.1.0.1/32", 0.0)

    refused = shared(hub, second, "10.1.0.1/32", 1.0)
    kept = shared(hub, first, "10.1.0.1/32", 60.0)

    assert [refused, kept] == [Sharing(("203.0.113.5",), is_refused=True), Sharing(("203.0.113.5",), is_refused=False)]


def test_a_holder_is_no_longer_told_of_a_caller_that_gave_up() -> None:
    hub, first, second = two()
    notified(hub, first, "10.1.0.1/32", 0.0)
    notified(hub, second, "10.1.0.1/32", 1.0)

    told = [shared(hub, first, "10.1.0.1/32", 60.0 * minute) is not None for minute in range(1, 6)]

    assert told == [True, True, True, False, False]


def test_another_eid_of_the_same_site_is_no_rival() -> None:
    hub, first, second = two()
    notified(hub, first, "10.1.0.1/32", 0.0)

    assert shared(hub, second, "10.1.0.2/32", 1.0) is None
    assert eid("10.1.0.2/32") in hub.map_server.registrations


def test_a_register_that_a_later_one_overtook_is_acknowledged_and_changes_nothing() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5", xtr_id=b"n" * 16)
    by_ipv4, by_ipv6 = node.register(WHAT[0]), node.register(WHAT[0])
    hub.on_datagram(by_ipv6, now=0.0)

    effects = hub.on_datagram(by_ipv4, now=0.2)

    assert notify_in(effects).nonce == int.from_bytes(by_ipv4.payload[4:12])
    assert events(effects) == []
    assert (hub.counters["rx_overtaken"], hub.counters["rx_replay"]) == (1, 0)


@pytest.mark.parametrize(("place", "now"), [("203.0.113.5", 1.5), ("203.0.113.9", 0.2)])
def test_an_old_register_that_says_something_else_or_comes_late_is_refused(place: str, now: float) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5", xtr_id=b"n" * 16)
    old, new = node.register(WHAT[0], rlocs=[place]), node.register(WHAT[0])
    hub.on_datagram(new, now=0.0)

    effects = hub.on_datagram(old, now=now)

    assert sent(effects) == []
    assert hub.counters["rx_replay"] == 1
    assert rlocs_of(reply_in(hub.on_datagram(ask(WHAT[0]), now=now)).records[0]) == ["203.0.113.5"]


def copies() -> tuple[ControlPlane, Xtr, Xtr]:
    """Two machines with one state directory; the second began an hour later, so its nonces are far ahead."""
    hub = plane(site("10.1.0.0/24", "2001:db8:1::/48"))
    old = xtr("203.0.113.5", xtr_id=FIRST, nonces=count(1_000_000))
    return hub, old, xtr("192.0.2.9", xtr_id=FIRST, nonces=count(3_600 * 10**9))


def answers(hub: ControlPlane, node: Xtr, what: str, *times: float) -> list[Sharing | None]:
    """What the node reads of a rival in each Map-Notify; times without an answer are left out."""
    found = []
    for now in times:
        for effect in sent(hub.on_datagram(node.register(what), now)):
            if effect.destination == node.address:
                record = MapNotify.decode(effect.payload).records[0]
                found.append(sharing(record, [Locator(node.address)]))
    return found


@pytest.mark.parametrize("what", WHAT)
def test_of_two_machines_with_one_xtr_id_the_one_that_began_later_keeps_it_and_both_are_told(what: str) -> None:
    hub, old, new = copies()
    assert answers(hub, old, what, 0.0) == [None]
    assert answers(hub, new, what, 10.0) == [None]

    refused = answers(hub, old, what, 60.0, 61.0, 63.0, 67.0)
    kept = answers(hub, new, what, 70.0)

    assert refused == [Sharing(("192.0.2.9",), is_refused=True)]
    assert kept == [Sharing(("203.0.113.5",), is_refused=False)]
    assert at(hub, what, 71.0) == ["192.0.2.9"]


def test_registers_that_come_late_after_a_move_are_no_second_machine() -> None:
    hub, old, _ = copies()
    late = [old.register("10.1.0.1/32") for _ in range(5)]
    moved = xtr("192.0.2.9", xtr_id=FIRST, nonces=old.nonces)
    answers(hub, moved, "10.1.0.1/32", 0.0)

    told = [effect for arrival in late for effect in sent(hub.on_datagram(arrival, 0.5))]

    assert told == []


def test_one_old_register_that_is_replayed_all_day_is_no_second_machine() -> None:
    hub, old, new = copies()
    recorded = old.register("10.1.0.1/32")
    answers(hub, new, "10.1.0.1/32", 0.0)

    told = [effect for now in range(1, 600, 10) for effect in sent(hub.on_datagram(recorded, float(now)))]

    assert told == []
    assert answers(hub, new, "10.1.0.1/32", 601.0) == [None]


def test_what_a_refused_copy_leaves_behind_is_forgotten_with_time() -> None:
    hub, old, new = copies()
    answers(hub, new, "10.1.0.1/32", 0.0)
    answers(hub, old, "10.1.0.1/32", 1.0, 2.0, 4.0, 8.0)

    assert [answer is not None for answer in answers(hub, new, "10.1.0.1/32", 60.0, 120.0, 200.0)] == [
        True,
        True,
        False,
    ]


def test_a_second_machine_that_takes_an_xtr_id_of_its_own_gets_in_once_the_first_is_silent() -> None:
    hub, old, new = copies()
    answers(hub, new, "10.1.0.1/32", 0.0)
    answers(hub, old, "10.1.0.1/32", 1.0, 2.0, 4.0, 8.0)

    old.xtr_id = SECOND
    found = answers(hub, old, "10.1.0.1/32", 10.0, HOLD_S)

    assert [one is not None and one.is_refused for one in found] == [True, False]
    assert at(hub, "10.1.0.1/32", HOLD_S + 1.0) == ["203.0.113.5"]


BOTH = ("203.0.113.5", "192.0.2.9")


def test_two_routers_of_one_site_that_register_both_their_addresses_are_no_rivals() -> None:
    """So do routers of other makers without the merge bit: each registers its own address and the other's."""
    hub, first, second = two()
    kinds: list[str] = []
    records = []

    for minute in range(4):
        for node, now in ((first, 60.0 * minute), (second, 60.0 * minute + 1.0)):
            effects = hub.on_datagram(node.register("10.1.0.0/24", rlocs=BOTH), now)
            kinds += [event.kind for event in events(effects)]
            records.append(notify_in(effects).records[0])

    assert kinds == ["registered"]
    assert {record.action for record in records} == {0}
    assert {tuple(rlocs_of(record)) for record in records} == {BOTH}


def test_when_one_router_of_a_site_dies_the_other_keeps_the_registration() -> None:
    hub, first, second = two()
    hub.on_datagram(first.register("10.1.0.0/24", rlocs=BOTH), 0.0)

    for minute in range(6):
        hub.on_timer(60.0 * minute)
        hub.on_datagram(second.register("10.1.0.0/24", rlocs=BOTH), 60.0 * minute + 1.0)

    assert at(hub, "10.1.0.7/32", 302.0) == list(BOTH)


@pytest.mark.parametrize(
    "wanted",
    [
        ("192.0.2.9",),  # the second registers its own address only
        ("203.0.113.5",),  # it registers the address of the first, and is not there
        ("203.0.113.5", "192.0.2.9", "192.0.2.10"),
        ("192.0.2.9", "192.0.2.10"),  # as many, and others
    ],
)
def test_who_registers_other_locators_is_a_rival_all_the_same(wanted: tuple[str, ...]) -> None:
    hub, first, second = two()
    hub.on_datagram(first.register("10.1.0.0/24", rlocs=BOTH), 0.0)

    effects = hub.on_datagram(second.register("10.1.0.0/24", rlocs=wanted), 1.0)

    assert [event.kind for event in events(effects)] == ["duplicate"]
    assert at(hub, "10.1.0.7/32", 2.0) == list(BOTH)


def test_a_copy_with_the_addresses_of_the_first_machine_is_a_rival() -> None:
    """Its address is one of them, or another one: many homes use the same private addresses."""
    for source in ("203.0.113.5", "198.51.100.77"):
        hub, first, _ = two()
        hub.on_datagram(first.register("10.1.0.0/24", rlocs=BOTH), 0.0)

        copy = xtr(source, xtr_id=SECOND)
        effects = hub.on_datagram(copy.register("10.1.0.0/24", rlocs=BOTH), 1.0)

        assert [event.kind for event in events(effects)] == ["duplicate"]
