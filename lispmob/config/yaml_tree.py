"""YAML text to a tree of positions and plain text: the bottom layer of the configuration files.

Built on the parser's events, not on its values: in YAML 1.1 `no` is a boolean, `010` is 8 and `12:30` is 750; here a
scalar always stays the text that the user wrote, and the schema decides. Anchors, aliases and tags are refused, and
depth and size are bounded, so no file can blow up in memory. This file is the only one that imports PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from lispmob.errors import ConfigError
from lispmob.partial_imports import only_submodules_of

with only_submodules_of("yaml", is_shared=False):  # the parser is a fifth of it
    from yaml import events
    from yaml.error import MarkedYAMLError
    from yaml.parser import Parser
    from yaml.reader import Reader, ReaderError
    from yaml.scanner import Scanner

MAX_BYTES: Final = 1 << 20  # ours: a thousand times the shipped file
MAX_DEPTH: Final = 16  # ours: the schema needs 5
MAX_NODES: Final = 100_000  # ours: 10,000 static mappings with a few locators each


class Place(msgspec.Struct, frozen=True):
    """The position of a node; both count from 1."""

    line: int
    column: int


class Scalar(msgspec.Struct, frozen=True):
    """Text as written, quotes removed. `is_empty` is True for nothing at all, False for an empty quoted string.

    `cut_short`: the text ended at a " #" that looks as if it were meant to be part of it, and not a comment.
    """

    place: Place
    text: str
    is_empty: bool = False
    cut_short: bool = False

    def __repr__(self) -> str:
        return f"Scalar({self.place}, not shown)"  # it may be a key: traces and logs must not show it


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    place: Place
    items: tuple[Node, ...]


class Mapping(msgspec.Struct, frozen=True):
    """Keys in file order, each with its own place. No key occurs twice."""

    place: Place
    entries: tuple[tuple[Scalar, Node], ...]


Node: TypeAlias = Scalar | Sequence | Mapping


class _RefusedError(Exception):
    def __init__(self, place: Place, why: str) -> None:
        super().__init__(why)
        self.place = place
        self.why = why


def parse_yaml(raw: bytes, name: str) -> Node | None:
    """The one document in `raw`, None if it is empty; `name` is used in error texts.

    Raises ConfigError `name:line:column: why` for what is not UTF-8, not YAML, or beyond the limits above.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: the file has more than {MAX_BYTES} octets")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place_at(raw[: error.start].decode("utf-8", "replace"))
        raise ConfigError(f"{name}:{place.line}:{place.column}: this is not UTF-8 text") from None
    try:
        return _Builder(text).build()
    except _RefusedError as refused:
        raise ConfigError(f"{name}:{refused.place.line}:{refused.place.column}: {refused.why}") from None


