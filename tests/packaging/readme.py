"""The commands of README.md, as a user would type them."""

from __future__ import annotations

import re
from typing import Final

from tests.packaging.machine import ROOT

_BLOCK: Final = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(chapter: str) -> list[list[str]]:
    """The blocks of commands in this chapter, without comments, one command a line."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (_, found), *more = re.findall(rf"^(## {re.escape(chapter)}\n)(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert not more, f"the chapter {chapter!r} is there more than once"
    return [_commands(block) for block in _BLOCK.findall(found)]


def _commands(block: str) -> list[str]:
    return [command for line in block.splitlines() if (command := re.sub(r"\s+#.*", "", line).strip())]
