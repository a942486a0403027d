"""What the control socket needs of the daemon about peers and names."""

from __future__ import annotations

from typing import Protocol

from lispmob.api.peers.schema import KnownName, Names, Peer
from lispmob.api.turns import Pages


class PeerBackend(Protocol):
    """Called in the event loop. Raises ApiError."""

    def peers(self) -> Pages:
        """Everybody whom packets go to; with its pages put together it is a `peer_schema.Peers`."""

    async def peer(self, name_or_eid: str) -> Peer:
        """One of them. A name may have to be asked for, which takes a round trip."""

    def names(self) -> Names:
        """The domain, and the names that are known."""

    async def name(self, name_or_eid: str) -> KnownName:
        """Where a name leads, or which names an EID has; the mapping system is asked when that is not known."""
