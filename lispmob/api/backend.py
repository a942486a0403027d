"""The daemon's interface for the control socket: queries and changes, grouped by subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from lispmob.api.mapping.backend import MappingBackend, StaticLocator
from lispmob.api.peers.backend import PeerBackend
from lispmob.api.schema import (
    DatabaseEntry,
    ErrorCode,
    Handover,
    Lookup,
    NetCheck,
    Path,
    Reloaded,
    Status,
    Uplink,
)
from lispmob.api.sealing.backend import SealBackend
from lispmob.api.steering.backend import SteeringBackend
from lispmob.api.turns import Pages
from lispmob.api.upkeep.backend import UpkeepBackend
from lispmob.errors import LispError
from lispmob.wire.address import EidPrefix, IpAddress


class ApiError(LispError):
    """A request that cannot be done; reaches the client as it is. A Backend may raise it from every method."""

    def __init__(self, code: ErrorCode, message: str, errno: str | None = None) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.errno = errno


class Backend(Protocol):
    """Called in the event loop, so nothing here may block. The arguments are checked already.

    Each subject has a group of its own.
    """

    @property
    def steering(self) -> SteeringBackend:
        """How flows are steered."""

    @property
    def mappings(self) -> MappingBackend:
        """Mappings, for programs."""

    @property
    def upkeep(self) -> UpkeepBackend:
        """For administrators of the node."""

    @property
    def seals(self) -> SealBackend:
        """Sealed data."""

    @property
    def peers(self) -> PeerBackend:
        """Peers and names."""

    def version(self) -> str:
        """The version of the running program."""

    def status(self) -> Status:
        """Everything at a glance."""

    def uplinks(self) -> Sequence[Uplink]:
        """The uplinks, those not used included."""

    def netcheck(self) -> Sequence[NetCheck]:
        """What is between each address and the Internet."""

    def map_cache(self) -> Pages:
        """The map-cache; with its pages put together it is a `schema.MapCache`."""

    def database(self) -> Sequence[DatabaseEntry]:
        """Our own mappings."""

    def paths(self) -> Sequence[Path]:
        """Every pair of a local locator and a remote one in use."""

    def handovers(self) -> Sequence[Handover]:
        """The latest moves, oldest first."""

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Counters by group, such as {"control": {"rx_auth": 0}, "datapath": {...}}."""

    def lookup(self, eid: IpAddress, instance_id: int) -> Lookup:
        """What would happen to a packet to `eid`; sends no request."""

    def map_cache_add(
        self, prefix: EidPrefix, locators: Sequence[StaticLocator], action: Literal["drop", "native"]
    ) -> None:
        """Add or replace a static mapping."""

    def map_cache_delete(self, prefix: EidPrefix) -> bool:
        """Remove one mapping. False when there is none of exactly this prefix."""

    async def map_cache_flush(self) -> int:
        """Remove every mapping that was learned; static ones stay. Returns how many went."""

    def nudge(self) -> bool:
        """Look at the network: now (True), or in a moment when that was just done."""

    async def reload(self) -> Reloaded:
        """Read the configuration again. Raises ConfigError, and keeps the old one, when it has errors."""
