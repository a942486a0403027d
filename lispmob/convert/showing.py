"""The configuration as it takes effect: every key with its value, defaults included, and no secret."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from lispmob.config.eid import OwnEid
from lispmob.config.node import NodeFile
from lispmob.config.reader import Section, read_bytes
from lispmob.config.values import Secret, Text, short_duration
from lispmob.config.yaml_tree import Mapping, parse_yaml
from lispmob.convert.writing import scalar
from lispmob.hub.config import HubFile
from lispmob.wire.address import EidPrefix

NOT_SHOWN: Final = "(not shown)"


def read_ours(path: Path, raw: bytes) -> NodeFile | HubFile:
    """lispd.conf, or hub.conf: that is the one with sites or invitations. Raises ConfigError."""
    root = parse_yaml(raw, str(path))
    is_hub = isinstance(root, Mapping) and any(key.text in ("sites", "invitations") for key, _ in root.entries)
    if is_hub:
        return read_bytes(raw, str(path), HubFile, directory=path.parent)
    return read_bytes(raw, str(path), NodeFile, directory=path.parent)


def effective(file: Section) -> tuple[str, dict[str, Any]]:
    """The text for people, which is YAML, and the same as a JSON value."""
    tree = section_tree(file)
    return "\n".join(_yaml(tree, 0)), tree


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
    """The word that stands for None, such as auto; None when the key is simply absent."""
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
        return {"prefix": prefix, "uplinks": [section_tree(one) for one in value.uplinks]} if value.uplinks else prefix
    if isinstance(value, EidPrefix):
        return str(value)
    if isinstance(value, tuple | list):
        return [_shown(one, name) for one in value]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short_duration(value) if name.endswith("_s") else value
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | str) else str(value)


def _yaml(tree: dict[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value in tree.items():
        if value == NOT_SHOWN:
            yield f"{indent}# {name}: {NOT_SHOWN}"
        elif isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _yaml(value, depth + 1)
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            yield f"{indent}{name}:"
            for one in value:
                yield from _item(one, depth + 1)
        elif isinstance(value, list):
            yield f"{indent}{name}: [{', '.join(_plain(one) for one in value)}]"
        else:
            yield f"{indent}{name}: {_plain(value)}"


def _item(value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if not isinstance(value, dict):
        yield f"{indent}- {_plain(value)}"
        return
    lines = list(_yaml(value, depth + 1))
    if lines and not lines[0].lstrip().startswith("#"):
        yield f"{indent}- {lines.pop(0).lstrip()}"
    else:
        yield f"{indent}-"
    yield from lines


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    return value if value in ("yes", "no") else str(value) if isinstance(value, int | float) else scalar(str(value))
