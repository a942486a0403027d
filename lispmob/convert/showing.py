"""Prints a configuration as it takes effect, as YAML: every key, with defaults, without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lispmob.config.node import NodeFile
from lispmob.config.reader import Section, read_bytes
from lispmob.config.shown import NOT_SHOWN, section_tree
from lispmob.config.yaml_tree import Mapping, parse_yaml
from lispmob.convert.writing import scalar
from lispmob.hub.config import HubFile


def read_ours(path: Path, raw: bytes) -> NodeFile | HubFile:
    """Read lispd.conf or hub.conf; hub.conf has sites or invitations. Raises ConfigError."""
    root = parse_yaml(raw, str(path))
    is_hub = isinstance(root, Mapping) and any(key.text in ("sites", "invitations") for key, _ in root.entries)
    if is_hub:
        return read_bytes(raw, str(path), HubFile, directory=path.parent)
    return read_bytes(raw, str(path), NodeFile, directory=path.parent)


def effective(file: Section) -> tuple[str, dict[str, Any]]:
    """The text for users, which is YAML, and the same as a JSON value."""
    tree = section_tree(file)
    return "\n".join(_yaml(tree, 0)), tree


def _yaml(tree: dict[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value in tree.items():
        if value == NOT_SHOWN:
            yield f"{indent}# {name}: {NOT_SHOWN}"
        elif isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _yaml(value, depth + 1)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield f"{indent}{name}:"
            for item in value:
                yield from _item(item, depth + 1)
        elif isinstance(value, list):
            yield f"{indent}{name}: [{', '.join(_plain(item) for item in value)}]"
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
