"""Requests and replies of the control socket for who looks after a node: its log, and its configuration."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


class LogLevel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged from now on: this and what is graver. `configured` is what a reload goes back to."""

    level: Level
    configured: Level | None = None


class MessageCost(msgspec.Struct, frozen=True, kw_only=True):
    """What control messages of one purpose cost on one uplink; octets with their outer IP and UDP headers.

    A wake-up is a message to which no other one of the uplink was closer than a second.
    """

    uplink: str
    purpose: Literal["register", "probe", "lookup", "nat", "other"]
    sent_per_hour: float
    received_per_hour: float
    octets_per_hour: float
    wake_ups_per_hour: float


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What control messages cost per hour, as of the last hour, or of `counted_s` when lispd has not run for so long.

    `unnoticed_up_to_s`: how long a path may be dead before a probe tells, while nothing is sent; None without probes.
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
