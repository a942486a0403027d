"""The conditions of a rule, at their edges: numbers, families, owners of packets, and the errors for invalid ones."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.mh.selector import COMBINATIONS_MAX, EVERYTHING, ID_MAX, Flow, Selector, Span

FLOW = Flow(ip_address("10.1.0.1"), ip_address("10.2.0.7"), 6, 40000, 443, dscp=46, uid=1000, gid=100)
FLOW6 = replace(FLOW, source=ip_address("2001:db8::1"), destination=ip_address("2001:db8::2"))
NET, NET6 = ip_network("10.2.0.0/16"), ip_network("2001:db8::/32")


@pytest.mark.parametrize(
    ("protocols", "families"),
    [
        ((), (4, 6)),
        ((6,), (4, 6)),
        ((1,), (4,)),
        ((58,), (6,)),
        ((1, 58), (4, 6)),
        ((1, 17), (4, 6)),
        ((58, 6), (4, 6)),
    ],
)
def test_icmp_is_of_one_family_and_all_other_protocols_of_both(
    protocols: tuple[int, ...], families: tuple[int, ...]
) -> None:
    assert Selector(protocols=protocols).families() == families


@pytest.mark.parametrize(
    ("networks", "families"), [((NET,), (4,)), ((NET6,), (6,)), ((NET, NET6), (4, 6)), ((), (4, 6))]
)
def test_a_rule_is_of_the_families_of_its_networks(networks: tuple[Any, ...], families: tuple[int, ...]) -> None:
    assert Selector(destinations=networks).families() == families
    assert Selector(sources=networks).families() == families
    assert Selector(destinations=networks, sources=(NET,)).families() == tuple(set(families) & {4})


@pytest.mark.parametrize(
    ("selecting", "fits", "misfits"),
    [
        ({"destinations": (NET,)}, {}, {"destination": ip_address("10.3.0.1")}),
        ({"sources": (ip_network("10.1.0.0/31"),)}, {}, {"source": ip_address("10.1.0.2")}),
        ({"protocols": (6, 17)}, {"protocol": 17}, {"protocol": 132}),
        ({"protocols": (6,), "destination_ports": (Span(443, 444),)}, {}, {"destination_port": 445}),
        ({"protocols": (6,), "destination_ports": (Span(1, 443),)}, {}, {"destination_port": 444}),
        ({"protocols": (6,), "destination_ports": (Span(443, 444),)}, {}, {"destination_port": 442}),
        ({"protocols": (6,), "destination_ports": (Span(443, 444),)}, {}, {"destination_port": None}),
        ({"protocols": (6,), "source_ports": (Span(40000, 40000),)}, {}, {"source_port": 40001}),
        ({"dscp": (46, 0)}, {"dscp": 0}, {"dscp": 8}),
        ({"users": (Span(1000, 1001),)}, {"uid": 1001}, {"uid": 1002}),
        ({"users": (Span(1000, 1001),)}, {}, {"uid": None}),
        ({"users": (Span(1000, 1001),)}, {}, {"from_interface": "br0"}),
        ({"groups": (Span(100, 100),)}, {}, {"gid": 101}),
        ({"groups": (Span(100, 100),)}, {}, {"from_interface": "br0"}),
        ({"cgroup": "user.slice"}, {"cgroup": "user.slice/a.service"}, {"cgroup": "user.slice2"}),
        ({"cgroup": "user.slice"}, {"cgroup": "/user.slice/"}, {"cgroup": None}),
        ({"cgroup": "user.slice"}, {"cgroup": "user.slice"}, {"cgroup": "user.slice", "from_interface": "br0"}),
        ({"from_interface": "br*"}, {"from_interface": "br0"}, {"from_interface": "eth0"}),
        ({"from_interface": "br*"}, {"from_interface": "br"}, {}),
        ({"flow_name": "backup.*"}, {"flow_name": "backup.nas"}, {"flow_name": "video.nas"}),
        ({"flow_name": "backup.*"}, {"flow_name": "backup.nas"}, {}),
        (
            {"flow_classes": ("voice",)},
            {"flow_name": "a", "flow_class": "voice"},
            {"flow_name": "a", "flow_class": "bulk"},
        ),
        ({"flow_classes": ("voice",)}, {"flow_name": "a", "flow_class": "voice"}, {"flow_class": "voice"}),
    ],
)  # fmt: skip
def test_each_part_has_to_fit(selecting: dict[str, Any], fits: dict[str, Any], misfits: dict[str, Any]) -> None:
    selector = Selector(**selecting)

    assert selector.mismatch(replace(FLOW, **fits)) is None
    assert selector.mismatch(replace(FLOW, **misfits)) is not None


def test_nothing_given_matches_everything() -> None:
    assert EVERYTHING.mismatch(FLOW) is None
    assert EVERYTHING.mismatch(replace(FLOW6, protocol=58, from_interface="br0", uid=None)) is None


def test_the_first_part_that_does_not_fit_is_told() -> None:
    selector = Selector(destinations=(NET6,), protocols=(17,))

    assert selector.mismatch(FLOW) == "goes to 10.2.0.7"
    assert selector.mismatch(FLOW6) == "is protocol 6"
    assert Selector(from_interface="br0").mismatch(FLOW) == "is of this host"
    assert Selector(from_interface="br0").mismatch(replace(FLOW, from_interface="eth1")) == "comes in by eth1"


@pytest.mark.parametrize(
    "selecting",
    [
        {"protocols": (0, 255)},
        {"dscp": (0, 63)},
        {"protocols": (6, 17, 33, 132, 136), "destination_ports": (Span(0, 65535),)},
        {"users": (Span(0, ID_MAX),)},
        {"groups": (Span(ID_MAX, ID_MAX),)},
        {"from_interface": "a" * 15},
        {"from_interface": "a" * 14 + "*"},
        {"app": "firefox"},
        {"destinations": (NET,) * 64, "dscp": tuple(range(64))},
    ],
)
def test_what_the_kernel_can_compare_is_taken(selecting: dict[str, Any]) -> None:
    assert Selector(**selecting).combinations <= COMBINATIONS_MAX


@pytest.mark.parametrize(
    ("selecting", "why"),
    [
        ({"protocols": (256,)}, "a protocol is a number"),
        ({"protocols": (-1,)}, "a protocol is a number"),
        ({"destination_ports": (Span(80, 80),)}, "ports need a protocol"),
        ({"protocols": (6, 1), "source_ports": (Span(80, 80),)}, "ports need a protocol"),
        ({"protocols": (6,), "source_ports": (Span(0, 65536),)}, "from 0 to 65535"),
        ({"protocols": (6,), "destination_ports": (Span(81, 80),)}, "from 0 to 65535"),
        ({"users": (Span(0, ID_MAX + 1),)}, f"from 0 to {ID_MAX}"),
        ({"groups": (Span(-1, 5),)}, f"from 0 to {ID_MAX}"),
        ({"dscp": (64,)}, "a DSCP is a number"),
        ({"dscp": (-1,)}, "a DSCP is a number"),
        ({"from_interface": "a" * 16}, "an interface name"),
        ({"from_interface": "a" * 15 + "*"}, "an interface name"),
        ({"cgroup": "a/../b"}, "a path of a control group"),
        ({"app": "a b"}, "name of a program"),
        ({"app": "a", "cgroup": "b"}, "one of them"),
        ({"destinations": (NET,) * 65, "dscp": tuple(range(64))}, "combinations"),
        ({"from_interface": "br0", "users": (Span(1, 1),)}, "other hosts"),
        ({"from_interface": "br0", "app": "firefox"}, "other hosts"),
        ({"from_interface": "br0", "flow_name": "a"}, "no flow of this host"),
    ],
)
def test_what_cannot_be_is_told(selecting: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Selector(**selecting)


@pytest.mark.parametrize(("ports", "comparisons"), [(1, 1), (7, 1), (8, 2), (15, 2), (16, 3)])
def test_fifteen_places_are_compared_at_once_and_a_range_takes_two(ports: int, comparisons: int) -> None:
    spans = tuple(Span(port, port) for port in range(1, ports + 1))

    assert Selector(protocols=(6,), destination_ports=spans).combinations == comparisons
    assert Selector(protocols=(6,), source_ports=spans).combinations == comparisons


def test_numbers_are_shown_as_they_are_written() -> None:
    assert (str(Span(5, 5)), str(Span(5, 6))) == ("5", "5-6")
