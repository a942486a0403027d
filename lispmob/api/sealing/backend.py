"""What the control socket needs of the daemon for sealed data."""

from __future__ import annotations

from typing import Protocol

from lispmob.api.sealing.schema import Keys
from lispmob.wire.address import EidPrefix


class SealBackend(Protocol):
    """Called in the event loop."""

    def keys(self) -> Keys:
        """Our static key, and those of others."""

    def replace_key(self) -> Keys:
        """Draw another static key in place of ours. Raises ApiError where nothing is sealed, or it cannot be kept."""

    def rekey(self) -> int:
        """Make new keys for all sessions; how many there are. Raises ApiError where nothing is sealed."""

    def forget_key(self, prefix: EidPrefix) -> None:
        """Keep no key of this EID-Prefix any more. Raises ApiError when none is kept."""

    def accept_key(self, prefix: EidPrefix) -> None:
        """Use the new key of this EID-Prefix from now on. Raises ApiError when none waits."""
