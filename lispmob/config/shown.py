"""A configuration as values for display and JSON: keys as in the file, defaults included, without secrets.

Used for `lispctl config show` and for the configuration in use (`bugreport`).
"""

from __future__ import annotations

import typing
from typing import Annotated, Any, Final

import msgspec

from lispmob.config.eid import OwnEid
from lispmob.config.reader import Section
from lispmob.config.values import Secret, Text, short_duration
from lispmob.mh.policy import MarkMask, Via
from lispmob.wire.address import EidPrefix

NOT_SHOWN: Final = "(not shown)"


def section_tree(section: Section) -> dict[str, Any]:
    """Keys to values, as the file would have them. Keys without a value (None) are left out."""
    hints = typing.get_type_hints(type(section), include_extras=True)
    tree = {}
    for field in msgspec.structs.fields(type(section)):
        value = getattr(section, field.name)
        shown = _word_of(hints[field.name]) if value is None else _shown(value, field.name)
        if shown is not None:
            tree[field.encode_name] = shown
    return tree


def _word_of(hint: Any) -> str | None:
    """The word for None, such as auto; None if the key is simply absent."""
    if typing.get_origin(hint) is not Annotated or not isinstance(text := typing.get_args(hint)[1], Text):
        return None
    word, is_choice, _ = text.accepts.partition(" or ")
    return word if is_choice and word.isalpha() else None


def _shown(value: Any, name: str) -> Any:
    if isinstance(value, Secret):
        return NOT_SHOWN
    if isinstance(value, Section):
        return section_tree(value)
    if isinstance(value, OwnEid):
        prefix = str(value.prefix)
        return (
            {"prefix": prefix, "uplinks": [section_tree(uplink) for uplink in value.uplinks]}
            if value.uplinks
            else prefix
        )
    if isinstance(value, EidPrefix):
        return str(value)
    if isinstance(value, Via):
        return {"name": value.pattern, "weight": value.weight} if value.weight else value.pattern
    if isinstance(value, MarkMask):
        return hex(value.bits)
    if isinstance(value, tuple | list):
        return [_shown(item, name) for item in value]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short_duration(value) if name.endswith("_s") else value
    if isinstance(value, bytes):
        return value.hex()
    return value if type(value) in (int, str) else str(value)  # the name of a server is a text type of its own
