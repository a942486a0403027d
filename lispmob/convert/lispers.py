"""The format of lispers.net's lisp.config. Pure.

    lisp map-server {
        dns-name = ms.example.net
    }

A line holds one statement. Only the lines between the first two dotted lines count. A value is the rest of its line,
and may be empty. A `#` in the first column begins a comment.
"""

from __future__ import annotations

import re
from typing import Final

from lispmob.convert.tree import MAX_DEPTH, MAX_MISTAKES, Block, Item, Mistake, OldFile, Setting, plain_name

_RULE: Final = re.compile(r"#-{8,}\s*$")
_COMMAND: Final = re.compile(r"lisp\s+([\w-]+)\s*\{\s*$")
_OPEN: Final = re.compile(r"([\w-]+)\s*\{\s*$")
_SETTING: Final = re.compile(r"([\w-]+)\s*=\s*(.*)$")


def parse_lispers(text: str) -> OldFile:
    """Read a file in this format."""
    mistakes: list[Mistake] = []
    root: list[Item] = []
    stack: list[tuple[str, int, list[Item]]] = [("", 1, root)]
    for line, statement in _lines(text):
        if statement == "}":
            if len(stack) == 1:
                mistakes.append(Mistake(line, "'}' without a '{'"))
                continue
            name, opened, items = stack.pop()
            stack[-1][2].append(Block(name, tuple(items), opened))
        elif found := (_COMMAND if len(stack) == 1 else _OPEN).match(statement):
            if len(stack) > MAX_DEPTH:
                mistakes.append(Mistake(line, f"nested deeper than {MAX_DEPTH} levels"))
                break
            stack.append((plain_name(found[1]), line, []))
        elif (found := _SETTING.match(statement)) and len(stack) > 1:
            values = (found[2].strip(),) if found[2].strip() else ()
            stack[-1][2].append(Setting(plain_name(found[1]), values, line))
        else:
            what = "lisp COMMAND {" if len(stack) == 1 else "NAME = VALUE, NAME { or }"
            mistakes.append(Mistake(line, f"not {what}"))
    for name, opened, items in reversed(stack[1:]):
        mistakes.append(Mistake(opened, f"{name}: this '{{' is never closed"))
        root.append(Block(name, tuple(items), opened))
    return OldFile("lispers.net", Block("", tuple(root), 1), tuple(mistakes[:MAX_MISTAKES]))


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines that count, with their numbers."""
    numbered = list(enumerate(text.splitlines(), 1))
    rules = [number for number, line in numbered if _RULE.match(line)]
    if rules:
        end = rules[1] if len(rules) > 1 else len(numbered) + 1
        numbered = numbered[rules[0] : end - 1]
    return [(number, line.strip()) for number, line in numbered if line.strip() and not line.startswith("#")]
