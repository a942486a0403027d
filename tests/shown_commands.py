"""The commands that README.md and docs/ show."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAMS: Final = ("lispctl", "lig", "lisp-echo", "lispflow", "lispd", "lisphub")
_PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "bench" / "README.md")
_BLOCK: Final = re.compile(r"^```(?!mermaid)[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(rf"`((?:{'|'.join(PROGRAMS)})\s[^`]+)`")
_LINE: Final = re.compile(rf"\s*(?:sudo )?(?:/\S*/)?((?:{'|'.join(PROGRAMS)})\s.*)")


@dataclass(frozen=True)
class Shown:
    """One command. `is_typed`: it is on a line of its own in a block, so a reader can copy it."""

    page: str
    line: str
    is_typed: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The words into which a shell splits it."""
        return tuple(shlex.split(self.line, comments=True))


def shown_commands() -> list[Shown]:
    """Each command once, in the order of the pages."""
    found: dict[str, Shown] = {}
    for path in _PAGES:
        page, text = path.name, path.read_text(encoding="utf-8")
        for block in _BLOCK.findall(text):
            for line in block.splitlines():
                if (typed := _LINE.fullmatch(line)) is not None:
                    _keep(found, Shown(page, typed[1], is_typed=True))
        for command in _INLINE.findall(_BLOCK.sub("", text)):
            _keep(found, Shown(page, " ".join(command.split()), is_typed=False))
    return list(found.values())


def _keep(found: dict[str, Shown], shown: Shown) -> None:
    known = found.get(" ".join(shown.words))
    if known is None or (shown.is_typed and not known.is_typed):
        found[" ".join(shown.words)] = shown
