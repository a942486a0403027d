"""Replays a recording in a node, at any speed: the same inputs in the same order, with the same random numbers."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from lispmob.control.node_config import NodeConfig
from lispmob.errors import LispError
from lispmob.node.node import Node
from lispmob.protocol.effect import Event
from lispmob.recording.recorder import FORMAT, INPUTS, TRAVERSAL_INPUTS, sum_of
from lispmob.recording.values import NotAValue, from_json

LINE_MAX: Final = 8 << 20  # ours: octets of one input; a configuration may have a hundred thousand static mappings
_KNOWN: Final = frozenset((*INPUTS, *(f"traversal.{name}" for name in TRAVERSAL_INPUTS)))


class BadRecording(LispError):
    """A file that is no recording, or has an invalid line."""


class Step(msgspec.Struct, frozen=True):
    """One input and its effects. `line` counts from 1; `at` is the time in the node's clock, where it has one.

    `is_same` False: the core acted differently from the recording. `error`: it raised an exception.
    """

    line: int
    at: float | None
    name: str
    given: tuple[Any, ...]
    effects: tuple[Any, ...]
    is_same: bool
    error: Exception | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """The events, as `lispctl events` shows them."""
        return tuple(effect for effect in self.effects if isinstance(effect, Event))


class Player:
    """A node on a recording. `steps()` feeds it; between steps `node` is in the recorded state.

    Raises BadRecording, in the constructor or in `steps()`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draws: deque[tuple[str, Any]] = deque()
        self._spare = 0
        self._lines = self._read()
        header = next(self._lines, (0, {}))[1]
        if header.get("lispmob-recording") != FORMAT:
            raise BadRecording(f"{path} is no recording, or one of another version of lispmob")
        self.version = str(header.get("version", ""))
        config = self._value(header.get("config"), 1)
        if not isinstance(config, NodeConfig):
            raise BadRecording(f"{path}:1: its configuration is none")
        self._put_draws(header, 1)
        self.node = Node(
            config,
            new_nonce=lambda: int(self._draw("nonce")),
            jitter=lambda: float(self._draw("jitter")),
            next_nonce=lambda: int(self._draw("next")),
        )

    def steps(self) -> Iterator[Step]:
        """Feed the inputs in turn; an exception of the core is in its step, and the next inputs are still fed."""
        for number, line in self._lines:
            name, did = line.get("do"), line.get("did")
            if name not in _KNOWN:
                raise BadRecording(f"{self._path}:{number}: there is no input {str(name)[:40]!r}")
            given = self._value(line.get("with"), number)
            named = {str(key): self._value(one, number) for key, one in dict(line.get("named") or {}).items()}
            if not isinstance(given, tuple):
                raise BadRecording(f"{self._path}:{number}: what it was told is no list")
            self._put_draws(line, number)
            yield self._fed(number, str(name), given, named, did)

    def _fed(self, number: int, name: str, given: tuple[Any, ...], named: dict[str, Any], did: Any) -> Step:
        owner: Any = self.node.traversal if name.startswith("traversal.") else self.node
        floats = [argument for argument in given if isinstance(argument, float)]
        at = floats[-1] if floats else None
        try:
            effects = tuple(getattr(owner, name.rpartition(".")[2])(*given, **named))
        except Exception as error:  # the reason for a replay, or an input that cannot have been recorded
            return Step(number, at, name, given, (), did is None, error)
        is_same = not self._draws and sum_of(effects) == did
        return Step(number, at, name, given, effects, is_same)

    def _draw(self, kind: str) -> Any:
        """The recorded random number; when the core draws more, constants that differ from each other."""
        if self._draws and self._draws[0][0] == kind:
            return self._draws.popleft()[1]
        self._draws.append(("another", 0))  # and so this step is not the same
        self._spare += 1
        return 0.5 if kind == "jitter" else (1 << 63) + self._spare

    def _put_draws(self, line: dict[str, Any], number: int) -> None:
        drew = line.get("drew", [])
        try:
            self._draws = deque((str(kind), value) for kind, value in drew if isinstance(value, int | float))
        except (TypeError, ValueError):
            raise BadRecording(f"{self._path}:{number}: what was drawn cannot be read") from None

    def _value(self, raw: Any, number: int) -> Any:
        try:
            return from_json(raw)
        except NotAValue as error:
            raise BadRecording(f"{self._path}:{number}: {error}") from None

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The lines with their numbers; the last may be incomplete if the recording was."""
        try:
            with cast(BinaryIO, gzip.open(self._path, "rb")) as file:
                number = 0
                while line := file.readline(LINE_MAX + 1):
                    number += 1
                    if len(line) > LINE_MAX:
                        raise BadRecording(f"{self._path}:{number}: a line of more than {LINE_MAX} octets")
                    yield number, self._fields(line, number)
        except OSError as error:
            raise BadRecording(f"{self._path}: {error.strerror or error}") from None
        except (EOFError, zlib.error):
            raise BadRecording(f"{self._path}: its end is missing, or it is damaged") from None

    def _fields(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise BadRecording(f"{self._path}:{number}: no line of a recording")
        return fields


def play(path: Path) -> list[Step]:
    """All steps at once, for tests. Raises BadRecording."""
    return list(Player(path).steps())
