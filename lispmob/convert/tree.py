"""What the languages of old configurations have in common: settings and blocks, each with its line.

Names are in lower case and with hyphens, whatever the file has (`eid_prefix`, `EID-Prefix`): libconfuse does not tell
them apart, and OpenWrt's files have underscores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

MAX_OCTETS: Final = 1 << 20  # ours: a thousand times the longest file that was ever seen
MAX_DEPTH: Final = 8  # ours: the languages need three
MAX_MISTAKES: Final = 50  # ours: more help nobody


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong in a line of the file; 0: in all of it."""

    line: int
    text: str


class Setting(msgspec.Struct, frozen=True):
    """`name = value` or `name = {a, b}`. Values may be secrets: repr does not show them."""

    name: str
    values: tuple[str, ...]
    line: int

    def __repr__(self) -> str:
        return f"Setting({self.name!r}, line {self.line}, not shown)"

    @property
    def text(self) -> str:
        """The last value: where a name stands twice, libconfuse takes the last; "" for none."""
        return self.values[-1] if self.values else ""


class Block(msgspec.Struct, frozen=True):
    """`name { ... }`, in the order of the file."""

    name: str
    items: tuple[Item, ...]
    line: int

    def blocks(self, *names: str) -> Iterator[Block]:
        """The blocks of these names directly inside."""
        return (item for item in self.items if isinstance(item, Block) and item.name in names)

    def settings(self, *names: str) -> Iterator[Setting]:
        """The settings of these names directly inside."""
        return (item for item in self.items if isinstance(item, Setting) and item.name in names)


Item: TypeAlias = Setting | Block


class OldFile(msgspec.Struct, frozen=True):
    """A file as its grammar has it. `language`: confuse, uci or lispers.net."""

    language: str
    root: Block
    mistakes: tuple[Mistake, ...]


def plain_name(text: str) -> str:
    """A name as we compare it."""
    return text.lower().replace("_", "-")
