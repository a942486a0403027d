"""The remarks of a conversion: notes for the new file, mistakes of the old file, and what the user has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.wire.address import IpAddress

NOTE_LIMIT: Final = 1000  # ours: a file of a megabyte must not grow to a hundred

RemarkKind: TypeAlias = Literal["note", "mistake", "refused"]
"""note: no counterpart. mistake: unreadable, and left out. refused: unsafe, so that the user has to act."""

Resolve: TypeAlias = Callable[[str], Iterable[IpAddress]]
"""The addresses of a host name; none when DNS does not know it."""
InterfaceOf: TypeAlias = Callable[[IpAddress], str | None]
"""The interface of this host that has an address; None if there is none."""


class Remark(msgspec.Struct, frozen=True):
    """A remark about a line of the old file.

    `place`: the key of the new file above which it is written; "": the top.
    """

    kind: RemarkKind
    line: int
    text: str
    place: str = ""


_AND_MORE: Final = Remark("note", 0, f"beyond {NOTE_LIMIT} remarks, what has no counterpart is no longer listed")


class Report:
    """The remarks of a conversion, in the order of the lines."""

    def __init__(self) -> None:
        self._remarks: dict[Remark, None] = {}

    def note(self, line: int, text: str, place: str = "") -> None:
        """Add a remark about a setting without counterpart in the new file."""
        self._add(Remark("note", line, text, place))

    def mistake(self, line: int, text: str, place: str = "") -> None:
        """Add a remark about a setting that is unreadable and left out."""
        self._add(Remark("mistake", line, text, place))

    def refuse(self, line: int, text: str, place: str = "") -> None:
        """Add a remark about a setting that is left out because it is unsafe or unknown; the user has to act."""
        self._add(Remark("refused", line, text, place))

    def _add(self, remark: Remark) -> None:
        if remark.kind != "note" or len(self._remarks) < NOTE_LIMIT:
            self._remarks[remark] = None
        else:
            self._remarks[_AND_MORE] = None

    @property
    def remarks(self) -> list[Remark]:
        """All remarks, by line."""
        return sorted(self._remarks, key=lambda remark: remark.line)

    def about(self, *kinds: RemarkKind) -> list[Remark]:
        """The remarks of these kinds."""
        return [remark for remark in self.remarks if remark.kind in kinds]
