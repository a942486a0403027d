"""Runs a module of the product and records which of its functions are entered: `python traced.py FILE MODULE ...`.

A function is recorded once, as a line "path name" with the path below the package. The bodies of modules and classes do
not count, nor does what an import calls. A daemon does many things besides the answer that a test is about: with
`--answers` before FILE, only what follows from a connection to the control socket is recorded. What follows is what
runs in the context of the connection: asyncio passes it on to callbacks, tasks and threads. When FILE is emptied,
recording begins again with the next connection.
"""

from __future__ import annotations

import inspect
import os
import runpy
import sys
import threading
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

import lispmob

PACKAGE = f"{Path(lispmob.__file__).parent}/"
IMPORTS = "<frozen importlib._bootstrap>"
CONNECTED = {("api/server.py", "connection_made"), ("api/server.py", "data_received")}
_is_answering: ContextVar[bool] = ContextVar("is_answering", default=False)


class Tracer:
    """A profile function. `is_answering_only`: leave out functions that no connection to the control socket caused."""

    def __init__(self, output: int, *, is_answering_only: bool) -> None:
        self._output = output
        self._is_answering_only = is_answering_only
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
            return
        place = code.co_filename.removeprefix(PACKAGE)
        if self._is_answering_only:
            if (place, code.co_name) in CONNECTED:
                _is_answering.set(True)
                if os.fstat(self._output).st_size == 0:
                    self._seen.clear()
            if not _is_answering.get():
                return
        entered = (place, code.co_qualname)
        if entered not in self._seen and not is_importing(frame):
            self._seen.add(entered)
            os.write(self._output, f"{place} {code.co_qualname}\n".encode())


def is_importing(frame: FrameType | None) -> bool:
    """True below an import."""
    while frame is not None and frame.f_code.co_filename != IMPORTS:
        frame = frame.f_back
    return frame is not None


def main(words: list[str]) -> None:
    """Trace a module as if it was run by `python -m`."""
    is_answering_only = words[0] == "--answers"
    path, module, *arguments = words[is_answering_only:]
    tracer = Tracer(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), is_answering_only=is_answering_only)
    sys.argv[1:] = arguments
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
