"""Determines by which uplink each packet was sent, as far as lispd knows.

lispd can explain what its datapath does with a flow. `UplinkWatch` asks it regularly about this flow while packets are
sent. If the answers before and after a packet agree, the packet was sent by that uplink; if they differ, it was sent
during a change.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any, Final

import msgspec

from lispmob.api.client import Client, Json
from lispmob.errors import LispError

ASK_EVERY_S: Final = 0.1  # ours: an answer takes lispd some milliseconds
SAMPLE_LIMIT: Final = 100_000
PATIENCE_S: Final = 2.0
IN_A_CHANGE: Final = "while it changed"
NOT_KNOWN: Final = "not known"


class Sample(msgspec.Struct, frozen=True):
    """An answer of lispd, with the times by our clock between which it was given."""

    asked_at: float
    answered_at: float
    uplink: str


class Timeline:
    """The answers of lispd, in order. Pure."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Add an answer."""
        if len(self._samples) < SAMPLE_LIMIT:
            self._samples.append(sample)

    def uplink_at(self, moment: float) -> str:
        """The uplink of a packet sent at `moment`: IN_A_CHANGE, or NOT_KNOWN without an answer before and after it."""
        before = bisect_right(self._samples, moment, key=lambda sample: sample.answered_at) - 1
        after = bisect_left(self._samples, moment, key=lambda sample: sample.asked_at)
        if before < 0 or after >= len(self._samples):
            return NOT_KNOWN
        names = {sample.uplink for sample in self._samples[before : after + 1]}
        return names.pop() if len(names) == 1 else IN_A_CHANGE


def uplink_of(why: Json) -> str:
    """The uplink in lispd's explanation of a flow, in a word or two."""
    outcome = why.get("outcome")
    if outcome == "native":
        return "without LISP"
    if outcome != "overlay":
        return {"own": "on this host", "dropped": "dropped", "waits": "waiting"}.get(str(outcome), NOT_KNOWN)
    names = dict.fromkeys(str(choice["uplink"]) for choice in why.get("choices", ()))
    if len(names) != 1 or not why.get("is_certain", True):
        return NOT_KNOWN
    return next(iter(names))


class UplinkWatch:
    """Asks lispd from a thread, so that packets do not wait for the answers. `problem`: why lispd cannot tell."""

    def __init__(self, socket_path: str, flow: dict[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.timeline = Timeline()
        self.problem: str | None = None
        self._path = socket_path
        self._flow = flow
        self._clock = clock
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uplinks", daemon=True)
        self._has_begun = threading.Event()

    def start(self) -> None:
        """Start, and wait for the first answer or the first error."""
        self._thread.start()
        self._has_begun.wait(PATIENCE_S)

    def stop(self) -> None:
        """Ask a last time, so that there is an answer after the last packet, and end."""
        self._is_over.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            with Client(self._path, timeout_s=PATIENCE_S) as client:
                while not self._is_over.is_set():
                    self._ask(client)
                    self._has_begun.set()
                    self._is_over.wait(ASK_EVERY_S)
                self._ask(client)
        except (LispError, OSError) as error:
            self.problem = str(error)
        finally:
            self._has_begun.set()

    def _ask(self, client: Client) -> None:
        asked_at = self._clock()
        why = client.call("why", **self._flow)
        self.timeline.add(Sample(asked_at, self._clock(), uplink_of(why)))
