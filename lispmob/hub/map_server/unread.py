"""What the state file still holds that is not in memory yet, for a hub that serves while it reads (port)."""

from __future__ import annotations

from typing import Protocol

from lispmob.wire.address import EidPrefix


class Unread(Protocol):
    """Finds single rows of a state file that is read in slices meanwhile."""

    def nonce(self, owner: str, name: bytes) -> bytes | None:
        """The count of a name under a key; None when there is none."""

    def registrations(self, asked: EidPrefix) -> list[tuple[EidPrefix, tuple[bytes, ...]]]:
        """What is registered for an EID-Prefix, or for one that holds it."""
