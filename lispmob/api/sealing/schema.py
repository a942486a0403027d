"""Requests and replies of the control socket about sealed data: whose keys are known, and what is sealed with them."""

from __future__ import annotations

from typing import Literal

import msgspec


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """How packets to an EID-Prefix leave. `why` is for people; `fingerprint` is that of its key, to be compared.

    "waiting": packets wait for a session, and are dropped after three seconds. `grade`: whose word its key is. `age_s`
    is that of the session in use; the packets, sent and opened, are those of all sessions whose keys are still there.
    """

    state: Literal[
        "sealed",
        "sealed to the hub, clear beyond",
        "obfuscated (lispers.net)",
        "encrypted, by whom nobody knows (RFC 8061)",
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
    """Somebody with a known key and a mapping in use."""

    prefix: str
    seal: Seal


class WaitingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that the Map-Server vouches for, where another one was known, with strict keys."""

    prefix: str
    fingerprint: str
    public_key: str


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Our own static key, and those of others. `public_key` None: nothing can be sealed here; `why_not` says why."""

    mode: Literal["off", "prefer", "require"]
    public_key: str | None = None
    fingerprint: str | None = None
    why_not: str = ""
    peers: list[KnownPeer] = []
    waiting: list[WaitingKey] = []
