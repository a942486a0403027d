"""The part of the state file that is not in memory yet, for a hub that serves while it reads (port)."""

from __future__ import annotations

from typing import Protocol

from lispmob.wire.address import EidPrefix


class Unread(Protocol):
    """Finds single rows of a state file that is being read in slices."""

    def nonce(self, owner: str, name: bytes) -> bytes | None:
        """The count of a name under a key; None if there is none."""

    def registrations(self, asked: EidPrefix) -> list[tuple[EidPrefix, tuple[bytes, ...]]]:
        """The registrations of an EID-Prefix, and of those that hold it."""
