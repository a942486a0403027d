"""A node that records its inputs: each with its time, the random numbers drawn, and a checksum of the effects.

The first line is a header with the configuration, without its keys (neutral.py). Each further line is one input:

{"do": "on_miss", "with": [...], "drew": [["nonce", 7]], "did": 305419896}
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from lispmob.control.node_config import NodeConfig
from lispmob.node.node import Node
from lispmob.recording.neutral import keys_of, neutral_value, without_keys
from lispmob.recording.values import to_json

FORMAT: Final = 1
LIMIT_OCTETS: Final = 8 << 20  # ours: of the compressed recording; weeks of a quiet node
GZIP: Final = 31  # zlib's wbits

INPUTS: Final = (
    "on_locators", "on_datagram", "on_data_control", "on_stalled", "on_traversal", "on_miss", "on_used", "on_heard",
    "on_heard_from", "on_unanswered", "on_echoed", "on_status_bits", "on_source_doubted", "on_timer", "on_shutdown",
    "on_move", "on_move_told", "on_slept", "on_refused_here", "on_config", "on_mapping_added", "on_mapping_deleted",
    "on_name_wanted", "on_large", "on_too_big",
)  # fmt: skip
"""The inputs of a node. A test holds the list to the class."""
TRAVERSAL_INPUTS: Final = ("on_lifetime", "on_filtered")
"""Findings about NATs go to the traversal first; then the node gets what follows from them."""


class Tape:
    """The lines, compressed as they are written; when it is full, later lines are dropped, not earlier ones."""

    def __init__(self, limit: int = LIMIT_OCTETS) -> None:
        self._limit = limit
        self._press = zlib.compressobj(wbits=GZIP)
        self._octets = bytearray()
        self.lines = 0
        self.is_full = False

    def write(self, line: dict[str, Any]) -> None:
        """Write a line, if there is room."""
        if self.is_full:
            return
        self._octets += self._press.compress(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self.lines += 1
        self.is_full = len(self._octets) >= self._limit

    def content(self) -> bytes:
        """All of it, as a gzip file."""
        return bytes(self._octets) + self._press.copy().flush()


class RecordedNode(Node):
    """A node with a tape. It behaves like any other."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        new_nonce: Callable[[], int],
        jitter: Callable[[], float],
        next_nonce: Callable[[], int],
        tape: Tape,
        version: str = "",
    ) -> None:
        self._tape = tape
        self._drew: list[tuple[str, float]] = []
        self._is_inside = False
        self._keys = keys_of(config)
        header = {"lispmob-recording": FORMAT, "version": version, "config": to_json(without_keys(config))}
        super().__init__(
            config,
            new_nonce=self._noting("nonce", new_nonce),
            jitter=self._noting("jitter", jitter),
            next_nonce=self._noting("next", next_nonce),
        )
        tape.write({**header, "drew": self._drawn()})
        for name in TRAVERSAL_INPUTS:
            setattr(self.traversal, name, self._recorded(f"traversal.{name}", getattr(self.traversal, name)))
        for name in INPUTS:
            setattr(self, name, self._recorded(name, getattr(self, name)))

    def _noting(self, kind: str, draw: Callable[[], Any]) -> Callable[[], Any]:
        def noted() -> Any:
            number = draw()
            self._drew.append((kind, number))
            return number

        return noted

    def _drawn(self) -> list[tuple[str, float]]:
        drew, self._drew = self._drew, []
        return drew

    def _recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*given: Any, **named: Any) -> Any:
            if self._is_inside or self._tape.is_full:
                return call(*given, **named)
            given = tuple(list(argument) if isinstance(argument, Iterator) else argument for argument in given)
            if name == "on_config":
                self._keys = (*self._keys, *(key for key in keys_of(given[0]) if key not in self._keys))
            self._is_inside = True
            try:
                effects = call(*given, **named)
            except BaseException:
                self._note(name, given, named, None)  # record this input above all: a test needs it
                raise
            finally:
                self._is_inside = False
            self._note(name, given, named, effects)
            return effects

        return recorded

    def _note(self, name: str, given: tuple[Any, ...], named: dict[str, Any], effects: Any) -> None:
        line: dict[str, Any] = {"do": name, "with": [to_json(self._neutral(argument)) for argument in given]}
        if named:
            line["named"] = {key: to_json(one) for key, one in named.items()}
        if drew := self._drawn():
            line["drew"] = drew
        line["did"] = None if effects is None else sum_of([neutral_value(effect, self._keys) for effect in effects])
        self._tape.write(line)

    def _neutral(self, value: Any) -> Any:
        return without_keys(value) if isinstance(value, NodeConfig) else neutral_value(value, self._keys)


def sum_of(effects: Any) -> int:
    """A checksum of effects: equal for equal effects in the same order."""
    return zlib.crc32(json.dumps(to_json(effects), sort_keys=True).encode())
