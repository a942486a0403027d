"""A node that asked for a mapping gets an SMR from the hub when the answer is no longer true, and then only."""

from __future__ import annotations

import pytest

from lispmob.control.smr import solicited
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.askers import ASKERS_LIMIT, ASKERS_PER_PREFIX, SMR_BURST, Askers
from lispmob.hub.map_server.part import LIFETIME_S
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import MappingRecord
from tests.hub.exchange import HUB, ask, eid, plane, sent, site, xtr

PEER = "203.0.113.7"  # the source of ask()
NODE = bytes([7]) * 16


def told(effects: object) -> list[tuple[str, EidPrefix | None]]:
    """Who gets an SMR about which EID."""
    messages = [(str(effect.destination), decode_control(effect.payload)) for effect in sent(effects)]  # type: ignore[arg-type]
    return [(where, solicited(one)) for where, one in messages if isinstance(one, MapRequest) and one.is_smr]


def hub_with(*eids: str) -> ControlPlane:
    return plane(site(*eids, more_specifics=False))


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("10.1.0.1/32", "10.1.0.1/32"),
        ("10.1.0.0/24", "10.1.0.9/32"),
        ("2001:db8:1::1/128", "2001:db8:1::1/128"),
        ("10.1.0.0/24", "10.1.0.0/24"),
    ],
)
def test_a_node_with_a_negative_answer_is_told_of_a_later_registration(what: str, asked: str) -> None:
    hub = hub_with(what)
    hub.on_datagram(ask(asked), 0.0)

    effects = hub.on_datagram(xtr("192.0.2.5").register(what), 1.0)

    assert told(effects) == [(PEER, EidPrefix.host(eid(what).address))]


def test_what_was_asked_about_a_hole_outside_of_every_site_counts_once_a_site_is_there() -> None:
    hub = hub_with("10.2.0.0/24")
    hub.on_datagram(ask("10.1.0.1/32"), 0.0)

    hub.on_sites([site("10.1.0.1/32")], (), now=1.0)

    assert told(hub.on_datagram(xtr("192.0.2.5").register("10.1.0.1/32"), 2.0)) == [(PEER, eid("10.1.0.1/32"))]


@pytest.mark.parametrize("how", ["withdrawn", "expired", "site removed"])
def test_who_was_told_where_it_is_hears_that_it_is_gone(how: str) -> None:
    hub = hub_with("10.1.0.1/32")
    node = xtr("192.0.2.5")
    hub.on_datagram(node.register("10.1.0.1/32"), 0.0)
    hub.on_datagram(ask("10.1.0.1/32"), 1.0)

    if how == "withdrawn":
        effects = hub.on_datagram(node.withdraw("10.1.0.1/32"), 2.0)
    elif how == "expired":
        effects = hub.on_timer(LIFETIME_S)
    else:
        effects = hub.on_sites([], (), now=2.0)

    own = [("192.0.2.5", eid("10.1.0.1/32"))] if how == "site removed" else []
    assert told(effects) == [(PEER, eid("10.1.0.1/32")), *own]


@pytest.mark.parametrize("where", ["192.0.2.5", "192.0.2.6"], ids=["same place", "elsewhere"])
def test_a_node_that_came_back_with_an_empty_memory_is_told_of(where: str) -> None:
    hub = hub_with("10.1.0.1/32")
    hub.on_datagram(xtr("192.0.2.5", xtr_id=NODE).register("10.1.0.1/32", nonce=1 << 40), 0.0)
    hub.on_datagram(ask("10.1.0.1/32"), 1.0)

    effects = hub.on_datagram(xtr(where, xtr_id=NODE).register("10.1.0.1/32", nonce=1 << 41), 2.0)

    assert told(effects) == [(PEER, eid("10.1.0.1/32"))]


@pytest.mark.parametrize("xtr_id", [NODE, None], ids=["lispd", "without an xTR-ID"])
def test_a_node_that_moves_tells_its_peers_itself(xtr_id: bytes | None) -> None:
    hub = hub_with("10.1.0.1/32")
    hub.on_datagram(xtr("192.0.2.5", xtr_id=xtr_id).register("10.1.0.1/32", nonce=100), 0.0)
    hub.on_datagram(ask("10.1.0.1/32"), 1.0)

    effects = hub.on_datagram(xtr("192.0.2.6", xtr_id=xtr_id).register("10.1.0.1/32", nonce=101), 2.0)

    assert told(effects) == []


def test_a_refresh_and_an_answer_that_has_run_out_are_nothing_to_tell() -> None:
    hub = hub_with("10.1.0.1/32")
    node = xtr("192.0.2.5")
    hub.on_datagram(ask("10.1.0.1/32"), 0.0)
    late = hub.on_datagram(node.register("10.1.0.1/32"), 3600.0)

    again = hub.on_datagram(node.register("10.1.0.1/32"), 3660.0)

    assert told(late) == told(again) == []


def test_a_node_that_asks_for_its_own_eid_is_not_told_of_itself() -> None:
    hub = hub_with("10.1.0.1/32")
    hub.on_datagram(ask("10.1.0.1/32", itr="192.0.2.5", source="192.0.2.5"), 0.0)

    assert told(hub.on_datagram(xtr("192.0.2.5").register("10.1.0.1/32"), 1.0)) == []