class _Builder:
    """One pass over the parser's events."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes = 0
        self._events = self._checked_events()

    def build(self) -> Node | None:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, events.DocumentStartEvent):
                if root is not None:
                    raise _RefusedError(_place(event), "a second document begins here; one is expected")
                root = self._node(next(self._events))
        return root

    def _checked_events(self) -> Iterator[events.Event]:
        """The parser's events with its errors turned into ours, never with text of the file in them."""
        depth = 0
        try:
            for event in _events_of(self._text):
                if isinstance(event, events.AliasEvent) or getattr(event, "anchor", None) is not None:
                    raise _RefusedError(
                        _place(event), "anchors (&) and aliases (*) are not used here; put the value in quotes"
                    )
                if getattr(event, "tag", None) not in (None, "!"):
                    raise _RefusedError(_place(event), "tags (!) are not used here; put the value in quotes")
                depth += isinstance(event, events.CollectionStartEvent)
                depth -= isinstance(event, events.CollectionEndEvent)
                self._nodes += isinstance(event, events.NodeEvent)
                if depth > MAX_DEPTH:
                    raise _RefusedError(_place(event), f"nested deeper than {MAX_DEPTH} levels")
                if self._nodes > MAX_NODES:
                    raise _RefusedError(_place(event), f"more than {MAX_NODES} values")
                yield event
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
            raise _RefusedError(place, f"not valid YAML: {_explain(error.problem or '')}") from None
        except ReaderError as error:
            raise _RefusedError(_place_at(self._text[: error.position]), "this character is not allowed here") from None
        except (ValueError, OverflowError):  # PyYAML lets chr() fail on "\UFFFFFFFF"
            raise _RefusedError(Place(1, 1), "not valid YAML: an escape names no character") from None

    def _node(self, event: events.Event) -> Node:
        place = _place(event)
        if isinstance(event, events.ScalarEvent):
            if not event.value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in event.value):
                raise _RefusedError(place, "not valid YAML: an escape names no character")
            return Scalar(place, event.value, event.value == "" and event.style is None, self._is_cut_short(event))
        if isinstance(event, events.SequenceStartEvent):
            items = []
            while not isinstance(event := next(self._events), events.SequenceEndEvent):
                items.append(self._node(event))
            return Sequence(place, tuple(items))
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            key = self._node(event)
            if not isinstance(key, Scalar):
                raise _RefusedError(key.place, "a key has to be a plain word")
            if key.text in entries:
                first = entries[key.text][0].place.line
                raise _RefusedError(key.place, f"{show(key.text)}: this key already stands in line {first}")
            entries[key.text] = (key, self._node(next(self._events)))
        return Mapping(place, tuple(entries.values()))

    def _is_cut_short(self, event: events.ScalarEvent) -> bool:
        """True for `abc #def` and `abc # def`, and not for a comment that is set apart."""
        end = event.end_mark
        if event.style is not None or not event.value or end is None:
            return False
        behind = self._text[end.index : end.index + 4]
        return re.match(r"[ \t]#|[ \t]+#[^ \t\n]", behind) is not None


def show(text: str) -> str:
    """A value for an error text: one line, printable, at most 60 characters; quoted if it would not be recognisable."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return short if short.isprintable() and short and not short.isspace() else ascii(short)


_EXPLANATIONS: Final = (  # the beginnings of PyYAML's messages, with an explanation for users
    (
        "mapping values are not allowed",
        "': ' inside a value needs quotes; or is the indentation not that of the line above?",
    ),
    ("expected <block end>", "the indentation is not that of the lines above, or a quote is missing"),
    ("could not find expected ':'", "a ':' is missing after the key in this line or the one above"),
    ("expected ',' or", "a ',' or the closing bracket is missing"),
    ("found unexpected end of stream", "a quote is opened and not closed"),
    ("found character", "this sign cannot begin a value; put the value in quotes"),
    ("block sequence entries are not allowed", "'- ' cannot stand here; begin the list in a line of its own"),
)


def _explain(problem: str) -> str:
    """PyYAML's complaint in words that help. Names in it are cut: one may be a secret that begins with '*' or '!'."""
    if "\\t" in problem or "tab" in problem:
        return "a tab; indent with spaces"
    for beginning, meaning in _EXPLANATIONS:
        if problem.startswith(beginning):
            return meaning
    kind, quote, _ = problem.partition("'")
    return f"{kind.strip()} ...; text with special signs needs quotes" if quote else problem


class _Parser(Reader, Scanner, Parser):
    """The parts of PyYAML's loader that make events of text."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def _events_of(text: str) -> Iterator[events.Event]:
    parser = _Parser(text)
    while parser.check_event():
        yield parser.get_event()  # type: ignore[no-untyped-call]  # so is the stub


def _place(event: events.Event) -> Place:
    assert event.start_mark is not None, "every event of a text has its mark"
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _place_at(text_before: str) -> Place:
    return Place(text_before.count("\n") + 1, len(text_before) - (text_before.rfind("\n") + 1) + 1)
