"""A probe in a data packet from an RTR is answered in a data packet: that path was probed, and no other one is open.

RTR : 4341 -> NAT -> node     data header, Instance-ID 0xFFFFFF, IP, UDP, RLOC-probe
node -> NAT -> RTR : 4341     the same with the Map-Reply, from the port that data leaves from, to the port that gets it
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import DataPort, SendFromDataPort
from lispmob.natt.plan import NattPlan
from lispmob.protocol.effect import SendControl
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.ip_udp import build_ip_udp

E = TypeVar("E")

_HEADER = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()


def in_data(effects: Iterable[E], arrival: DataControl, plan: NattPlan) -> list[E | SendFromDataPort]:
    """The effects of a control message on the data port, with answers to its sender moved to the data port too."""
    uplink = next((planned for planned in plan.uplinks if planned.locator.address == arrival.outer_destination), None)
    if uplink is None or not uplink.relays:
        return list(effects)
    port = DataPort(uplink.data_port)
    known = (relay.port for relay in uplink.relays if arrival.outer_source in (relay.address, relay.rtr))
    there = next(known, DATA_PORT)
    return [_wrapped(effect, arrival, port, there) if _is_answer(effect, arrival) else effect for effect in effects]


def _is_answer(effect: object, arrival: DataControl) -> bool:
    place = arrival.source, arrival.source_port
    return isinstance(effect, SendControl) and (effect.destination, effect.port) == place


def _wrapped(effect: object, arrival: DataControl, port: DataPort, there: int) -> SendFromDataPort:
    assert isinstance(effect, SendControl)
    source, rtr = arrival.outer_destination, arrival.outer_source
    # The RTR knows an uplink that a translator brings to it by another name.
    known_as = source if source.version == rtr.version else arrival.destination
    inner = build_ip_udp(known_as, CONTROL_PORT, rtr, arrival.source_port, effect.payload)
    return SendFromDataPort(_HEADER + inner, rtr, there, source, arrival.ifindex, port)
