"""The daemon's interface for the control socket about sealed data."""

from __future__ import annotations

from typing import Protocol

from lispmob.api.sealing.schema import Keys
from lispmob.wire.address import EidPrefix


class SealBackend(Protocol):
    """Called in the event loop."""

    def keys(self) -> Keys:
        """Our static key, and those of peers."""

    def replace_key(self) -> Keys:
        """Replace our static key. Raises ApiError if sealing is off, or the key cannot be stored."""

    def rekey(self) -> int:
        """Make new keys for all sessions; returns how many. Raises ApiError if sealing is off."""

    def forget_key(self, prefix: EidPrefix) -> None:
        """Forget the key of this EID-Prefix. Raises ApiError if none is stored."""

    def accept_key(self, prefix: EidPrefix) -> None:
        """Use the new key of this EID-Prefix from now on. Raises ApiError when none waits."""
