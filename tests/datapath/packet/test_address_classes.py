"""One table of what may be an EID and what may be an RLOC: all code that takes an address agrees with it.

The corpus compares the BPF programs: it holds packets from and to the first and last address of every class.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.config.values import EID_TEXT, RLOC_TEXT
from lispmob.datapath.marshal import put_address
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import CLASSES, may_be_eid, may_be_rloc
from tests.datapath import corpus
from tests.datapath.binding import ffi, lib

EDGES = [address for version in (4, 6) for _, address in corpus.edges(version)]
PUBLIC = ip_address("192.0.2.1")


def c_may_be_eid(address: IpAddress) -> bool:
    made = ffi.new("struct lm_addr *")
    put_address(made, address)
    return bool(lib.lm_address_may_be_eid(made))


def is_accepted(text: str, kind: object) -> bool:
    try:
        kind.read(text, None)  # type: ignore[attr-defined]
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("address", EDGES, ids=str)
def test_python_and_c_agree_at_the_edges_of_every_class(address: IpAddress) -> None:
    assert c_may_be_eid(address) == may_be_eid(address)


@given(st.integers(0, (1 << 32) - 1).map(IPv4Address) | st.integers(0, (1 << 128) - 1).map(IPv6Address))
def test_python_and_c_agree_on_any_address(address: IpAddress) -> None:
    assert c_may_be_eid(address) == may_be_eid(address)


@pytest.mark.parametrize("address", EDGES, ids=str)
def test_the_configuration_takes_as_an_eid_what_the_datapath_carries(address: IpAddress) -> None:
    assert is_accepted(str(address), EID_TEXT) == may_be_eid(address)


@pytest.mark.parametrize("address", EDGES, ids=str)
def test_the_configuration_takes_as_an_rloc_what_the_control_plane_sends_to(address: IpAddress) -> None:
    assert is_accepted(str(address), RLOC_TEXT) == may_be_rloc(address) == is_sendable(address, PUBLIC)


@pytest.mark.parametrize("text", ["240.0.0.1", "240.1.0.0/16", "250.7.8.9", "255.255.255.254", "240.0.0.0/4"])
def test_an_eid_may_be_of_the_reserved_class(text: str) -> None:
    assert is_accepted(text, EID_TEXT)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("255.255.255.255", "broadcast"),
        ("224.0.0.0/4", "multicast"),
        ("239.1.0.0/16", "multicast"),
        ("127.0.0.0/8", "loopback"),
        ("0.1.0.0/16", "this network"),
        ("169.254.7.0/24", "link-local"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff02::/16", "multicast"),
    ],
)
def test_what_cannot_be_an_eid_is_refused_with_the_name_of_its_class(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        EID_TEXT.read(text, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "::/8"])
def test_a_prefix_that_holds_more_than_one_class_is_taken(text: str) -> None:
    assert is_accepted(text, EID_TEXT)


def test_every_class_is_disjoint_from_those_before_it_or_within_the_next() -> None:
    for index, row in enumerate(CLASSES):
        for later in CLASSES[index + 1 :]:
            if row.network.version == later.network.version and row.network.overlaps(later.network):
                assert row.network.prefixlen > later.network.prefixlen
