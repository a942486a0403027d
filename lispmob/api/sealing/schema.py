"""Requests and replies of the control socket about sealed data: known keys, and their use."""

from __future__ import annotations

from typing import Literal

import msgspec


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """How packets to an EID-Prefix are sent. `why` is for display; `fingerprint` is that of its key, for comparison.

    "waiting": packets wait for a session, and are dropped after three seconds. `grade`: the source of its key. `age_s`
    is that of the session in use; the packets, sent and opened, are those of all sessions whose keys are still there.
    """

    state: Literal[
        "sealed",
        "sealed to the hub, clear beyond",
        "obfuscated (lispers.net)",
        "encrypted, peer unauthenticated (RFC 8061)",
        "waiting",
        "clear",
    ]
    why: str
    grade: Literal["pinned", "vouched", "remembered", "none"] = "none"
    fingerprint: str | None = None
    age_s: float | None = None
    packets_out: int = 0
    packets_in: int = 0


class KnownPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer with a known key and a mapping in use."""

    prefix: str
    seal: Seal


class WaitingKey(msgspec.Struct, frozen=True, kw_only=True):
    """With strict keys, a new key that the Map-Server vouches for in place of a known one."""

    prefix: str
    fingerprint: str
    public_key: str


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Our own static key, and those of peers. `public_key` None: sealing is impossible here; `why_not` says why.

    `libraries`: by cipher, the library that encrypts with it on this host; for display.
    """

    mode: Literal["off", "prefer", "require"]
    public_key: str | None = None
    fingerprint: str | None = None
    why_not: str = ""
    libraries: dict[str, str] = {}
    peers: list[KnownPeer] = []
    waiting: list[WaitingKey] = []
