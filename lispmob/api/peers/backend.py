"""The daemon's interface for the control socket about peers and names."""

from __future__ import annotations

from typing import Protocol

from lispmob.api.peers.schema import KnownName, Names, Peer
from lispmob.api.turns import Pages


class PeerBackend(Protocol):
    """Called in the event loop. Raises ApiError."""

    def peers(self) -> Pages:
        """All peers with traffic; the pages together are a `peer_schema.Peers`."""

    async def peer(self, name_or_eid: str) -> Peer:
        """One of them. A name may have to be asked for, which takes a round trip."""

    def names(self) -> Names:
        """The domain, and the names that are known."""

    async def name(self, name_or_eid: str) -> KnownName:
        """The EIDs of a name, or the names of an EID; an unknown one is looked up."""
