"""What the NAT machines ask for beyond `protocol/effect.py`, and what they report to one another. Frozen values."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from lispmob.natt.plan import NattPlan
from lispmob.protocol.effect import Count, Event, InstallMapping, RemoveMapping, SendControl, WayAnswered
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress


class DataPort(Enum):
    """Which source port the data of an uplink has. Behind a NAT it is always the same one: it owns the binding."""

    POOL = "pool"  # no NAT: any port, spread over the flows
    FIXED = "fixed"  # 4341, where inbound data comes to as well
    EPHEMERAL = "ephemeral"  # one port per uplink that the kernel chose, never 4341, and that receives too


class SendFromDataPort(msgspec.Struct, frozen=True):
    """Send one UDP datagram from the port that this uplink's data leaves from and comes back to."""

    payload: bytes
    destination: IpAddress
    port: int
    source: IpAddress
    ifindex: int = 0
    data_port: DataPort = DataPort.FIXED


class Reach(Enum):
    """What an uplink's address is worth to the rest of the world."""

    UNKNOWN = "unknown"  # not asked yet, or nobody who could tell has answered
    DIRECT = "direct"  # the Map-Server sees the address and port that we sent from
    TRANSLATED = "nat"  # it sees others


class ServiceFound(msgspec.Struct, frozen=True):
    """A Map-Server answered an Info-Request for the first time: uplinks that held back may ask now."""

    server: IpAddress


class RelayConfirmed(msgspec.Struct, frozen=True):
    """The Map-Server holds the mapping that was sent through an RTR, and the RTR knows how to reach this uplink.

    `problem`: what is wrong with it all the same, for people.
    """

    eid: EidPrefix
    map_server: IpAddress
    rtr: IpAddress
    tries: int
    rtt_s: float
    local: LocalLocator
    problem: str = ""


class PlanChanged(msgspec.Struct, frozen=True):
    """Registrations, forwarding and uplinks have to follow another plan from now on."""

    plan: NattPlan


class AskFailed(msgspec.Struct, frozen=True):
    """Nobody could tell what this uplink's address is worth. `server` had its chance."""

    server: MapServerPeer


class LifeSignWanted(msgspec.Struct, frozen=True):
    """Send the ordinary Map-Register to this Map-Server again: did the Info-Request get lost, or kill it?"""

    server: IpAddress


class AskAgain(msgspec.Struct, frozen=True):
    """What the Map-Server saw of this uplink may be true no more."""

    address: IpAddress


class WayPast(msgspec.Struct, frozen=True):
    """A host behind a NAT has shown that it reaches us past its RTR: its data may come from this address, too."""

    eid: EidPrefix
    rloc: IpAddress


NattEffect: TypeAlias = (
    SendControl
    | SendFromDataPort
    | Event
    | Count
    | PlanChanged
    | LifeSignWanted
    | InstallMapping
    | RemoveMapping
    | WayPast
    | WayAnswered
)
"""What leaves `Traversal`."""

UplinkEffect: TypeAlias = NattEffect | ServiceFound | RelayConfirmed | AskFailed | AskAgain
"""What leaves the machine of one uplink; `Traversal` routes the additional kinds."""
