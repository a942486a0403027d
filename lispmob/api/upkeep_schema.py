"""Requests and replies of the control socket for who looks after a node: its log, and its configuration."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


class LogLevel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged from now on: this and what is graver. `configured` is what a reload goes back to."""

    level: Level
    configured: Level | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some octets of a file, in base 64."""

    octets: bytes


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in use, defaults included, with every secret as "(hidden)". Keys as in lispd.conf."""

    path: str
    values: dict[str, Any]
