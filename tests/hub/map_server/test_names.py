"""Names of hosts in the mapping system: who may register them, their EIDs, and the answers about them."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from lispmob.errors import ConfigError
from lispmob.hub.config import load_hub
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.itr_places import Relays
from lispmob.hub.map_server.name_askers import ASKERS_LIMIT, NameAskers
from lispmob.hub.map_server.names import overlap
from lispmob.hub.show import entries
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.name_eid import name_mask_len, name_record
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action, MappingRecord, take_record
from tests.hub.exchange import CLOCK, HUB, KEY, events, notify_in, plane, reply_in, site, xtr

OTHER = Key(b"the key of another site")
NAS = "10.99.0.2"


def register(
    *names: str,
    eids: tuple[str, ...] = (NAS,),
    key: Key = KEY,
    xtr_id: bytes = b"x" * 16,
    ttl_min: int = 10,
    mask_len: int | None = None,
) -> Arrival:
    records = tuple(name_record(name.encode(), map(ip_address, eids), ttl_min=ttl_min) for name in names)
    if mask_len is not None:
        records = tuple(replace(record, mask_len=mask_len) for record in records)
    message = MapRegister(next(CLOCK), records, want_map_notify=True, xtr_id=xtr_id, site_id=bytes(8))
    return Arrival(sign(message, key), ip_address("203.0.113.5"), 4342, HUB)


def ask(name: bytes, nonce: int = 7, mask_len: int = 0) -> Arrival:
    itr = ip_address("203.0.113.7")
    request = MapRequest(nonce, None, (itr,), (EidRecord(DistinguishedName(name), mask_len),))
    return Arrival(EncapsulatedControl(itr, 4342, HUB, 4342, request.encode()).encode(), itr, 4342, HUB)


def answered(hub: ControlPlane, name: bytes, now: float = 1.0) -> MappingRecord:
    (record,) = reply_in(hub.on_datagram(ask(name), now=now)).records
    return record


def hub(*names: str) -> ControlPlane:
    return plane(
        site("10.99.0.0/24", "2001:db8:1::/48", names=names or ("nas",)),
        site("10.98.0.0/24", name="others", key=OTHER, names=("printer",)),
    )


def test_the_record_of_a_name_has_these_octets() -> None:
    octets = bytes.fromhex(
        "0000000a 02 20 1000 0000 0011 6e617300 0164ff0000010001 0a630002"
        "0164ff0000010002 20010db8000100000000000000000002"
    )
    eids = [ip_address("2001:db8:1::2"), ip_address(NAS)]

    record = name_record(b"nas", eids, ttl_min=10, is_authoritative=True)

    assert record.encode() == octets
    assert take_record(Reader(octets)) == record
    assert EidRecord(DistinguishedName(b"nas"), 0).encode() == bytes.fromhex("0000 0011 6e617300")


def test_a_registered_name_leads_to_the_eids_of_its_host() -> None:
    map_server = hub()

    acknowledged = notify_in(map_server.on_datagram(register("NAS", eids=(NAS, "2001:db8:1::2")), now=0.0))

    record = answered(map_server, b"nas")
    assert acknowledged.records[0].action is Action.NO_ACTION
    assert (record.eid, record.ttl_min) == (DistinguishedName(b"nas"), 10)
    assert [str(locator.address) for locator in record.locators] == [NAS, "2001:db8:1::2"]
    assert not record.is_authoritative


def test_no_answer_for_a_name_bids_to_encapsulate_to_the_hub() -> None:
    map_server = hub()
    map_server.map_resolver.on_relays(Relays((HUB, ip_address("2001:db8::53"))))
    map_server.on_datagram(register("nas", eids=("2001:db8:1::2",)), now=0.0)

    assert [str(locator.address) for locator in answered(map_server, b"nas").locators] == ["2001:db8:1::2"]


@pytest.mark.parametrize(("name", "ttl_min"), [(b"nas", 1), (b"nobody", 15), (b"nas.nobody", 15), (b"", 15)])
def test_an_unregistered_name_is_nowhere(name: bytes, ttl_min: int) -> None:
    record = answered(hub(), name)

    assert (record.eid, record.locators, record.ttl_min) == (DistinguishedName(name), (), ttl_min)


@pytest.mark.parametrize("name", [b"\xffnas", b"na\x1fs", b"nas\x7f", b"\n"])
def test_a_question_for_octets_that_are_in_no_name_is_dropped_and_counted(name: bytes) -> None:
    map_server = hub()

    assert map_server.on_datagram(ask(name), now=1.0) == []
    assert map_server.map_resolver.counters["rx_policy"] == 1


@pytest.mark.parametrize("mask_len", [0, 24, 32])
def test_a_question_for_a_name_may_have_each_of_the_mask_lengths_that_others_send(mask_len: int) -> None:
    map_server = hub()
    map_server.on_datagram(register("nas"), now=0.0)

    assert reply_in(map_server.on_datagram(ask(b"nas", mask_len=mask_len), now=1.0)).records[0].locators


@pytest.mark.parametrize("mask_len", [1, 8, 31, 40, 255])
def test_a_mask_length_that_is_not_that_of_the_name_is_refused_in_questions_and_registers(mask_len: int) -> None:
    map_server = hub()
    odd = register("nas", mask_len=mask_len)

    assert map_server.on_datagram(ask(b"nas", mask_len=mask_len), now=1.0) == []
    assert "mask length" in str(map_server.on_datagram(odd, now=0.0)[-1].fields["why"])  # type: ignore[union-attr]
    assert answered(map_server, b"nas").locators == ()


def test_names_of_more_than_thirty_characters_have_no_mask_length_and_are_found_by_all_of_them() -> None:
    name = "a" * 31
    map_server = hub(name)
    map_server.on_datagram(register(name), now=0.0)

    assert answered(map_server, name.encode()).mask_len == 0
    assert reply_in(map_server.on_datagram(ask(name.encode(), mask_len=255), now=1.0)).records[0].locators
    assert name_mask_len(b"a" * 30) == 248


def test_the_longest_registered_name_that_the_asked_one_begins_with_is_the_answer() -> None:
    map_server = hub("ietf", "ietf.lisp", "x")
    for name in ("ietf", "ietf.lisp", "x"):
        map_server.on_datagram(register(name), now=0.0)
    asked = (b"ietf", b"ietf.lisp", b"ietf.lisp.wg", b"IETF.LI", b"ietf2", b"iet", b"y")

    found = [answered(map_server, name) for name in asked]

    said = [(str(record.eid), record.mask_len) for record in found if record.locators]
    assert said == [("ietf", 40), ("ietf.lisp", 80), ("ietf.lisp", 80), ("ietf", 40), ("ietf", 40)]
    assert [str(record.eid) for record in found if not record.locators] == ["iet", "y"]


def test_a_name_with_a_star_stands_for_all_that_end_in_it_and_for_nothing_else() -> None:
    map_server = hub("nas", "*.nas")
    for name in ("backup.nas", "a.b.nas", "nas"):
        assert notify_in(map_server.on_datagram(register(name), now=0.0))

    assert map_server.on_datagram(register("bnas"), now=0.0)[-1].fields["why"].endswith("of no site")  # type: ignore[union-attr]
    assert answered(map_server, b"a.b.nas").locators
    assert not answered(map_server, b"c.nas").locators


@pytest.mark.parametrize(
    ("arrival", "counter"),
    [
        (register("printer"), "rx_auth"),
        (register("nas", key=OTHER), "rx_auth"),
        (register("nas", "printer"), "rx_policy"),
        (register("scanner"), "rx_policy"),
        (register("nas", eids=("10.98.0.1",)), "rx_policy"),
        (register("nas", eids=("192.0.2.1",)), "rx_policy"),
        (register("nas", "NAS"), "rx_limit"),
    ],
)
def test_a_name_is_registered_by_its_site_alone_and_for_eids_of_that_site(arrival: Arrival, counter: str) -> None:
    map_server = hub()

    map_server.on_datagram(arrival, now=0.0)

    assert map_server.counters[counter] == 1
    assert list(map_server.map_server.names) == []


def test_names_and_addresses_do_not_share_a_map_register() -> None:
    map_server = hub()
    node = xtr("203.0.113.5", xtr_id=b"x" * 16)
    message = MapRegister.decode(node.register("10.99.0.2/32").payload)
    named = name_record(b"nas", [ip_address(NAS)], ttl_min=10)

    for records in ((*message.records, named), (named, *message.records)):
        mixed = sign(replace(message, nonce=next(CLOCK), records=records), KEY)
        map_server.on_datagram(Arrival(mixed, node.address, 4342, HUB), now=0.0)

    assert map_server.counters["rx_policy"] == 2
    assert not answered(map_server, b"nas").locators


def test_a_recorded_register_of_a_name_is_not_taken_again() -> None:
    map_server = hub()
    old = register("nas")
    map_server.on_datagram(old, now=0.0)
    map_server.on_datagram(register("nas", ttl_min=0), now=5.0)

    map_server.on_datagram(old, now=10.0)

    assert map_server.counters["rx_replay"] == 1
    assert not answered(map_server, b"nas", 11.0).locators


def test_the_first_host_keeps_a_name_until_it_is_silent() -> None:
    map_server = hub()
    map_server.on_datagram(register("nas"), now=0.0)

    refused = notify_in(map_server.on_datagram(register("nas", eids=("10.99.0.3",), xtr_id=b"y" * 16), now=60.0))
    assert refused.records[0].action is Action.DROP_POLICY_DENIED
    assert [str(locator.address) for locator in answered(map_server, b"nas", 61.0).locators] == [NAS]

    map_server.on_datagram(register("nas", eids=("10.99.0.3",), xtr_id=b"y" * 16), now=120.0)
    assert [str(locator.address) for locator in answered(map_server, b"nas", 121.0).locators] == ["10.99.0.3"]


def test_a_name_that_is_not_refreshed_runs_out_after_three_minutes() -> None:
    map_server = hub()
    map_server.on_datagram(register("nas"), now=0.0)
    map_server.on_datagram(register("nas"), now=100.0)

    assert events(map_server.on_timer(180.0)) == []
    assert answered(map_server, b"nas", 181.0).locators
    assert [event.kind for event in events(map_server.on_timer(280.0))] == ["expired"]
    assert not answered(map_server, b"nas", 281.0).locators
    assert map_server.wake_at() is None


def test_a_reload_that_takes_a_name_away_forgets_it() -> None:
    map_server = hub()
    map_server.on_datagram(register("nas"), now=0.0)

    told = map_server.on_sites([site("10.99.0.0/24", names=("other",))], (), now=1.0)

    assert [(event.kind, event.fields["eid"]) for event in events(told)] == [("withdrawn", "name nas")]
    assert not answered(map_server, b"nas", 2.0).locators


def test_what_is_shown_has_the_names_too() -> None:
    map_server = hub()
    map_server.on_datagram(register("nas"), now=0.0)

    (shown,) = entries(map_server.map_server.names, 10.0)

    assert (shown["eid"], shown["rlocs"], shown["left_s"]) == ("name nas", [f"{NAS}(1/100)"], 170)


# --- hub.conf


def load(tmp_path: Path, *sites: str) -> list[tuple[str, ...]]:
    text = "\n".join(
        f'- {{name: {name}, eids: [10.0.{number}.0/24], key: "0123456789"{names}}}'
        for number, (name, _, names) in enumerate(one.partition(",") for one in sites)
        for names in ([f", names: {names}"] if names else [""])
    )
    path = tmp_path / "hub.conf"
    path.write_text(f"sites:\n{text}\n")
    path.chmod(0o600)
    return [to_site.names for to_site in load_hub(path).to_sites()]


def test_a_site_without_names_has_its_own_where_that_is_a_label(tmp_path: Path) -> None:
    assert load(tmp_path, "Laptop", '"my phone"', "nas,[storage]", "storage", "laptop") == [
        ("laptop",), (), ("storage",), (), (),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sites", "why"),
    [
        (["a,[nas]", "b,[NAS]"], r"sites\[1\].names\[0\].*nas belongs to site a already"),
        (['a,["*.nas"]', "b,[backup.nas]"], r"backup.nas belongs to site a already, as \*.nas"),
        (["a,[nas, nas]"], r"sites\[0\].names\[1\].*listed twice"),
        (["a,[nas/x]"], "a name such as nas"),
    ],
)
def test_no_name_belongs_to_two_sites(tmp_path: Path, sites: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(tmp_path, *sites)


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("nas", "nas", True), ("nas", "*.nas", False), ("a.nas", "*.nas", True), ("*.nas", "a.b.nas", True),
        ("*.nas", "*.b.nas", True), ("*.nas", "*.bnas", False), ("bnas", "*.nas", False),
    ],
)  # fmt: skip
def test_patterns_overlap_when_a_name_fits_both(one: str, other: str, *, is_shared: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is is_shared


def laptops(*names: str) -> ControlPlane:
    return plane(site("10.99.0.2/32", "2001:db8:1::2/128", names=names or ("nas", "store")))


def test_an_unregistered_name_leads_to_the_whole_addresses_of_its_site() -> None:
    record = answered(laptops(), b"NAS")

    assert [str(locator.address) for locator in record.locators] == [NAS, "2001:db8:1::2"]
    assert (record.eid, record.ttl_min) == (DistinguishedName(b"NAS"), 10)


def test_what_a_host_registers_counts_more_than_the_line_in_hub_conf() -> None:
    map_server = laptops()
    map_server.on_datagram(register("nas"), now=0.0)

    assert [str(locator.address) for locator in answered(map_server, b"nas").locators] == [NAS]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2.0.99.10.in-addr.arpa", ["nas", "store"]),
        (f"2.{'0.' * 19}1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", ["nas", "store"]),
        ("3.0.99.10.in-addr.arpa", []),
        ("0.99.10.in-addr.arpa", []),
        ("02.0.99.10.in-addr.arpa", []),
        ("1.2.0.99.10.in-addr.arpa", []),
        (f"{'_.' * 32}ip6.arpa", []),
        (f"{' .' * 32}ip6.arpa", []),
        ("x.0.99.10.in-addr.arpa", []),
    ],
)
def test_a_reverse_name_leads_to_the_names_of_the_site_with_this_eid(name: str, expected: list[str]) -> None:
    found = answered(laptops(), name.encode())

    assert [str(locator.address) for locator in found.locators] == expected


def test_a_reverse_name_leads_to_who_has_registered_a_name_with_this_eid() -> None:
    map_server = hub("nas", "store")
    map_server.on_datagram(register("store"), now=0.0)

    (locator,) = answered(map_server, b"2.0.99.10.in-addr.arpa").locators

    assert locator.address == DistinguishedName(b"store")


def test_who_asked_for_a_name_is_told_once_when_it_leads_elsewhere() -> None:
    map_server = hub()
    answered(map_server, b"nas")

    told = [one for one in map_server.on_datagram(register("nas"), now=1.0) if isinstance(one, SendControl)]
    again = map_server.on_datagram(register("nas", eids=("10.99.0.9",)), now=2.0)

    smr = MapRequest.decode(told[-1].payload)
    assert (smr.is_smr, smr.source_eid, str(told[-1].destination)) == (True, DistinguishedName(b"nas"), "203.0.113.7")
    assert sum(isinstance(one, SendControl) for one in again) == 1  # the Map-Notify


def test_the_askers_of_names_are_bounded() -> None:
    askers = NameAskers(lambda eid: MappingRecord(eid, 0, ()), new_nonce=lambda: 1)
    for number in range(ASKERS_LIMIT + 10):
        askers.on_answered([name_record(b"n%d" % number, [ip_address(NAS)], ttl_min=1)], HUB, HUB)
    assert len(askers) == ASKERS_LIMIT

    first = askers.on_changed(1.0)
    assert len(first) <= 200
    assert askers.wake_at() is not None


def everybody(askers: NameAskers) -> list[IpAddress]:
    """The nodes that are told when a name gets other EIDs."""
    effects = askers.on_changed(0.0)
    now = 0.0
    while (at := askers.wake_at()) is not None:
        now = max(now + 0.1, at)
        effects += askers.on_timer(now)
    return [effect.destination for effect in effects]


@pytest.mark.parametrize("strangers", [ASKERS_LIMIT, 2 * ASKERS_LIMIT])
def test_strangers_who_ask_for_names_push_out_no_registered_node(strangers: int) -> None:
    askers = NameAskers(lambda eid: MappingRecord(eid, 0, ()), new_nonce=lambda: 1)
    asked = name_record(b"nas", [ip_address(NAS)], ttl_min=1)
    askers.on_answered([asked], ip_address("203.0.113.7"), HUB, is_registered=True)
    for number in range(strangers):
        askers.on_answered([asked], ip_address("198.18.0.0") + number, HUB)

    told = everybody(askers)

    assert told.count(ip_address("203.0.113.7")) == 1
    assert len(told) == ASKERS_LIMIT


def test_who_becomes_registered_is_a_stranger_no_more() -> None:
    askers = NameAskers(lambda eid: MappingRecord(eid, 0, ()), new_nonce=lambda: 1)
    asked = name_record(b"nas", [ip_address(NAS)], ttl_min=1)
    node = ip_address("203.0.113.7")
    for is_registered in (False, True):
        askers.on_answered([asked], node, HUB, is_registered=is_registered)
    for number in range(ASKERS_LIMIT):
        askers.on_answered([asked], ip_address("198.18.0.0") + number, HUB)

    assert len(askers) == ASKERS_LIMIT
    assert node in everybody(askers)
