"""What the old formats have in common: settings and blocks, each with its line.

Names are in lower case and with hyphens, whatever the file has (`eid_prefix`, `EID-Prefix`): libconfuse does not
distinguish them, and OpenWrt's files have underscores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

MAX_OCTETS: Final = 1 << 20  # ours: a thousand times the longest known file
MAX_DEPTH: Final = 8  # ours: the formats need three
MAX_MISTAKES: Final = 50  # ours: a longer list helps no user


class Mistake(msgspec.Struct, frozen=True):
    """A mistake in a line of the file; line 0: in the whole file."""

    line: int
    text: str


class Setting(msgspec.Struct, frozen=True):
    """`name = value` or `name = {a, b}`. Values may be secrets, so repr does not show them."""

    name: str
    values: tuple[str, ...]
    line: int

    def __repr__(self) -> str:
        return f"Setting({self.name!r}, line {self.line}, not shown)"

    @property
    def text(self) -> str:
        """The last value: libconfuse uses the last one if a name is repeated; "" if there is none."""
        return self.values[-1] if self.values else ""


class Block(msgspec.Struct, frozen=True):
    """`name { ... }`, in the order of the file."""

    name: str
    items: tuple[Item, ...]
    line: int

    def blocks(self, *names: str) -> Iterator[Block]:
        """The blocks with these names directly inside."""
        return (item for item in self.items if isinstance(item, Block) and item.name in names)

    def settings(self, *names: str) -> Iterator[Setting]:
        """The settings with these names directly inside."""
        return (item for item in self.items if isinstance(item, Setting) and item.name in names)


Item: TypeAlias = Setting | Block


class OldFile(msgspec.Struct, frozen=True):
    """A parsed file. `language`: confuse, uci or lispers.net."""

    language: str
    root: Block
    mistakes: tuple[Mistake, ...]


def plain_name(text: str) -> str:
    """A name in the form in which names are compared."""
    return text.lower().replace("_", "-")
