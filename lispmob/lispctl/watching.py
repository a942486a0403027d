"""The loop of `lispctl watch`: queries a node repeatedly, and draws the result where there is a screen."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from lispmob.api.client import DEFAULT_SOCKET, Client, ReplyError
from lispmob.errors import NotRunning
from lispmob.lispctl.board import Board

SELDOM: Final = 4  # frames: values that change slowly are asked for once in this many
PEERS_ASKED_MAX: Final = 200  # mappings: with more of them, the list costs lispd more than it is worth
_ALTERNATE, _NORMAL = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class Look:
    """Queries a node for each frame, whether lispd is running or not."""

    def __init__(self, client: Client, path: str) -> None:
        self._client: Client | None = client
        self._path = path
        self._frames = 0
        self.board = Board()

    def frame(self, now: float) -> None:
        """Make the queries that are due in this frame."""
        try:
            self._ask(self._client or Client(self._path), now)
        except (NotRunning, ReplyError) as error:
            if self._client is not None:
                self._client.close()
            self._client = None
            self._frames = 0
            self.board.on_gone(str(error))

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()

    def _ask(self, client: Client, now: float) -> None:
        self._client = client
        status = client.call("status")
        self.board.on_status(status, now)
        self.board.on_paths(client.call("paths"))
        if self._frames % SELDOM == 0:
            self.board.on_moves(client.call("handovers"))
            is_small = status["map_cache_size"] <= PEERS_ASKED_MAX
            self.board.on_peers(client.call("map-cache")["entries"] if is_small else [])
        self._frames += 1


def watch(client: Client, arguments: Namespace) -> int:
    """Show frame after frame."""
    look = Look(client, getattr(arguments, "socket", DEFAULT_SOCKET))
    shown = 0
    try:
        with _screen(arguments) as show:
            while True:
                look.frame(time.monotonic())
                show(look.board)
                shown += 1
                if shown == arguments.count:
                    return 0
                time.sleep(arguments.interval)
    except KeyboardInterrupt:
        return 0
    finally:
        look.close()


@contextmanager
def _screen(arguments: Namespace) -> Iterator[Callable[[Board], None]]:
    """The output for frames: JSON lines, plain text, rich's screen, or a plain terminal."""
    if arguments.json:
        import json

        yield lambda board: print(json.dumps(board.view()), flush=True)
        return
    if not sys.stdout.isatty():
        yield lambda board: print("\n".join([*board.lines(), ""]), flush=True)
        return
    if (live := _rich()) is not None:
        with live as show:
            yield show
        return
    try:
        sys.stdout.write(_ALTERNATE)
        yield _draw
    finally:
        sys.stdout.write(_NORMAL)
        sys.stdout.flush()


def _draw(board: Board) -> None:
    import os

    lines = board.lines(os.get_terminal_size().lines)
    # erase behind each line and below the last one, so that nothing flickers
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines[:-1]) + f"{lines[-1]}\x1b[K\x1b[J")
    sys.stdout.flush()


def _rich() -> AbstractContextManager[Callable[[Board], None]] | None:
    """rich's screen; None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        return None

    @contextmanager
    def screen() -> Iterator[Callable[[Board], None]]:
        console = Console()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield lambda board: live.update(
                Text.from_ansi("\n".join(board.lines(console.size.height)), no_wrap=True), refresh=True
            )

    return screen()
