"""The state of sealing in the state directory: our static key, and the known keys of others.

| file             | holds                                                                                  |
|------------------|----------------------------------------------------------------------------------------|
| static-key       | the private half of our X25519 key, in hex; made once, readable only by lispd (0600)   |
| peer-keys        | a line for each EID-Prefix: prefix, public key, "sealed" where there was a session      |
| hub-keys         | the same for proxies, by their addresses                                               |
| peer-times       | a line for each static key: public key, the last timestamp of its handshakes            |
| handshake-time   | our own timestamps, reserved in blocks as the nonces of Map-Registers are               |
| map-version      | the Map-Version Number of our mappings, reserved in blocks as well                      |

A file that cannot be read is reported and replaced; files are written atomically.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from lispmob.config.static_key import KEY_FILE, load_static_key, write_lines
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import REMEMBERED_MAX, TIMES_MAX, KeptKey
from lispmob.control.sealing.seal_config import SealTools
from lispmob.control.sealing.sealed_handshake import ALL_AEADS
from lispmob.crypto.key_wrap import KeyWrapMissingError
from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import KernelRefused
from lispmob.lispd.register_nonces import RegisterNonces
from lispmob.lispd.sealing.map_versions import MapVersions
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KEY_OCTETS
from lispmob.wire.sealed_handshake import CHACHA20_POLY1305

PEERS_FILE: Final = "peer-keys"
HUBS_FILE: Final = "hub-keys"
TIMES_FILE: Final = "peer-times"
OWN_TIME_FILE: Final = "handshake-time"
_SEALED: Final = "sealed"
_CPU_INFO: Final = Path("/proc/cpuinfo")

log = logging.getLogger(__name__)


def seal_tools(directory: Path, complain: Callable[[str], None] = log.warning) -> SealTools | None:
    """The tools of the sealing machine; None in a build without libcrypto."""
    try:
        ciphers = NoiseCiphers()
    except KeyWrapMissingError:
        return None
    static = load_static_key(directory, ciphers, complain)
    times = RegisterNonces(
        directory, draw=lambda _: 0, file_name=OWN_TIME_FILE, what_for="sessions with nodes that it has met before"
    )
    aeads = ALL_AEADS if has_aes(_CPU_INFO) else CHACHA20_POLY1305
    versions = MapVersions(directory)
    hubs = SealMemory(directory, HUBS_FILE)

    def reserve() -> None:
        times.keep_ahead()
        versions.keep_ahead()

    return SealTools(ciphers, static, SealMemory(directory), secrets.token_bytes, times, aeads, versions, hubs, reserve)


def has_aes(cpu_info: Path) -> bool:
    """Whether the processor has AES instructions: without them AES-GCM takes five times as long, and leaks timing."""
    try:
        text = cpu_info.read_text("ascii", "replace")
    except OSError:
        return True
    flags = (line.partition(":")[2].split() for line in text.splitlines() if line.startswith(("flags", "Features")))
    first = next(flags, None)
    return first is None or "aes" in first


def has_static_key(directory: Path) -> bool:
    """Whether an earlier run had one, and may have registered it."""
    return (directory / KEY_FILE).exists()


def replace_static_key(directory: Path, tools: SealTools) -> SealTools:
    """Draw another key pair, and store it in place of the old one. KernelRefused if it cannot be stored."""
    drawn = secrets.token_bytes(KEY_OCTETS)
    try:
        write_lines(directory / KEY_FILE, [drawn.hex()])
    except OSError as error:
        raise KernelRefused(f"cannot keep a static key in {directory / KEY_FILE} ({error.strerror})") from None
    return dataclasses.replace(tools, static=KeyPair.of(drawn, tools.ciphers))


class SealMemory:
    """The keys of other nodes, or of hubs. A failure to store is reported once; then the state ends with lispd."""

    def __init__(self, directory: Path, keys_file: str = PEERS_FILE) -> None:
        self._directory = directory
        self._keys_file = keys_file
        self._is_failing = False

    def load_keys(self) -> Mapping[EidPrefix, KeptKey]:
        """By EID-Prefix."""
        found: dict[EidPrefix, KeptKey] = {}
        for words in self._lines(self._keys_file):
            try:
                prefix, key = EidPrefix.parse(words[0]), bytes.fromhex(words[1])
            except (ValueError, IndexError):
                continue
            if len(key) == KEY_OCTETS and len(found) < REMEMBERED_MAX:
                found[prefix] = KeptKey(key, words[2:] == [_SEALED])
        return found

    def save_keys(self, keys: Mapping[EidPrefix, KeptKey]) -> None:
        """All of them, in this order."""
        self._save(
            self._keys_file,
            (f"{prefix} {one.key.hex()}{f' {_SEALED}' * one.has_been_sealed}" for prefix, one in keys.items()),
        )

    def load_times(self) -> Mapping[bytes, int]:
        """By static key, in nanoseconds since 1970."""
        found: dict[bytes, int] = {}
        for words in self._lines(TIMES_FILE):
            try:
                key, at = bytes.fromhex(words[0]), int(words[1])
            except (ValueError, IndexError):
                continue
            if len(key) == KEY_OCTETS and len(found) < TIMES_MAX:
                found[key] = at
        return found

    def save_times(self, times: Mapping[bytes, int]) -> None:
        """All of them, in this order."""
        self._save(TIMES_FILE, (f"{key.hex()} {at}" for key, at in times.items()))

    def _lines(self, name: str) -> list[list[str]]:
        path = self._directory / name
        try:
            return [line.split() for line in path.read_text("ascii").splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning("cannot read %s (%s): which keys other nodes have is found out again", path, error)
            return []

    def _save(self, name: str, lines: Iterable[str]) -> None:
        path = self._directory / name
        try:
            write_lines(path, lines)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning("cannot keep the keys of other nodes in %s (%s)", path, error.strerror)
            self._is_failing = True
