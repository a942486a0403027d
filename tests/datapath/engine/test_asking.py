"""Prepared Map-Requests as C sends them, to a socket on the loopback interface; no root, no device."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count

import pytest
from msgspec.structs import replace

from lispmob.control.lookups.prepared import PER_GROUP
from lispmob.control.lookups.resolver import Resolver
from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.face.asking import Asking, PreparedRequest
from lispmob.datapath.marshal import Handle
from lispmob.datapath.model import EngineConfig
from lispmob.lispd.preparing import prepared
from lispmob.protocol.effect import UsePrepared
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.map_request import MapRequest

lib = _lispdp.lib
LOOPBACK = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
SECOND = 1_000_000_000
EID, EID6 = ip_address("10.1.0.1"), ip_address("2001:db8:e::1")
PEER, PEER6 = ip_address("10.2.0.7"), ip_address("2001:db8:f::7")


@dataclass
class Rig:
    """An engine, the socket that it sends by, and the Map-Resolver that hears it."""

    handle: Handle
    sender: socket.socket
    resolver: socket.socket
    rloc: IpAddress

    @property
    def asking(self) -> Asking:
        return Asking(self.handle)

    def made(self, *eids: EidPrefix) -> list[PreparedRequest]:
        """As the control plane makes them for a node with these EIDs."""
        machine = Resolver([self.rloc], new_nonce=count(1).__next__, eids=eids, draw=count(5000).__next__)
        machine.on_locators(LocatorSet.of(1, [LocalLocator(self.rloc, 1, "lo")]))
        (use,) = machine.on_timer(0.0)
        assert isinstance(use, UsePrepared)
        port = self.resolver.getsockname()[1]
        return [replace(one, port=port) for one in prepared(use, lambda _: self.sender.fileno())]

    def send(self, source: IpAddress, eid: IpAddress, *, instance_id: int = 0, at_s: float = 1.0) -> int:
        own, asked = marshal.one_address(source), marshal.one_address(eid)
        return int(lib.lm_asking_send(self.handle.c, instance_id, own, asked, int(at_s * SECOND)))

    def heard(self) -> tuple[EncapsulatedControl, MapRequest]:
        """What came, with both checksums of the inner packet verified."""
        ecm = EncapsulatedControl.decode(self.resolver.recv(2048))
        return ecm, MapRequest.decode(ecm.message)

    def is_silent(self) -> bool:
        self.resolver.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            return not self.resolver.recv(2048)
        return True


@pytest.fixture(params=[4, 6])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    family, rloc = FAMILIES[request.param], LOOPBACK[request.param]
    with socket.socket(family, socket.SOCK_DGRAM) as sender, socket.socket(family, socket.SOCK_DGRAM) as resolver:
        sender.bind((str(rloc), 0))
        resolver.bind((str(rloc), 0))
        resolver.settimeout(5)
        handle = Handle(EngineConfig("unused"))
        yield Rig(handle, sender, resolver, rloc)
        handle.free()


@pytest.mark.parametrize("instance_id", [0, 7, 0xFFFFFE])
@pytest.mark.parametrize(("source", "eid"), [(EID, PEER), (EID6, PEER6)])
def test_it_asks_for_the_packets_destination_in_the_name_of_its_source(
    rig: Rig, source: IpAddress, eid: IpAddress, instance_id: int
) -> None:
    requests = rig.made(EidPrefix.host(source, instance_id))
    rig.asking.add(requests)

    nonce = rig.send(source, eid, instance_id=instance_id)
    ecm, request = rig.heard()

    assert nonce == request.nonce == requests[0].nonce
    assert (ecm.source, ecm.destination) == (source, eid)
    assert request.source_eid == from_prefix(EidPrefix.host(source, instance_id))
    assert [record.eid_prefix for record in request.records] == [EidPrefix.host(eid, instance_id)]
    assert request.itr_rlocs == (rig.rloc,)


def test_checksums_hold_whatever_the_addresses(rig: Rig) -> None:
    draw = random.Random(20)
    edges4, edges6 = [1, 0xFFFFFFFF, 0xFFFF0000, 0xFFFF], [1, (1 << 128) - 1, 0xFFFF << 112, 0xFFFF]
    pairs: list[tuple[IpAddress, IpAddress]] = [(IPv4Address(a), IPv4Address(b)) for a in edges4 for b in edges4]
    pairs += [(IPv6Address(a), IPv6Address(b)) for a in edges6 for b in edges6]
    pairs += [(IPv4Address(draw.getrandbits(32)), IPv4Address(draw.getrandbits(32))) for _ in range(100)]
    pairs += [(IPv6Address(draw.getrandbits(128)), IPv6Address(draw.getrandbits(128))) for _ in range(100)]
    for number, (source, eid) in enumerate(pairs):
        rig.asking.clear()
        rig.asking.add(rig.made(EidPrefix.host(source)))

        assert rig.send(source, eid, at_s=1.0 + 20.0 * number)
        ecm, request = rig.heard()

        assert (ecm.source, ecm.destination, request.source_eid) == (source, eid, source)


def test_each_is_sent_once_and_then_none_is_left(rig: Rig) -> None:
    requests = rig.made(EidPrefix.host(EID))
    rig.asking.add(requests)

    sent = [rig.send(EID, ip_address(f"10.2.0.{number}")) for number in range(PER_GROUP + 1)]

    assert sent == [*(request.nonce for request in requests), 0]
    assert [rig.heard()[1].nonce for _ in requests] == sent[:-1]
    assert rig.is_silent()


def test_an_eid_is_asked_for_once_until_the_control_plane_gives_up_repeating(rig: Rig) -> None:
    rig.asking.add(rig.made(EidPrefix.host(EID)))

    sent = [bool(rig.send(EID, PEER, at_s=at_s)) for at_s in (1.0, 1.5, 10.0, 20.5)]

    assert sent == [True, False, False, True]


def test_the_same_eid_in_another_instance_is_another_eid(rig: Rig) -> None:
    rig.asking.add([*rig.made(EidPrefix.host(EID, 1)), *rig.made(EidPrefix.host(EID, 2))])

    assert rig.send(EID, PEER, instance_id=1)
    assert rig.send(EID, PEER, instance_id=2)


@pytest.mark.parametrize(("source", "eid", "instance_id"), [(EID6, PEER6, 0), (EID, PEER, 1), (EID6, PEER, 0)])
def test_one_of_another_family_or_instance_is_not_sent(
    rig: Rig, source: IpAddress, eid: IpAddress, instance_id: int
) -> None:
    rig.asking.add(rig.made(EidPrefix.host(EID)))

    assert rig.send(source, eid, instance_id=instance_id) == 0
    assert rig.is_silent()


def test_none_is_sent_after_they_were_cleared(rig: Rig) -> None:
    rig.asking.add(rig.made(EidPrefix.host(EID)))
    rig.asking.clear()

    assert rig.send(EID, PEER) == 0
    assert rig.is_silent()


def test_there_is_room_for_sixteen(rig: Rig) -> None:
    requests = rig.made(EidPrefix.host(EID))

    assert sum(rig.asking.add(requests) for _ in range(6)) == 16


def test_one_that_the_network_refuses_is_not_reported_as_sent(rig: Rig) -> None:
    first, *_ = rig.made(EidPrefix.host(EID))
    rig.asking.add([replace(first, ifindex=12345)])

    assert rig.send(EID, PEER) == 0
    assert rig.is_silent()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonce", 0),
        ("family", 5),
        ("fd", -1),
        ("inner", 900),
        ("source_at", 3),
        ("source_at", 41),
        ("source_at", 60000),
    ],
)
def test_one_whose_places_do_not_fit_is_not_taken(rig: Rig, name: str, value: int) -> None:
    first, *_ = rig.made(EidPrefix.host(EID))

    assert rig.asking.add([replace(first, **{name: value})]) == 0


def test_one_that_is_too_long_is_not_taken(rig: Rig) -> None:
    first, *_ = rig.made(EidPrefix.host(EID))

    assert rig.asking.add([replace(first, message=first.message + bytes(lib.LM_ASKING_OCTETS))]) == 0
