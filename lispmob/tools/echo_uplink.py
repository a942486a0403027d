"""By which uplink each packet left, as far as lispd can tell.

lispd says what its datapath does with exactly this flow. It is asked every so often while packets leave; a packet
whose neighbouring answers agree left by that uplink, and one between two that differ left while it changed.
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

ASK_EVERY_S: Final = 0.1  # ours: a question takes lispd some milliseconds
SAMPLE_LIMIT: Final = 100_000
PATIENCE_S: Final = 2.0
IN_A_CHANGE: Final = "while it changed"
NOT_KNOWN: Final = "not known"


class Sample(msgspec.Struct, frozen=True):
    """What lispd said between two moments of our clock."""

    asked_at: float
    answered_at: float
    uplink: str


class Timeline:
    """What lispd said, in order. Pure."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """One more answer."""
        if len(self._samples) < SAMPLE_LIMIT:
            self._samples.append(sample)

    def uplink_at(self, moment: float) -> str:
        """The uplink of a packet that left then; IN_A_CHANGE, or NOT_KNOWN without an answer on both sides of it."""
        before = bisect_right(self._samples, moment, key=lambda sample: sample.answered_at) - 1
        after = bisect_left(self._samples, moment, key=lambda sample: sample.asked_at)
        if before < 0 or after >= len(self._samples):
            return NOT_KNOWN
        names = {sample.uplink for sample in self._samples[before : after + 1]}
        return names.pop() if len(names) == 1 else IN_A_CHANGE


def uplink_of(why: Json) -> str:
    """What lispd's explanation of a flow says of the uplink, in a word or two."""
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
    """Asks lispd in a thread of its own, so that no packet waits for it. `problem`: why it cannot be told."""

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
        """Begin, and wait for the first answer, or for the reason why there will be none."""
        self._thread.start()
        self._has_begun.wait(PATIENCE_S)

    def stop(self) -> None:
        """Ask once more, so that the last packet has an answer behind it, and end."""
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
