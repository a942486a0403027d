"""`lisphub metrics` and `lispctl metrics`: print the figures, or serve them to Prometheus, in a separate process.

So a scrape makes a daemon's loop wait no longer than `status` does, and a fault in the library ends only this process.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from lispmob.errors import LispError
from lispmob.metrics.family import Family

LOOPBACK: Final = "127.0.0.1"


def run(listen: str | None, read: Callable[[], Iterable[Family]], *, up: str = "lisphub_up") -> int:
    """Print once, or serve at "[ADDRESS:]PORT" until SIGTERM or SIGINT; returns the exit code. Raises LispError."""
    from lispmob.metrics.exposition import serve, text_of

    if listen is None:
        sys.stdout.write(text_of(up, read()))
        return 0
    address, port = place_of(listen)
    try:
        bound, stop = serve(address, port, up, read)
    except OSError as error:
        raise LispError(f"{listen}: {error.strerror}") from None
    sys.stdout.write(f"serving http://{_bracketed(address)}:{bound}/metrics\n")
    sys.stdout.flush()
    try:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    finally:
        stop()
    return 0


class NoPlace(LispError):
    """The text names no address and port."""

    exit_code = 2  # wrong usage


def place_of(text: str) -> tuple[str, int]:
    """Address and port of "9342", "192.0.2.1:9342" or "[::1]:9342". Raises NoPlace."""
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") or LOOPBACK
    try:
        ip_address(address)
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise NoPlace(f"{text!r} is no place to listen at: write 9342, 192.0.2.1:9342 or [::1]:9342")
    return address, number


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
