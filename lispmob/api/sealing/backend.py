"""What the control socket needs of the daemon for sealed data."""

from __future__ import annotations

from typing import Protocol

from lispmob.api.sealing.schema import Keys
from lispmob.wire.address import EidPrefix


class SealBackend(Protocol):
    """Called in the event loop."""

    def keys(self) -> Keys:
        """Our static key, and those of others."""

    def accept_key(self, prefix: EidPrefix) -> None:
        """Use the new key of this EID-Prefix from now on. Raises ApiError when none waits."""
