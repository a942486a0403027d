"""Peers at the control socket: which mappings are peers, which path packets take, and that no page takes long."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lispmob.api.peers.schema import Peer
from lispmob.control.map_cache import ToldBy
from lispmob.control.names import KnownName
from lispmob.control.node_config import NodeConfig
from lispmob.datapath.ask import Answer, FlowVerdict, Question
from lispmob.datapath.model import Traffic
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd.views.in_order import ENTRIES_AT_ONCE
from lispmob.lispd.views.peer_views import NAMES_AT_ONCE, PeerViews, _Known
from lispmob.protocol.effect import NameResolved
from lispmob.wire.address import EidPrefix
from tests.lispd.views.test_map_cache_pages import Daemon

LOCAL, REMOTE, RTR = ip_address("198.51.100.1"), ip_address("192.0.2.9"), ip_address("203.0.113.1")
SENT = Answer(FlowVerdict.SENT, ifindex=3, local=LOCAL, remote=REMOTE, port=4341)


class Engine:
    """A datapath with one answer."""

    def __init__(self) -> None:
        self.answer = SENT
        self.asked: list[Question] = []
        self.liveness = self  # it also answers for its traffic
        self.dry_run = self

    def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        return self.answer

    def traffic(self) -> dict[Any, Traffic]:
        return {REMOTE: Traffic(12, 1200, 5, 500), RTR: Traffic(99, 9900, 7, 700)}


class Shown(Daemon):
    """A daemon whose peers are shown."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        self.uplinks = (cast(Uplink, SimpleNamespace(ifindex=3, name="wlan0")),)
        self.file = SimpleNamespace(log=SimpleNamespace(record=False))
        self.names_wanted = 0
        self.views = PeerViews(cast(Any, self))

    def perform(self, effects: list[Any]) -> None:
        self.names_wanted += any(isinstance(effect, NameResolved) for effect in effects)

    def peers(self) -> list[Peer]:
        return [cast(Peer, value) for page in self.views.peers().pages for value in page]


def test_mappings_with_locators_are_peers_and_neither_negative_ones_nor_the_default() -> None:
    daemon = Shown()
    daemon.add("10.0.0.2/32", "10.9.0.0/16", "0.0.0.0/0")
    daemon.node.on_mapping_added(EidPrefix.parse("10.8.0.0/16"), (), cast(Any, 0), 0.0)

    assert sorted(peer.eid for peer in daemon.peers()) == ["10.0.0.2/32", "10.9.0.0/16"]


@pytest.mark.parametrize(
    ("answer", "way", "rtr", "packets"),
    [
        (SENT, "direct", None, 12),
        (
            Answer(FlowVerdict.SENT, ifindex=3, local=LOCAL, remote=REMOTE, relayed_to=RTR, port=4341),
            "rtr",
            str(RTR),
            99,
        ),
        (Answer(FlowVerdict.NO_UPLINK), "none", None, None),
    ],
)
def test_the_way_of_a_peer_is_that_which_the_datapath_takes(
    answer: Answer, way: str, rtr: str | None, packets: int | None
) -> None:
    daemon = Shown()
    daemon.add("10.0.0.2/32")
    daemon.engine.answer = answer

    (peer,) = daemon.peers()

    assert (peer.way, peer.rtr, peer.packets_out) == (way, rtr, packets)
    octets = {None: (None, None, None), 12: (1200, 5, 500), 99: (9900, 7, 700)}[packets]
    assert (peer.octets_out, peer.packets_in, peer.octets_in) == octets
    assert peer.uplink == ("wlan0" if way != "none" else None)
    assert peer.why == ("there is no uplink" if way == "none" else None)


def test_a_peer_has_the_name_that_its_reverse_name_or_a_question_has_shown() -> None:
    daemon = Shown()
    daemon.add("10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32")
    reverse = KnownName((), "registered", 9.0, (b"nas",))
    asked = KnownName((ip_address("10.0.0.3"),), "registered", 9.0)
    daemon.node.names.restore({b"2.0.0.10.in-addr.arpa": reverse, b"phone": asked})

    assert {peer.eid: peer.name for peer in daemon.peers()} == {
        "10.0.0.2/32": "nas",
        "10.0.0.3/32": "phone",
        "10.0.0.4/32": None,
    }
    again = daemon.views.peers()
    assert [len(page) for page in again.pages] == [3]
    assert again.rest == {"names_asked": 1}


def test_very_many_peers_come_in_small_pages_and_few_of_their_names_are_asked_for() -> None:
    daemon = Shown()
    daemon.add(*(f"10.{n // 250 + 1}.{n % 250}.1/32" for n in range(3000)))

    found = daemon.views.peers()
    pages = list(found.pages)

    assert sum(map(len, pages)) == 3000
    assert max(map(len, pages)) <= ENTRIES_AT_ONCE
    assert found.rest == {"names_asked": NAMES_AT_ONCE}


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (KnownName((), "no site has registered it", 60.0), "no site of the hub has this name"),
        (KnownName((ip_address("fd00::2"),), "registered", 60.0), "it has EIDs of IPv6 only, and this node has none"),
        (KnownName((), "the mapping system does not answer", 9.0, is_answered=False), "the mapping system does not"),
    ],
)
def test_a_name_that_leads_to_no_eid_of_ours_says_why_and_not_for_how_long(known: KnownName, why: str) -> None:
    daemon = Shown()
    daemon.node.names.restore({b"nas": known})
    resolved = known.resolved(b"nas", 0.0)

    said = daemon.views._why_no_eid(resolved)

    assert why in said
    assert "to live" not in said


def test_an_eid_of_this_node_is_no_peer_and_said_to_be_its_own() -> None:
    peer = _Known(cast(Any, Shown())).peer(ip_address("10.0.0.1"), None)

    assert (peer.way, peer.why) == ("none", "it is this node's own EID")


def test_without_an_eid_of_its_family_a_peer_has_no_way() -> None:
    daemon = Shown()
    daemon.add("2001:db8::2/128")
    assert daemon.node.config == NodeConfig((EidPrefix.parse("10.0.0.1/32"),), map_cache_limit=100_000)

    (peer,) = daemon.peers()

    assert (peer.way, peer.why) == ("none", "this node has no EID of IPv6")
    assert daemon.engine.asked == []


@pytest.mark.parametrize("told_by", ["", "published", "announced"])
@pytest.mark.parametrize("verdict", [FlowVerdict.SENT, FlowVerdict.NO_UPLINK])
def test_a_peer_says_who_has_told_where_it_is(told_by: ToldBy, verdict: FlowVerdict) -> None:
    daemon = Shown()
    daemon.add("10.0.0.2/32")
    daemon.engine.answer = SENT if verdict is FlowVerdict.SENT else Answer(verdict)
    static = [(peer.mapping_from, peer.map_version) for peer in daemon.peers()]
    entry = daemon.node.map_cache.get(EidPrefix.parse("10.0.0.2/32"))
    assert entry is not None
    entry.source, entry.told_by, entry.map_version = "reply", told_by, 9

    assert static == [("static", 0)]
    assert [(peer.mapping_from, peer.map_version) for peer in daemon.peers()] == [(told_by or "map-reply", 9)]
