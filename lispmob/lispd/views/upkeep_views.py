"""The part of the control socket's Backend for administrators."""

from __future__ import annotations

import logging
from typing import Final, cast

from lispmob import logs
from lispmob.api.backend import ApiError
from lispmob.api.turns import Pages
from lispmob.api.upkeep.belief_schema import Believed
from lispmob.api.upkeep.schema import Chunk, Configuration, Energy, Level, LogLevel, MessageCost
from lispmob.config.shown import section_tree
from lispmob.control.probing.path import ProbeConfig
from lispmob.lispd import assembly
from lispmob.lispd.views.shown import Shown

CHUNK: Final = 32 * 1024

log = logging.getLogger("lispd")


class UpkeepViews:
    """Log and configuration."""

    def __init__(self, parts: Shown) -> None:
        self._parts = parts

    def log_level(self) -> LogLevel:
        """What is logged."""
        known = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
        return LogLevel(level=cast(Level, known), configured=cast(Level, self._parts.file.log.level))

    def set_log_level(self, level: Level) -> LogLevel:
        """Log this level and higher ones, until the next reload."""
        logs.configure(level)
        log.warning("log level is %s until the next reload", level)
        return self.log_level()

    def configuration(self) -> Configuration:
        """The configuration in use, without secrets."""
        return Configuration(path=str(self._parts.path), values=section_tree(self._parts.file))

    def energy(self) -> Energy:
        """The cost of control messages per hour, and the detection times that it buys."""
        parts, now = self._parts, self._parts.now()
        counted_s = parts.cost.since_s(now)
        hours = max(counted_s, 1.0) / 3600
        costs = [
            MessageCost(
                uplink=cost.uplink,
                purpose=cost.purpose,
                sent_per_hour=cost.sent / hours,
                received_per_hour=cost.received / hours,
                octets_per_hour=cost.octets / hours,
                wake_ups_per_hour=cost.wake_ups / hours,
            )
            for cost in parts.cost.costs(now)
        ]
        probing = assembly.probe_config(parts.file)
        longest = None if probing is None else longest_unnoticed_s(probing)
        return Energy(profile=parts.file.profile, counted_s=counted_s, costs=costs, unnoticed_up_to_s=longest)

    async def believed(self) -> Believed:
        """What others believe about us."""
        return await self._parts.believing.ask(self._parts)

    def recording(self) -> Pages:
        """The core's inputs since the start, as chunks of a gzip file."""
        tape = self._parts.tape
        if tape is None:
            what = "lispd keeps no recording; put `log: {record: yes}` into lispd.conf, restart it, and do it again"
            raise ApiError("refused", what)
        content = tape.content()
        chunks = ([Chunk(octets=content[at : at + CHUNK])] for at in range(0, len(content), CHUNK))
        return Pages(chunks, {"lines": tape.lines, "is_full": tape.is_full})


def longest_unnoticed_s(probing: ProbeConfig) -> float:
    """How long a failure of an idle path may go unnoticed: the longest interval, and all tries."""
    return probing.interval_s * (1 + probing.jitter) + probing.tries * probing.timeout_s
