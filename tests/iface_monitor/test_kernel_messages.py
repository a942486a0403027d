"""What is read from rtnetlink's messages is what pyroute2 writes into them."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lispmob.iface_monitor import rtnetlink
from lispmob.iface_monitor.default_routes import HIGH_HALF, LOW_HALF, ROUTE_PROTOCOL, Candidate
from lispmob.iface_monitor.route_message import candidates, destination_of
from lispmob.netlink.message import RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, Raw, attributes, messages, number_in

UNICAST, BLACKHOLE, UNREACHABLE, LOCAL, THROW = 1, 6, 7, 2, 9
MAIN = 254


def written(kind: Any) -> Any:
    """An empty message of this class of pyroute2."""
    return kind()


def raw_of(message: Any, kind: int) -> Raw:
    message["header"]["type"] = kind
    message.encode()
    return next(messages(bytes(message.data)))


def route(family: int = 4, kind: int = UNICAST, *, fields: dict[str, int] | None = None, **attrs: object) -> Raw:
    message = written(rtmsg)
    message["family"] = socket.AF_INET if family == 4 else socket.AF_INET6
    message["type"], message["table"], message["proto"] = kind, MAIN, 4
    for name, value in (fields or {}).items():
        message[name] = value
    message["attrs"] = [(f"RTA_{name.upper()}", value) for name, value in attrs.items()]
    return raw_of(message, RTM_NEWROUTE)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (route(oif=3, gateway="192.0.2.1"), [Candidate(4, MAIN, 0, 3, ip_address("192.0.2.1"), 0)]),
        (route(oif=3), [Candidate(4, MAIN, 0, 3, None, 0)]),
        (route(oif=3, priority=600, table=1009), [Candidate(4, 1009, 0, 3, None, 600)]),
        (route(6, oif=5, gateway="fe80::1"), [Candidate(6, MAIN, 0, 5, ip_address("fe80::1"), 0)]),
        (
            route(oif=3, via={"family": socket.AF_INET6, "addr": "fe80::2"}),
            [Candidate(4, MAIN, 0, 3, ip_address("fe80::2"), 0)],
        ),
        (
            route(oif=3, prefsrc="192.0.2.7"),
            [Candidate(4, MAIN, 0, 3, None, 0, preferred_source=ip_address("192.0.2.7"))],
        ),
        (
            route(6, fields={"src_len": 64}, oif=5, src="2001:db8:1::"),
            [Candidate(6, MAIN, 0, 5, None, 0, source=ip_network("2001:db8:1::/64"))],
        ),
        (route(fields={"dst_len": 1}, oif=3), [Candidate(4, MAIN, LOW_HALF, 3, None, 0)]),
        (route(fields={"dst_len": 1}, dst="128.0.0.0", oif=3), [Candidate(4, MAIN, HIGH_HALF, 3, None, 0)]),
        (route(6, fields={"dst_len": 1}, dst="8000::", oif=3), [Candidate(6, MAIN, HIGH_HALF, 3, None, 0)]),
        (route(kind=BLACKHOLE), [Candidate(4, MAIN, 0, 0, None, 0, refusal="blackhole")]),
        (route(6, UNREACHABLE, priority=7), [Candidate(6, MAIN, 0, 0, None, 7, refusal="unreachable")]),
        (route(kind=THROW), [Candidate(4, MAIN, 0, 0, None, 0, refusal="throw")]),
        (
            route(
                multipath=[
                    {"oif": 3, "hops": 0, "attrs": [("RTA_GATEWAY", "192.0.2.1")]},
                    {"oif": 4, "hops": 9, "attrs": []},
                ]
            ),
            [Candidate(4, MAIN, 0, 3, ip_address("192.0.2.1"), 0), Candidate(4, MAIN, 0, 4, None, 0)],
        ),
        (route(fields={"proto": ROUTE_PROTOCOL}, oif=3), []),
        (route(kind=LOCAL, oif=3), []),
        (route(fields={"dst_len": 24}, dst="192.0.2.0", oif=3), []),
    ],
)
def test_a_default_route_is_read_with_all_that_distinguishes_it(raw: Raw, found: list[Candidate]) -> None:
    assert candidates(raw) == found


def test_the_destination_of_a_route_is_read_without_the_rest() -> None:
    assert destination_of(route(fields={"dst_len": 8}, dst="10.0.0.0", oif=3)) == bytes([10, 0, 0, 0])
    assert destination_of(route(oif=3)) == b""


@pytest.mark.parametrize("cut", range(1, 28, 3))
def test_next_hops_that_are_cut_short_are_left_out(cut: int) -> None:
    listed = [{"oif": 3, "hops": 0, "attrs": [("RTA_GATEWAY", "192.0.2.1")]}, {"oif": 4, "hops": 9, "attrs": []}]
    raw = route(multipath=listed)

    found = candidates(raw._replace(data=raw.data[:-cut]))

    assert found in ([], candidates(raw)[:1])


@pytest.mark.parametrize(
    ("name", "kind", "flags", "type_number", "expected"),
    [
        ("wlan0", "", 0x11043, 1, (True, True, False)),
        ("lo", "", 0x10049, 772, (True, True, True)),
        ("lan0", "vlan", 0x1003, 1, (True, False, False)),
        ("ppp0", "", 0x10051, 512, (True, True, False)),
        ("tun0", "tun", 0, 65534, (False, False, False)),
    ],
)
def test_an_interface_is_read_with_its_kind_and_what_it_can_do(
    name: str, kind: str, flags: int, type_number: int, expected: tuple[bool, bool, bool]
) -> None:
    message = written(ifinfmsg)
    message["index"], message["flags"], message["ifi_type"] = 7, flags, type_number
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_MTU", 1400)]
    if kind:
        message["attrs"].append(("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]}))

    link = rtnetlink.read_link(raw_of(message, RTM_NEWLINK))

    assert (link.ifindex, link.name, link.mtu_bytes) == (7, name, 1400)
    assert link.kind == (kind or ("ppp" if type_number == 512 else ""))
    assert (link.is_up, link.has_carrier, link.is_loopback) == expected


@pytest.mark.parametrize(
    ("attrs", "flags", "address", "words"),
    [
        ({"LOCAL": "192.0.2.7", "ADDRESS": "192.0.2.8", "FLAGS": 0x80}, 0x80, "192.0.2.7", {"is_permanent"}),
        ({"LOCAL": "192.0.2.7", "ADDRESS": "192.0.2.7"}, 0x81, "192.0.2.7", {"is_permanent", "is_secondary"}),
        ({"ADDRESS": "2001:db8::7", "FLAGS": 0x1 | 0x20}, 0, "2001:db8::7", {"is_temporary", "is_deprecated"}),
        ({"ADDRESS": "2001:db8::7", "FLAGS": 0x40}, 0x40, "2001:db8::7", {"is_tentative"}),
        ({"ADDRESS": "2001:db8::7", "FLAGS": 0x44}, 0x44, "2001:db8::7", set()),
        ({"ADDRESS": "2001:db8::7", "FLAGS": 0x48}, 0x48, "2001:db8::7", {"is_tentative", "is_duplicate"}),
    ],
)
def test_an_address_is_read_with_its_flags(attrs: dict[str, object], flags: int, address: str, words: set[str]) -> None:
    message = written(ifaddrmsg)
    message["family"] = socket.AF_INET if "." in address else socket.AF_INET6
    message["prefixlen"], message["flags"], message["scope"], message["index"] = 24, flags & 0xFF, 253, 7
    message["attrs"] = [(f"IFA_{name}", value) for name, value in attrs.items()]

    found = rtnetlink.read_address(raw_of(message, RTM_NEWADDR))

    assert (found.address, found.prefix_len, found.ifindex, found.scope) == (ip_address(address), 24, 7, 253)
    said = {word for word in dir(found) if word.startswith("is_") and word != "is_private" and getattr(found, word)}
    assert said == words


def test_attributes_end_at_the_first_that_does_not_fit() -> None:
    octets = bytes.fromhex("0800 0400 03000000  0500 0300 61 000000  0300 0100")

    assert list(attributes(octets)) == [(4, b"\3\0\0\0"), (3, b"a")]
    assert (number_in(b"\3\0\0\0"), number_in(None)) == (3, 0)
