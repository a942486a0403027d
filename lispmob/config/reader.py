"""Configuration files to frozen structs: one walk over the file, led by the schema, that reports every error at once.

`read_yaml(path, schema)` is the whole face. A schema is a `Section` (a `msgspec.Struct`); its fields are typed with the
value types of `values.py`, other sections, `tuple[X, ...]`, or any of these `| None`. Each error is one line,
`lispd.conf:12:9: uplinks[0].priority: 300 is not 0 to 255`; all lines together are the text of one ConfigError.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from lispmob.config.values import FieldError, Secret, Text
from lispmob.config.yaml_tree import Mapping, Node, Place, Scalar, Sequence, parse_yaml, show
from lispmob.errors import ConfigError

MAX_ERRORS: Final = 20  # ours: more lines are no help


class Section(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """Base of every mapping in a configuration file. `__post_init__` may raise FieldError or ValueError."""


S = TypeVar("S", bound=Section)


def read_yaml(path: Path, schema: type[S]) -> S:
    """Read the file at `path`. Raises ConfigError, whose text names file (as given), line, column and key."""
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "; it holds keys: read it as root, with sudo" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{path}: cannot read the file: {reason}{hint}") from None
    return read_bytes(raw, str(path), schema, directory=path.parent)


def read_bytes(raw: bytes, name: str, schema: type[S], *, directory: Path) -> S:
    """Like read_yaml for octets at hand; relative paths inside count from `directory`."""
    root = parse_yaml(raw, name)
    if root is None or (isinstance(root, Scalar) and root.is_empty):
        raise ConfigError(f"{name}: the file is empty; the keys that are needed: {', '.join(_required(schema))}")
    walk = _Walk(directory)
    value = walk.section(root, schema, "")
    if walk.errors:
        lines = [f"{name}:{place.line}:{place.column}: {text}" for place, text in walk.errors[:MAX_ERRORS]]
        if len(walk.errors) > MAX_ERRORS:
            lines.append(f"{name}: and {len(walk.errors) - MAX_ERRORS} more")
        raise ConfigError("\n".join(lines))
    return typing.cast(S, value)


_FAILED: Final = object()  # marks a value that could not be read: the error is recorded, the walk continues


class _Walk:
    def __init__(self, directory: Path) -> None:
        self.errors: list[tuple[Place, str]] = []
        self._directory = directory

    def _fail(self, place: Place, path: str, why: str) -> object:
        self.errors.append((place, f"{path}: {why}" if path else why))
        return _FAILED

    def value(self, node: Node, hint: Any, path: str) -> object:
        """Convert one node to the type that `hint` names."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return self._text(node, arguments[1], path)
        if origin in (typing.Union, types.UnionType):
            return self.value(node, next(a for a in arguments if a is not type(None)), path)
        if origin is tuple:
            return self._list(node, arguments[0], path)
        assert isinstance(hint, type), hint
        assert issubclass(hint, Section), hint
        return self.section(node, hint, path)

    def _list(self, node: Node, item: Any, path: str) -> object:
        if not isinstance(node, Sequence):
            return self._fail(node.place, path, f"{_kind(node)} where a list is expected; begin each entry with '- '")
        values = [self.value(child, item, f"{path}[{index}]") for index, child in enumerate(node.items)]
        return _FAILED if any(value is _FAILED for value in values) else tuple(values)

    def _text(self, node: Node, text: Text, path: str) -> object:
        if text.mapping is not None and isinstance(node, Mapping):
            section = self.section(node, text.mapping, path)
            return section if section is _FAILED else text.from_mapping(section)
        if not isinstance(node, Scalar):
            return self._fail(node.place, path, f"{_kind(node)} where {text.accepts} is expected")
        if node.is_empty:
            return self._fail(node.place, path, f"no value; expected is {text.accepts}")
        try:
            value = text.read(node.text, self._directory)
            if isinstance(value, Secret):
                value.cut_short = node.cut_short
            return value
        except FieldError as bad:
            return self._fail(node.place, path, str(bad))
        except ValueError as error:
            shown = "the value (not shown)" if text.is_secret else show(node.text)
            return self._fail(node.place, path, f"{shown} is not {str(error) or text.accepts}")

    def section(self, node: Node, schema: type[Section], path: str) -> object:
        """Convert a mapping to a struct; unknown and missing keys are errors."""
        if not isinstance(node, Mapping):
            return self._fail(node.place, path, f"{_kind(node)} where 'key: value' lines are expected{_example(node)}")
        hints, fields = _fields_of(schema)
        values: dict[str, object] = {}
        for key, child in node.entries:
            here = f"{path}.{key.text}" if path else key.text
            field = fields.get(key.text)
            if field is None:
                unknown = f"{path}.{show(key.text)}" if path else show(key.text)
                self._fail(key.place, unknown, _unknown_key(key.text, list(fields)))
            elif not (_is_absent(child) and not field.required and not _is_text(hints[field.name])):
                values[field.name] = self.value(child, hints[field.name], here)
        given = {key.text for key, _ in node.entries}
        missing = [name for name, field in fields.items() if field.required and name not in given]
        for name in missing:
            self._fail(node.place, path, f"the key '{name}' is missing")
        if missing or any(value is _FAILED for value in values.values()):
            return _FAILED
        try:
            return schema(**values)
        except FieldError as bad:
            where = f"{path}.{bad.key}" if path and bad.key else bad.key or path
            return self._fail(_place_below(node, bad.key), where, str(bad))
        except ValueError as error:
            return self._fail(node.place, path, str(error))


@functools.cache
def _fields_of(schema: type[Section]) -> tuple[dict[str, Any], dict[str, msgspec.structs.FieldInfo]]:
    """Types by attribute name, and fields by key."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(schema)}
    return typing.get_type_hints(schema, include_extras=True), fields


def _place_below(node: Node, key: str) -> Place:
    """The place of "a[2].b" below `node`, or of the nearest thing above it that the file holds."""
    for step in re.findall(r"[^.\[\]]+", key):
        if isinstance(node, Sequence) and step.isdigit() and int(step) < len(node.items):
            node = node.items[int(step)]
        elif isinstance(node, Mapping) and (child := {k.text: v for k, v in node.entries}.get(step)) is not None:
            node = child
        else:
            break
    return node.place


def _is_absent(node: Node) -> bool:
    """`uplinks:` with every line below it commented out: as if the key were not there."""
    return isinstance(node, Scalar) and node.is_empty


def _is_text(hint: Any) -> bool:
    options = [a for a in typing.get_args(hint) if a is not type(None)]
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_origin(hint) is Annotated or (is_union and typing.get_origin(options[0]) is Annotated)


def _kind(node: Node) -> str:
    """The kind of a node without its text, which may be a misplaced secret."""
    if isinstance(node, Scalar):
        return "nothing" if node.is_empty else "plain text"
    return "a list" if isinstance(node, Sequence) else "'key: value' lines"


def _example(node: Node) -> str:
    """An address alone as lines; any other text may be a misplaced secret."""
    if isinstance(node, Scalar) and re.fullmatch(r"[0-9.]{7,15}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", node.text):
        return f"; write 'address: {node.text}', and beneath it the other keys"
    return ""


def _required(schema: type[Section]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(schema) if field.required]


def _unknown_key(key: str, known: list[str]) -> str:
    from difflib import get_close_matches  # late: needed for a mistyped key only

    # LISPmob's and other people's files say map_server or Map-Server
    matches = get_close_matches(key.lower().replace("_", "-"), known, n=1, cutoff=0.6)
    hint = f"did you mean '{matches[0]}'?" if matches else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"
