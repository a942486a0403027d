"""lispd's answers to DNS questions: its own domain and reverse names, and no others."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.names.zone import Answer, Labels, RCode, Record, Wanted, Zone, reverse_zones
from lispmob.protocol.effect import NameResolved

DOMAIN = (b"lisp", b"home", b"arpa")
ZONE = Zone("Lisp.home.arpa", [ip_network("10.99.0.0/16"), ip_network("2001:db8:1::/48")])
NAS = NameResolved(b"nas", (ip_address("10.99.0.2"), ip_address("2001:db8:1::2")), "registered")


def labels(name: str) -> Labels:
    return tuple(label.encode() for label in name.split("."))


def answer(name: str, kind: str, known: NameResolved) -> Answer:
    wanted = ZONE.question(labels(name), kind)
    assert isinstance(wanted, Wanted)
    return ZONE.answer(wanted, kind, known)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("A", ["10.99.0.2"]), ("AAAA", ["2001:db8:1::2"]), ("ANY", ["10.99.0.2", "2001:db8:1::2"]), ("MX", [])],
)
def test_a_host_has_the_addresses_that_are_its_eids(kind: str, expected: list[str]) -> None:
    found = answer("NAS.lisp.HOME.arpa", kind, NAS)

    assert (found.rcode, found.zone) == (RCode.NOERROR, DOMAIN)
    assert [str(record.value) for record in found.records] == expected


@pytest.mark.parametrize(
    "name", ["example.org", "arpa", "home.arpa", "xlisp.home.arpa", "nas.lisp.home.arpa.org", "1.0.98.10.in-addr.arpa"]
)
def test_everything_else_is_refused_so_that_a_resolver_asks_its_next_server(name: str) -> None:
    assert ZONE.question(labels(name), "A") == Answer(RCode.REFUSED)


@pytest.mark.parametrize(
    "name",
    [
        (b"n\xc3\xa4s", *DOMAIN),
        (b"a b", *DOMAIN),
        (b"a.b", *DOMAIN),
        (b"-a", *DOMAIN),
        (b"", *DOMAIN),
        (b"*", *DOMAIN),
        (b"\x00", *DOMAIN),
        (b"x" * 64, *DOMAIN),
    ],
)
def test_octets_that_no_host_has_in_its_name_exist_nowhere_and_cause_no_question(name: Labels) -> None:
    assert ZONE.question(name, "A") == Answer(RCode.NXDOMAIN, zone=DOMAIN)


def test_a_name_does_not_exist_only_when_the_mapping_system_has_said_so() -> None:
    nobody = NameResolved(b"nas", (), "no site has registered it")
    silence = NameResolved(b"nas", (), "the mapping system does not answer", is_answered=False)

    assert answer("nas.lisp.home.arpa", "A", nobody) == Answer(RCode.NXDOMAIN, zone=DOMAIN)
    assert answer("nas.lisp.home.arpa", "A", silence) == Answer(RCode.SERVFAIL)


def test_an_eid_has_the_names_of_its_host() -> None:
    reverse = ip_address("10.99.0.2").reverse_pointer
    wanted = ZONE.question(labels(reverse), "PTR")

    assert isinstance(wanted, Wanted)
    assert wanted.name == reverse.encode()
    known = NameResolved(reverse.encode(), (), "registered", names=(b"nas", b"not a host"))
    assert ZONE.answer(wanted, "PTR", known).records == (Record("PTR", (b"nas", *DOMAIN)),)
    assert ZONE.answer(wanted, "A", known) == Answer(RCode.NOERROR, (), (b"99", b"10", b"in-addr", b"arpa"))


def test_a_host_has_the_service_of_flows() -> None:
    found = answer("_lispflow._udp.nas.lisp.home.arpa", "SRV", NAS)

    assert found.records == (Record("SRV", (3359, (b"nas", *DOMAIN))),)
    assert answer("_lispflow._udp.nas.lisp.home.arpa", "A", NAS).records == ()


@pytest.mark.parametrize("name", ["lisp.home.arpa", "99.10.in-addr.arpa"])
def test_the_top_of_a_zone_has_soa_and_ns_and_no_address(name: str) -> None:
    kinds = {kind: ZONE.question(labels(name), kind) for kind in ("SOA", "NS", "A")}

    found = {kind: [record.kind for record in said.records] for kind, said in kinds.items() if isinstance(said, Answer)}
    assert found == {"SOA": ["SOA"], "NS": ["NS"], "A": []}


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        ("0.99.10.in-addr.arpa", RCode.NOERROR),
        ("2.02.99.10.in-addr.arpa", RCode.NXDOMAIN),
        ("2.x.99.10.in-addr.arpa", RCode.NXDOMAIN),
        ("1.2.0.99.10.in-addr.arpa", RCode.NXDOMAIN),
        ("0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", RCode.NOERROR),
    ],
)
def test_a_reverse_name_that_is_no_address_causes_no_question(name: str, rcode: RCode) -> None:
    found = ZONE.question(labels(name), "PTR")

    assert isinstance(found, Answer)
    assert found.rcode is rcode


@pytest.mark.parametrize(
    ("prefix", "zones"),
    [
        ("10.99.0.0/16", ("99.10.in-addr.arpa",)),
        ("10.98.0.0/15", ("98.10.in-addr.arpa", "99.10.in-addr.arpa")),
        ("10.99.0.2/32", ("2.0.99.10.in-addr.arpa",)),
        ("2001:db8:1::/48", ("1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",)),
        ("2001:db8::/31", ("8.b.d.0.1.0.0.2.ip6.arpa", "9.b.d.0.1.0.0.2.ip6.arpa")),
        ("10.0.0.0/9", ()),
        ("0.0.0.0/0", ()),
    ],
)
def test_a_prefix_has_the_reverse_zones_that_are_no_wider_than_it(prefix: str, zones: tuple[str, ...]) -> None:
    assert reverse_zones([ip_network(prefix)]) == zones


def test_addresses_of_a_zone_that_are_not_ours_are_refused() -> None:
    narrow = Zone("lisp.home.arpa", [ip_network("10.99.0.0/25"), ip_network("10.99.0.128/32")])

    assert narrow.reverse == (labels("128.0.99.10.in-addr.arpa"),)
    assert narrow.question(labels("129.0.99.10.in-addr.arpa"), "PTR") == Answer(RCode.REFUSED)


@given(st.lists(st.binary(max_size=63), max_size=40), st.sampled_from(["A", "PTR", "SRV", "ANY", "TYPE65280"]))
def test_whatever_is_asked_is_answered_or_asked_on(name: list[bytes], kind: str) -> None:
    for zone in (DOMAIN, labels("99.10.in-addr.arpa"), labels("ip6.arpa"), ()):
        found = ZONE.question((*name, *zone), kind)
        if isinstance(found, Wanted):
            assert ZONE.answer(found, kind, NAS).rcode is RCode.NOERROR
