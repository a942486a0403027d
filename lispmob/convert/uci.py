"""OpenWrt's UCI (`config 'section'`, `option 'name' 'value'`, `list 'name' 'value'`) in libconfuse's structure. Pure.

UCI has no nested sections. This parser restores the blocks and lists that the other formats nest.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

from lispmob.convert.tree import MAX_MISTAKES, Block, Item, Mistake, OldFile, Setting, plain_name

_TOP: Final = ("daemon", "ms-basic", "mr-basic", "ddt-node-basic")
"""Sections whose settings the other formats have at the top level."""
_ONE_VALUE: Final = {"encapsulation": "type", "ddt-client": "enabled", "ms-advertised-rtrs-set": "name"}
"""Sections that stand for a setting, and the option that holds its value."""
_LISTS: Final = {
    "map-resolver": "map-resolver",
    "proxy-itr": "proxy-itrs",
    "ddt-root-addresses": "ddt-root-addresses",
    "allowed-dst-eids": "allowed-dst-eids",
}
"""Sections of addresses that stand for a list."""
_MAPPINGS: Final = ("database-mapping", "static-map-cache", "ms-static-registered-site")
"""Sections that name a set of locators."""
_RLOCS: Final = ("rloc-iface", "rloc-address")


def parse_uci(text: str) -> OldFile:
    """Read a file in this format."""
    mistakes: list[Mistake] = []
    sections = _sections(text, mistakes)
    return OldFile("uci", Block("", tuple(_shaped(sections, mistakes)), 1), tuple(mistakes[:MAX_MISTAKES]))


def _sections(text: str, mistakes: list[Mistake]) -> list[Block]:
    sections: list[Block] = []
    items: list[Setting] = []
    for line, raw in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(raw, comments=True)
        except ValueError:
            mistakes.append(Mistake(line, "a quote is opened and not closed"))
            continue
        if not words or words[0] == "package":
            continue
        if words[0] == "config" and len(words) in (2, 3):
            items = []
            sections.append(Block(plain_name(words[1]), (), line))
        elif words[0] in ("option", "list") and len(words) == 3:
            _add(items, Setting(plain_name(words[1]), (words[2],), line), is_list=words[0] == "list")
            if not sections:
                mistakes.append(Mistake(line, f"'{words[0]}' before the first 'config'"))
                continue
            sections[-1] = Block(sections[-1].name, tuple(items), sections[-1].line)
        else:
            mistakes.append(Mistake(line, "neither config SECTION nor option NAME VALUE nor list NAME VALUE"))
    return sections


def _add(items: list[Setting], one: Setting, *, is_list: bool) -> None:
    """Add an option to its section, or another value to one of its lists."""
    place = next((place for place, item in enumerate(items) if item.name == one.name), None) if is_list else None
    if place is None:
        items.append(one)
    else:
        items[place] = Setting(one.name, items[place].values + one.values, items[place].line)


def _shaped(sections: list[Block], mistakes: list[Mistake]) -> Iterable[Item]:
    named = {setting.text: block for block in sections if block.name in _RLOCS for setting in block.settings("name")}
    sets = {setting.text: block for block in sections if block.name == "rloc-set" for setting in block.settings("name")}
    for block in sections:
        if block.name in _TOP:
            yield from block.items
        elif block.name in _ONE_VALUE:
            yield from (
                Setting(block.name, setting.values, setting.line) for setting in block.settings(_ONE_VALUE[block.name])
            )
        elif block.name in _LISTS:
            found = list(block.settings("address"))
            values = tuple(value for setting in found for value in setting.values)
            yield Setting(_LISTS[block.name], values, found[0].line if found else block.line)
        elif block.name in _MAPPINGS:
            yield _with_rlocs(block, sets, named, mistakes)
        elif block.name == "rtr-iface":
            yield Block("rtr-ifaces", (block,), block.line)
        elif block.name != "rloc-set" and block.name not in _RLOCS:
            yield block


def _with_rlocs(block: Block, sets: dict[str, Block], named: dict[str, Block], mistakes: list[Mistake]) -> Block:
    """The mapping with the locators of its rloc-set inside."""
    items: list[Item] = [item for item in block.items if item.name != "rloc-set"]
    for setting in block.settings("rloc-set"):
        if (chosen := sets.get(setting.text)) is None:
            mistakes.append(Mistake(setting.line, "rloc-set: there is no section of this name"))
            continue
        members = [(member.line, value) for member in chosen.settings("rloc-name") for value in member.values]
        for line, value in members:
            if (rloc := named.get(value)) is None:
                mistakes.append(Mistake(line, "rloc-name: there is no rloc-iface or rloc-address of this name"))
            else:
                kept = tuple(item for item in rloc.items if item.name != "name")
                items.append(Block(rloc.name, kept, rloc.line))
    return Block(block.name, tuple(items), block.line)
