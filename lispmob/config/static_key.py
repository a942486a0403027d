"""The static key of a node or a hub: a file with the private half, in hex, readable by its owner only."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lispmob.control.sealing.noise import Ciphers, KeyPair
from lispmob.control.sealing.peer_keys import NoKeyMemory
from lispmob.control.sealing.seal_config import SealTools
from lispmob.crypto.key_wrap import KeyWrapMissingError
from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.wire.key_record import KEY_OCTETS

KEY_FILE: Final = "static-key"

log = logging.getLogger(__name__)


def load_static_key(directory: Path, ciphers: Ciphers, complain: Callable[[str], None] = log.warning) -> KeyPair:
    """Our key pair; drawn and written when there is none yet.

    A directory that cannot be written does not stop the start: the key then lives as long as the process, and
    `complain` gets the reason.
    """
    path = directory / KEY_FILE
    try:
        found = bytes.fromhex(path.read_text("ascii").strip())
        if len(found) == KEY_OCTETS:
            return KeyPair.of(found, ciphers)
        complain(f"{path} does not hold {KEY_OCTETS} octets in hex; a new static key is drawn, and peers are told")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        complain(f"cannot read {path} ({error}); a new static key is drawn, and peers are told")
    drawn = secrets.token_bytes(KEY_OCTETS)
    try:
        write_lines(path, [drawn.hex()])
    except OSError as error:
        complain(f"cannot keep the static key in {path} ({error.strerror}); the next start draws another one")
    return KeyPair.of(drawn, ciphers)


def answering_tools(directory: Path | None) -> SealTools | None:
    """The tools for answering handshakes without storing keys of others; None in a build without libcrypto.

    `directory`: of the static key; None: one that lives as long as the process.
    """
    try:
        ciphers = NoiseCiphers()
    except KeyWrapMissingError:
        return None
    drawn = secrets.token_bytes(KEY_OCTETS)
    static = KeyPair.of(drawn, ciphers) if directory is None else load_static_key(directory, ciphers)
    return SealTools(ciphers, static, NoKeyMemory(), secrets.token_bytes, time.time_ns)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with open(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="ascii"
    ) as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(fresh, path)
