"""Effects of the NAT machines beside those of `protocol/effect.py`, and their reports to each other. Frozen values."""

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
    """The source port of an uplink's data. Behind a NAT it is always the same: the binding belongs to it."""

    POOL = "pool"  # no NAT: any port, spread over the flows
    FIXED = "fixed"  # 4341, which also receives data
    EPHEMERAL = "ephemeral"  # one port per uplink, chosen by the kernel, never 4341; it also receives


class SendFromDataPort(msgspec.Struct, frozen=True):
    """Send one UDP datagram from the port that sends and receives this uplink's data."""

    payload: bytes
    destination: IpAddress
    port: int
    source: IpAddress
    ifindex: int = 0
    data_port: DataPort = DataPort.FIXED


class Reach(Enum):
    """Whether the rest of the world can use an uplink's address."""

    UNKNOWN = "unknown"  # not asked yet, or not answered
    DIRECT = "direct"  # the Map-Server sees the address and port that we sent from
    TRANSLATED = "nat"  # it sees others


class ServiceFound(msgspec.Struct, frozen=True):
    """A Map-Server answered an Info-Request for the first time: uplinks that held back may ask now."""

    server: IpAddress


class RelayConfirmed(msgspec.Struct, frozen=True):
    """The Map-Server holds the mapping that was sent through an RTR, and the RTR can reach this uplink.

    `problem`: a remaining problem, for display.
    """

    eid: EidPrefix
    map_server: IpAddress
    rtr: IpAddress
    tries: int
    rtt_s: float
    local: LocalLocator
    problem: str = ""


class PlanChanged(msgspec.Struct, frozen=True):
    """Registrations, forwarding and uplinks must follow the new plan from now on."""

    plan: NattPlan


class AskFailed(msgspec.Struct, frozen=True):
    """No server could tell how the Internet sees this uplink's address. `server` was asked last."""

    server: MapServerPeer


class LifeSignWanted(msgspec.Struct, frozen=True):
    """Send the ordinary Map-Register to this Map-Server again, to see whether the Info-Request crashed it."""

    server: IpAddress


class AskAgain(msgspec.Struct, frozen=True):
    """The last Info-Reply about this uplink may be outdated."""

    address: IpAddress


class DataSuspect(msgspec.Struct, frozen=True):
    """An RTR does not get data from this address, which is in the open. Ask peers whether they do."""

    address: IpAddress


class DirectPathProven(msgspec.Struct, frozen=True):
    """A host behind a NAT has proven a direct path to us: accept its data from this address too."""

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
    | DirectPathProven
    | DataSuspect
    | WayAnswered
)
"""The effects that leave `Traversal`."""

UplinkEffect: TypeAlias = NattEffect | ServiceFound | RelayConfirmed | AskFailed | AskAgain
"""The effects of one uplink's machine; `Traversal` routes the additional kinds."""
