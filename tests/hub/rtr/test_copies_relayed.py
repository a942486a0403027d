"""One EID on two machines behind NATs with one RTR: the hub sees two, tells both, and one of them has the EID."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count

import pytest

from lispmob.control.sharing import Sharing, sharing
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import sign
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import HUB, KEY, eid, site, xtr

EID = eid("10.1.0.1/32")
ONE, ANOTHER = bytes([1]) * 16, bytes([2]) * 16
HOME, CAFE = "203.0.113.200", "192.0.2.77"


@dataclass
class Machine:
    """A node behind a NAT: its own address, and the address and port of its NAT."""

    private: str
    nat: str
    port: int = 20001
    xtr_id: bytes = ONE
    nonces: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def ours(self) -> tuple[Locator, ...]:
        address = ip_address(self.private)
        return Locator(HUB), Locator(address, is_local=True, is_reachable=False)

    def register(self) -> Arrival:
        record = MappingRecord.of(EID, self.ours, ttl_min=10, is_authoritative=True)
        nonce = next(self.nonces)
        message = MapRegister(nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=self.xtr_id)
        private = ip_address(self.private)
        ecm = EncapsulatedControl(private, 4342, HUB, 4342, sign(message, KEY), to_rtr=True)
        return Arrival(ecm.encode(), ip_address(self.nat), self.port, HUB)


def hub() -> ControlPlane:
    plane = ControlPlane([site("10.1.0.0/16")], traversal=TraversalPolicy(is_rtr=True))
    plane.traversal.on_addresses([HUB])
    return plane


def registers(plane: ControlPlane, machine: Machine, *times: float) -> list[Sharing | None]:
    """What the machine reads of another one in each Map-Notify; registers without an answer are left out.

    A machine whose binding is new to the RTR is asked to register again, and does so.
    """
    found = []
    for now in times:
        effects = plane.on_datagram(machine.register(), now)
        found += told(effects, machine)
        if any(message[0] >> 4 == 1 for message in to(effects, machine)):
            plane.on_datagram(machine.register(), now + 0.1)
    return found


def to(effects: Iterable[object], machine: Machine) -> list[bytes]:
    """The control messages that reach a machine through its NAT."""
    return [
        parse_ip_udp(split_data_packet(effect.payload)[1]).payload
        for effect in effects
        if isinstance(effect, SendControl) and (str(effect.destination), effect.port) == (machine.nat, machine.port)
    ]


def told(effects: Iterable[object], machine: Machine) -> list[Sharing | None]:
    """What each Map-Notify among the effects says of another node."""
    messages = [message for message in to(effects, machine) if message[0] >> 4 == 4]
    return [sharing(MapNotify.decode(message).records[0], machine.ours) for message in messages]


def places(plane: ControlPlane) -> list[tuple[IpAddress, int]]:
    entry = plane.traversal.rtr.entries.get(EID)
    return [(binding.address, binding.port) for binding in (entry.usable() if entry is not None else ())]


COPIES = {
    "in two homes": (Machine("192.168.1.2", HOME), Machine("192.168.9.7", CAFE)),
    "in two homes with one address": (Machine("192.168.1.2", HOME), Machine("192.168.1.2", CAFE)),
    "in one home": (Machine("192.168.1.2", HOME, 20001), Machine("192.168.1.3", HOME, 20002)),
    "in two homes, by one port": (Machine("10.0.0.2", HOME, 4341), Machine("10.0.0.3", CAFE, 4341)),
}


def fresh(name: str) -> tuple[Machine, Machine]:
    """The machine that began first, and one that began an hour later: its nonces are ahead."""
    old, new = COPIES[name]
    ahead = count(3_600_000_000)
    return Machine(old.private, old.nat, old.port), Machine(new.private, new.nat, new.port, nonces=ahead)


@pytest.mark.parametrize("name", COPIES)
def test_of_two_copies_of_a_disk_the_one_that_began_later_has_it_and_both_are_told(name: str) -> None:
    plane, (old, new) = hub(), fresh(name)
    assert registers(plane, old, 0.0) == [None]
    assert registers(plane, new, 10.0) == [None]

    refused = registers(plane, old, 60.0, 61.0, 63.0, 67.0)
    kept = registers(plane, new, 70.0)

    assert [answer.is_refused for answer in refused if answer is not None] == [True]
    assert kept[0] is not None
    assert not kept[0].is_refused
    assert old.nat in kept[0].places
    assert places(plane) == [(ip_address(new.nat), new.port)]


@pytest.mark.parametrize("name", COPIES)
def test_of_two_machines_with_a_copied_configuration_the_first_one_keeps_it_and_both_are_told(name: str) -> None:
    plane, (old, new) = hub(), fresh(name)
    new.xtr_id = ANOTHER
    registers(plane, old, 0.0)

    refused = registers(plane, new, 10.0, 40.0)
    kept = registers(plane, old, 60.0)

    assert [answer is not None and answer.is_refused for answer in refused] == [True, True]
    assert kept[0] is not None
    assert new.nat in kept[0].places
    assert places(plane) == [(ip_address(old.nat), old.port)]


def test_the_log_names_both_and_their_nats() -> None:
    plane, (old, new) = hub(), fresh("in two homes with one address")
    registers(plane, old, 0.0)
    registers(plane, new, 10.0)

    events = [
        effect
        for now in (60.0, 61.0, 63.0, 67.0)
        for effect in plane.on_datagram(old.register(), now)
        if isinstance(effect, Event) and effect.kind == "duplicate"
    ]

    assert [event.fields["eid"] for event in events] == [str(EID)]
    assert f"behind {HOME}" in str(events[0].fields["text"])


def test_a_copy_behind_a_nat_of_a_machine_in_the_open_is_seen() -> None:
    plane, (old, _) = hub(), fresh("in two homes")
    open_one = xtr("198.18.7.7", xtr_id=ONE, nonces=count(3_600_000_000))
    registers(plane, old, 0.0)
    plane.on_datagram(open_one.register("10.1.0.1/32"), 10.0)

    refused = registers(plane, old, 60.0, 61.0, 63.0, 67.0)

    assert [answer for answer in refused if answer is not None] == [Sharing(("198.18.7.7",), is_refused=True)]


@pytest.mark.parametrize("name", COPIES)
def test_a_machine_that_carries_its_laptop_elsewhere_is_one(name: str) -> None:
    plane, (here, there) = hub(), fresh(name)
    late = [here.register() for _ in range(5)]
    registers(plane, here, 0.0)
    moved = Machine(there.private, there.nat, there.port, nonces=here.nonces)
    assert registers(plane, moved, 10.0) == [None]

    answers = [
        found
        for number, arrival in enumerate(late)
        for found in told(plane.on_datagram(arrival, 10.1 + number / 10), here)
    ]

    assert set(answers) <= {None}
    assert registers(plane, moved, 30.0, 50.0) == [None, None]
