"""The stored xTR-ID of a node, which is drawn once."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

XTR_ID_OCTETS: Final = 16  # RFC 9301, 5.6

log = logging.getLogger(__name__)


def load_xtr_id(directory: Path, complain: Callable[[str], None] = log.warning) -> bytes:
    """The 16 octets in `directory`/xtr-id; drawn and written if there are none yet.

    A directory that cannot be written does not prevent the start: the xTR-ID then lasts as long as the process, and
    `complain` gets the reason.
    """
    path = directory / "xtr-id"
    try:
        found = bytes.fromhex(path.read_text("ascii").strip())
        if len(found) == XTR_ID_OCTETS:
            return found
        log.warning("%s does not hold %d octets in hex; a new xTR-ID is drawn", path, XTR_ID_OCTETS)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("cannot read %s (%s); a new xTR-ID is drawn", path, error)
    return draw_xtr_id(directory, complain)


def draw_xtr_id(directory: Path, complain: Callable[[str], None] = log.warning) -> bytes:
    """A new xTR-ID, which replaces the one in `directory`/xtr-id."""
    path, drawn = directory / "xtr-id", secrets.token_bytes(XTR_ID_OCTETS)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(drawn.hex() + "\n", "ascii")
        os.replace(fresh, path)  # atomic, also at a loss of power
    except OSError as error:
        complain(f"cannot keep the xTR-ID in {path} ({error.strerror}); the next start draws another one")
    return drawn