def test_an_smr_goes_from_the_address_that_was_asked_and_wants_no_answer() -> None:
    hub = hub_with("10.1.0.1/32")
    hub.on_datagram(ask("10.1.0.1/32"), 0.0)

    [smr] = [effect for effect in sent(hub.on_datagram(xtr("192.0.2.5").register("10.1.0.1/32"), 1.0))
             if str(effect.destination) == PEER]  # fmt: skip
    message = decode_control(smr.payload)

    assert (smr.source, smr.port) == (HUB, 4342)
    assert isinstance(message, MapRequest)
    assert message.dont_map_reply


def answered(askers: Askers, itr: str, what: str = "10.1.0.1/32", now: float = 0.0) -> None:
    askers.on_answered([MappingRecord.of(eid(what), ttl_min=15)], xtr(itr).address, HUB, now)


def test_one_that_comes_and_goes_all_the_time_is_told_of_at_most_once_in_three_seconds_and_at_last_truly() -> None:
    askers = Askers(new_nonce=iter(range(1000)).__next__)
    answered(askers, PEER)
    smrs: list[tuple[float, SendControl]] = []

    for tenth in range(100):
        smrs += [(tenth / 10, effect) for effect in askers.on_changed(eid("10.1.0.1/32"), None, tenth / 10)]
    while (at := askers.wake_at()) is not None:
        smrs += [(at, effect) for effect in askers.on_timer(at)]

    assert SMR_BURST <= len(smrs) <= SMR_BURST + 4
    assert smrs[-1][0] >= 9.9  # after the last change


@pytest.mark.parametrize("crowd", ["one prefix", "many prefixes"])
def test_who_can_make_the_hub_remember_fills_its_memory_to_a_limit(crowd: str) -> None:
    askers = Askers(new_nonce=lambda: 1)

    for number in range(ASKERS_LIMIT + 100):
        low = number % 65536
        itr, what = f"203.0.{low >> 8}.{low & 255}", f"10.{low >> 8}.{low & 255}.1/32"
        answered(askers, itr if crowd == "one prefix" else PEER, "10.1.0.1/32" if crowd == "one prefix" else what)

    assert len(askers) == (ASKERS_PER_PREFIX if crowd == "one prefix" else ASKERS_LIMIT)


NEIGHBOUR = "198.51.100.77"  # a registered node


@pytest.mark.parametrize("strangers", [ASKERS_PER_PREFIX, 200])
def test_strangers_who_ask_push_out_no_registered_node(strangers: int) -> None:
    hub = hub_with("10.1.0.1/32", "10.2.0.0/24")
    hub.on_datagram(xtr(NEIGHBOUR).register("10.2.0.0/24"), 0.0)
    hub.on_datagram(ask("10.1.0.1/32", itr=NEIGHBOUR), 1.0)
    for number in range(strangers):
        hub.on_datagram(ask("10.1.0.1/32", itr=f"203.0.113.{number + 1}", nonce=number), 2.0 + number / 10)

    effects = hub.on_datagram(xtr("192.0.2.5").register("10.1.0.1/32"), 40.0)

    assert NEIGHBOUR in [where for where, _ in told(effects)]
    assert len(told(effects)) == ASKERS_PER_PREFIX


def test_strangers_who_ask_about_everything_push_out_no_registered_node() -> None:
    askers = Askers(new_nonce=iter(range(1 << 30)).__next__)
    asked = MappingRecord.of(eid("10.1.0.1/32"), ttl_min=600)
    askers.on_answered([asked], HUB, HUB, 0.0, is_registered=True)
    for number in range(ASKERS_LIMIT + 100):
        other = MappingRecord.of(EidPrefix.host(eid("10.64.0.0/10").address + number), ttl_min=600)
        askers.on_answered([other], eid("203.0.113.5/32").address, HUB, 1.0)

    assert len(askers) == ASKERS_LIMIT
    assert [sent.destination for sent in askers.on_changed(eid("10.1.0.1/32"), None, 2.0)] == [HUB]


def test_of_registered_nodes_alone_the_latest_are_remembered() -> None:
    askers = Askers(new_nonce=iter(range(1 << 30)).__next__)
    asked = MappingRecord.of(eid("10.1.0.1/32"), ttl_min=600)
    places = [eid("203.0.113.0/32").address + number for number in range(ASKERS_PER_PREFIX + 3)]
    for place in places:
        askers.on_answered([asked], place, HUB, 0.0, is_registered=True)

    assert [sent.destination for sent in askers.on_changed(eid("10.1.0.1/32"), None, 2.0)] == places[3:]


@pytest.mark.parametrize("is_registered", [True, False])
def test_who_becomes_registered_or_is_so_no_more_is_remembered_once(is_registered: bool) -> None:
    askers = Askers(new_nonce=iter(range(1 << 30)).__next__)
    asked = MappingRecord.of(eid("10.1.0.1/32"), ttl_min=600)
    askers.on_answered([asked], HUB, HUB, 0.0, is_registered=is_registered)
    askers.on_answered([asked], HUB, HUB, 1.0, is_registered=not is_registered)

    assert len(askers) == 1
    assert len(askers.on_changed(eid("10.1.0.1/32"), None, 2.0)) == 1
