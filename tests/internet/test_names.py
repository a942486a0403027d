"""Names through the mapping system: a node registers its own; others ask for it, and remember the answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from lispmob.hub.map_server.site import Site
from lispmob.node.node import MapServerPeer, NodeConfig, NodeEffect
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import NameResolved
from lispmob.wire.address import DistinguishedName, EidPrefix
from lispmob.wire.auth import Algorithm, Key
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.name_eid import name_record
from lispmob.wire.record import MappingRecord
from tests.internet.world import HUB, KEY, HubHost, NodeHost, World, ip, locator

NAS, ASKER = EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("10.1.0.2/32")
NAS6 = EidPrefix.parse("2001:db8:e::1/128")
OLD_KEY = Key(b"a secret", algorithm=Algorithm.HMAC_SHA_1_96)


class Asker(NodeHost):
    """A node that records the answers about names."""

    answers: list[NameResolved]

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        self.answers = [
            *getattr(self, "answers", ()),
            *(effect for effect in effects if isinstance(effect, NameResolved)),
        ]
        super().perform(effects)


class Town:
    """A hub, the host `nas`, and a node that asks."""

    def __init__(
        self, *, names: tuple[str, ...] = ("nas",), key: Key = KEY, is_up: bool = True, is_network: bool = False
    ) -> None:
        """`is_network`: the site has room for several hosts, and hub.conf does not say which one has the name."""
        self.world = World()
        eids = (EidPrefix.parse("10.1.0.0/31"), EidPrefix.parse("2001:db8:e::/64")) if is_network else (NAS, NAS6)
        nas = Site("nas", eids, (key,), accept_more_specifics=is_network, names=names)
        sites = nas, Site("asker", (ASKER,), (key,))
        self.hub = HubHost(self.world, HUB, sites)
        self.hub.is_up = is_up
        config = NodeConfig((NAS, NAS6), (MapServerPeer(ip(HUB), key),), (ip(HUB),), name=b"NAS", xtr_id=b"n" * 16)
        self.nas = NodeHost(self.world, config)
        self.asker = Asker(self.world, replace(config, eids=(ASKER,), name=b"", xtr_id=b"a" * 16))
        self.nas.attach(locator("198.51.100.1"))
        self.asker.attach(locator("198.51.100.2"))
        self.world.run(1.0)

    @property
    def answers(self) -> list[NameResolved]:
        """The answers that the asking node got."""
        return self.asker.answers

    def ask(self, name: bytes) -> None:
        self.asker.perform(self.asker.node.on_name_wanted(name, self.world.now))

    def questions(self) -> list[str]:
        """The names in the Map-Requests of the asking node."""
        found = []
        for _, sent in self.asker.sent:
            message = decode_control(sent.payload)
            inner = decode_control(message.message) if isinstance(message, EncapsulatedControl) else None
            if isinstance(inner, MapRequest) and isinstance(inner.records[0].eid, DistinguishedName):
                found.append(str(inner.records[0].eid))
        return found


def test_a_name_is_found_by_one_question_and_then_remembered() -> None:
    place = Town()
    assert "name-registered" in place.nas.kinds()

    place.ask(b"nas")
    place.world.run(0.1)
    place.ask(b"Nas")

    assert [answer.eids for answer in place.answers] == [(NAS.address, NAS6.address)] * 2
    assert place.questions() == ["nas"]


def test_an_answer_lives_as_long_as_its_record_says() -> None:
    place = Town()
    place.ask(b"nas")
    place.world.run(601.0)

    place.ask(b"nas")

    assert place.questions() == ["nas", "nas"]


def test_that_a_name_is_not_registered_is_remembered_for_a_minute() -> None:
    place = Town()
    for pause_s in (30.0, 31.0, 1.0):
        place.ask(b"printer")
        place.world.run(pause_s)

    assert [answer.why.partition(",")[0] for answer in place.answers] == ["no site has registered it"] * 3
    assert place.questions() == ["printer", "printer"]


def test_a_mapping_system_that_is_silent_holds_a_name_up_for_two_seconds_and_others_not_at_all() -> None:
    place = Town(is_up=False)
    place.ask(b"nas")
    place.world.run(1.9)
    assert place.answers == []

    place.world.run(0.2)
    place.ask(b"nas")

    assert [answer.why.partition(",")[0] for answer in place.answers] == ["the mapping system does not answer"] * 2
    assert place.questions() == ["nas", "nas"]


@pytest.mark.parametrize("name", [b"n\xc3\xa4s", b"a\tb", b"", b"x" * 256])
def test_a_name_that_is_not_printable_ascii_is_not_asked_for(name: bytes) -> None:
    place = Town()

    place.ask(name)

    assert [answer.eids for answer in place.answers] == [()]
    assert place.questions() == []


def test_a_map_server_with_a_key_of_hmac_sha_1_never_hears_of_names() -> None:
    place = Town(key=OLD_KEY)

    place.ask(b"nas")
    place.world.run(5.0)

    assert place.questions() == []
    registers = [decode_control(sent.payload) for _, sent in place.nas.sent]
    named = [
        register
        for register in registers
        if isinstance(register, MapRegister) and register.records[0].eid_prefix is None
    ]
    assert named == []
    assert place.answers[0].eids == ()


def test_many_names_at_once_are_asked_for_within_limits() -> None:
    place = Town(is_up=False)

    for number in range(200):
        place.ask(b"host%d" % number)

    assert len(place.questions()) == 40
    assert len(place.answers) == 160
    place.world.run(3.0)
    assert len(place.answers) == 200
    assert place.asker.wake_at() is not None


def test_a_name_that_another_node_of_the_site_has_is_refused_once_and_tried_again_seldom() -> None:
    place = Town()
    rival = NodeHost(place.world, replace(place.nas.config, eids=(NAS,), xtr_id=b"r" * 16))
    rival.attach(locator("198.51.100.3"))

    place.world.run(590.0)

    assert rival.kinds().count("name-refused") == 1
    named = [one for _, one in rival.sent if b"NAS\0" in one.payload]
    assert len(named) < 4


def test_a_site_without_the_name_is_asked_more_and_more_seldom() -> None:
    place = Town(names=("storage",))
    place.world.run(1800.0)

    named = [at for at, one in place.nas.sent if b"NAS\0" in one.payload]

    assert 9 <= len(named) <= 14
    assert "name-registered" not in place.nas.kinds()
    assert "registered" in place.nas.kinds()


def test_a_node_that_stops_takes_its_name_back() -> None:
    place = Town(is_network=True)

    place.nas.perform(place.nas.node.on_shutdown(place.world.now))
    place.world.run(1.0)
    place.ask(b"nas")
    place.world.run(1.0)

    assert [answer.eids for answer in place.answers] == [()]


def test_a_reload_with_another_name_registers_that_one() -> None:
    place = Town(names=("nas", "store"), is_network=True)

    place.nas.perform(place.nas.node.on_config(replace(place.nas.config, name=b"store"), place.world.now))
    place.world.run(1.0)
    for name in (b"nas", b"store"):
        place.ask(name)
        place.world.run(1.0)

    assert [answer.eids for answer in place.answers] == [(), (NAS.address, NAS6.address)]


def forged(place: Town, change: str) -> list[NameResolved]:
    """The answers after a Map-Reply that differs from the right one in this respect."""
    place.hub.is_up = False
    place.ask(b"nas")
    _, sent = place.asker.sent[-1]
    ecm = decode_control(sent.payload)
    assert isinstance(ecm, EncapsulatedControl)
    nonce = MapRequest.decode(ecm.message).nonce
    record = name_record(b"nas", [ip("10.1.0.66")], ttl_min=10)
    records: tuple[MappingRecord, ...] = (record,)
    at = ip("198.51.100.2")
    match change:
        case "nonce":
            nonce ^= 1
        case "name":
            records = (name_record(b"nast", [ip("10.1.0.66")], ttl_min=10),)
        case "address":
            records = (MappingRecord.of(ASKER, record.locators),)
        case "two":
            records = (record, name_record(b"b", [ip("10.1.0.66")], ttl_min=10))
        case "place":
            at = ip("198.51.100.77")
    payload = MapReply(nonce, records).encode()
    place.asker.perform(place.asker.node.on_datagram(Datagram(payload, ip(HUB), 4342, at, 2), place.world.now))
    return place.answers


@pytest.mark.parametrize(
    ("change", "is_believed"),
    [("", True), ("nonce", False), ("name", False), ("address", False), ("two", False), ("place", False)],
)
def test_only_the_answer_to_exactly_the_question_is_believed(change: str, *, is_believed: bool) -> None:
    answers = forged(Town(), change)

    assert [answer.eids for answer in answers] == ([(ip("10.1.0.66"),)] if is_believed else [])


def site_of(eid: str, *names: str) -> Site:
    return Site("printers", (EidPrefix.parse(eid),), (KEY,), names=names)


def test_a_node_that_asked_for_a_name_is_told_of_its_new_eids_and_asks_again() -> None:
    place = Town(names=("nas",))
    place.hub.on_sites([site_of("10.1.0.9/32", "printer"), Site("asker", (ASKER,), (KEY,))])
    place.ask(b"printer")
    place.world.run(1.0)

    place.hub.on_sites([site_of("10.1.0.8/32", "printer"), Site("asker", (ASKER,), (KEY,))])
    place.world.run(1.0)
    place.ask(b"printer")

    assert [answer.eids for answer in place.answers] == [(ip("10.1.0.9"),), (ip("10.1.0.8"),), (ip("10.1.0.8"),)]
    assert place.questions() == ["printer", "printer"]


def test_a_name_is_gone_with_its_site_within_a_round_trip() -> None:
    place = Town()
    place.ask(b"nas")
    place.world.run(1.0)

    place.hub.on_sites([Site("asker", (ASKER,), (KEY,))])
    place.world.run(1.0)
    place.ask(b"nas")

    assert [bool(answer.eids) for answer in place.answers] == [True, False, False]
    assert place.answers[-1].is_answered


def test_a_name_that_was_known_stays_known_while_the_mapping_system_is_silent() -> None:
    place = Town()
    place.ask(b"nas")
    place.world.run(601.0)
    place.hub.is_up = False

    for _ in range(4):
        place.ask(b"nas")
        place.world.run(3.0)

    assert all(answer.eids == (NAS.address, NAS6.address) for answer in place.answers)


def test_who_cannot_be_asked_for_a_name_does_not_say_that_there_is_none() -> None:
    place = Town(is_up=False)
    place.ask(b"nas")
    place.world.run(3.0)

    assert [(answer.eids, answer.is_answered) for answer in place.answers] == [((), False)]


def test_a_forged_solicitation_makes_the_node_ask_and_changes_no_answer() -> None:
    place = Town()
    place.ask(b"nas")
    place.world.run(1.0)
    eid = DistinguishedName(b"nas")
    forged = MapRequest(9, eid, (ip("203.0.113.66"),), (EidRecord(eid, 0),), is_smr=True).encode()

    for _ in range(500):
        datagram = Datagram(forged, ip("203.0.113.66"), 4342, ip("198.51.100.2"), 2)
        place.asker.perform(place.asker.node.on_datagram(datagram, place.world.now))
    place.world.run(5.0)
    place.ask(b"nas")

    assert place.answers[-1].eids == (NAS.address, NAS6.address)
    assert len(place.questions()) == 2


def test_the_reverse_name_of_an_eid_leads_to_the_name_of_its_host() -> None:
    place = Town()

    place.ask(b"1.0.1.10.in-addr.arpa")
    place.ask(NAS6.address.reverse_pointer.encode())
    place.ask(b"7.0.1.10.in-addr.arpa")
    place.world.run(1.0)

    assert [answer.names for answer in place.answers] == [(b"nas",), (b"nas",), ()]


def test_what_was_known_before_a_restart_is_known_at_once_and_asked_for_again() -> None:
    place = Town()
    place.ask(b"nas")
    place.world.run(1.0)
    known = {name: replace(one, until=place.world.now) for name, one in place.asker.node.names.known.items()}
    other = Asker(place.world, place.asker.config)

    other.node.names.restore(known)
    other.perform(other.node.on_name_wanted(b"nas", place.world.now))

    assert other.answers[0].eids == (NAS.address, NAS6.address)
