"""Requests and replies of the control socket for administrators: the log, and the configuration."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


class LogLevel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log this level and higher ones from now on. `configured` is the level after a reload."""

    level: Level
    configured: Level | None = None


class MessageCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of control messages of one purpose on one uplink; octets with their outer IP and UDP headers.

    A wake-up is a message with no other one of the uplink within a second.
    """

    uplink: str
    purpose: Literal["register", "probe", "lookup", "nat", "other"]
    sent_per_hour: float
    received_per_hour: float
    octets_per_hour: float
    wake_ups_per_hour: float


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of control messages per hour, in the last hour, or in `counted_s` if lispd has not run for so long.

    `unnoticed_up_to_s`: how long a failed path may go unnoticed while nothing is sent; None without probes.
    """

    profile: str
    counted_s: float
    costs: list[MessageCost]
    unnoticed_up_to_s: float | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some octets of a file, in base 64."""

    octets: bytes


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in use, defaults included, with every secret as "(not shown)". Keys as in lispd.conf."""

    path: str
    values: dict[str, Any]
