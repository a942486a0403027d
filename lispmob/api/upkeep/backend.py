"""The daemon's interface for the control socket about administration."""

from __future__ import annotations

from typing import Protocol

from lispmob.api.turns import Pages
from lispmob.api.upkeep.belief_schema import Believed
from lispmob.api.upkeep.schema import Configuration, Energy, Level, LogLevel


class UpkeepBackend(Protocol):
    """Called in the event loop."""

    def log_level(self) -> LogLevel:
        """The present log level."""

    def set_log_level(self, level: Level) -> LogLevel:
        """Log this level and higher ones, until the next reload."""

    def configuration(self) -> Configuration:
        """The configuration in use, without secrets."""

    def energy(self) -> Energy:
        """What control messages cost."""

    async def believed(self) -> Believed:
        """What others believe about us; asks them, which takes up to two seconds."""

    def recording(self) -> Pages:
        """The core's inputs since the start: `Chunk`s of a gzip file. Raises ApiError if they are not recorded."""
