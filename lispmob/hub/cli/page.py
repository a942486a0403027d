"""lisphub web: the page, its token, and its address."""

from __future__ import annotations

import argparse
import secrets
import stat
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from lispmob.errors import LispError
from lispmob.metrics.serving import place_of

TOKEN_OCTETS: Final = 16
LEAST_LETTERS: Final = 16  # ours: of a token that a user chose


def run(arguments: argparse.Namespace, read: Callable[[], dict[str, Any]]) -> int:
    """Serve the page until interrupted. Raises LispError."""
    from lispmob.hub.web.server import serve

    address, port = place_of(arguments.listen)
    names = frozenset(arguments.name)
    if ip_address(address).is_unspecified and not names:
        raise LispError(f"{address}: give the name by which browsers reach it, with --name HOST:{port}")
    if not ip_address(address).is_loopback:
        sys.stderr.write("the page and its token cross the network in clear: put a proxy with TLS in front of it\n")
    token = secrets.token_urlsafe(TOKEN_OCTETS) if arguments.token_file is None else _token(arguments.token_file)
    read()  # a missing hub, or a lack of permission, is reported here and not in the browser

    def say(place: str) -> None:
        sys.stdout.write(f"open {place}\n")
        sys.stdout.flush()

    return serve(address, port, token, read, say, names)


def _token(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise LispError(f"every user can read the token in {path}; run: chmod 600 {path}")
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LispError(f"{path}: {getattr(error, 'strerror', None) or 'not a token'}") from None
    if len(token) < LEAST_LETTERS or not all(sign.isalnum() or sign in "-_" for sign in token):
        raise LispError(f"{path}: a token has {LEAST_LETTERS} letters, digits, '-' and '_' at least")
    return token
