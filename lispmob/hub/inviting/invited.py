"""The stored state of an invited site. hub.conf has the other sites."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lispmob.hub.map_server.site import Site
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key


@dataclass(frozen=True, slots=True)
class InvitedSite:
    """Times are in seconds since 1970. `key` is None until the invitation is redeemed.

    `question` is the digest of the message that redeemed it, and `answer` its answer, which may have been lost.
    """

    name: str
    eids: tuple[EidPrefix, ...]
    identifier: bytes
    secret: bytes = dataclasses.field(repr=False)
    invited_at: float
    expires_at: float
    key: bytes | None = dataclasses.field(default=None, repr=False)
    joined_at: float | None = None
    question: bytes | None = None
    answer: bytes | None = dataclasses.field(default=None, repr=False)

    def state(self, wall: float) -> str:
        """ "joined", "invited" or "expired"."""
        if self.key is not None:
            return "joined"
        return "invited" if wall < self.expires_at else "expired"

    def to_site(self) -> Site:
        """The site for the Map-Server; without a key it cannot be registered, but its EIDs are reserved."""
        keys = () if self.key is None else (Key(self.key),)
        return Site(self.name, self.eids, keys, names=(self.name,))
