"""The part of the control socket's Backend that is for who looks after the node."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from lispmob.api.backend import ApiError
from lispmob.api.belief_schema import Believed
from lispmob.api.turns import Pages
from lispmob.api.upkeep_schema import Chunk, Configuration, Level, LogLevel
from lispmob.config.values import HostName, Secret
from lispmob.service import logs
from lispmob.wire.address import EidPrefix

if TYPE_CHECKING:
    from lispmob.service.views import Parts

HIDDEN: Final = "(hidden)"
CHUNK: Final = 32 * 1024

log = logging.getLogger("lispd")


class UpkeepViews:
    """Log and configuration."""

    _parts: Parts

    def log_level(self) -> LogLevel:
        """What is logged."""
        known = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
        return LogLevel(level=cast(Level, known), configured=cast(Level, self._parts.file.log.level))

    def set_log_level(self, level: Level) -> LogLevel:
        """Log this and what is graver, until the next reload."""
        logs.configure(level)
        log.warning("log level is %s until the next reload", level)
        return self.log_level()

    def configuration(self) -> Configuration:
        """The configuration in use, without secrets."""
        values = shown(self._parts.file)
        return Configuration(path=str(self._parts.path), values=cast(dict[str, Any], values))

    async def believed(self) -> Believed:
        """What others believe about us."""
        return await self._parts.believing.ask(self._parts)

    def recording(self) -> Pages:
        """What the core was fed since the start, as chunks of a gzip file."""
        tape = self._parts.tape
        if tape is None:
            what = "lispd keeps no recording; put `log: {record: yes}` into lispd.conf, restart it, and do it again"
            raise ApiError("refused", what)
        content = tape.content()
        chunks = ([Chunk(octets=content[at : at + CHUNK])] for at in range(0, len(content), CHUNK))
        return Pages(chunks, {"lines": tape.lines, "is_full": tape.is_full})


def shown(value: object) -> Any:
    """A part of the configuration as JSON can have it; whatever is a secret is hidden, wherever it stands."""
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        return {key: shown(getattr(value, name)) for name, key in names}
    if isinstance(value, dict):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, EidPrefix):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(one) for one in value]
    if isinstance(value, HostName):
        return str(value)  # a string of its own kind is none that is encoded
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__dataclass_fields__"):
        return {name: shown(getattr(value, name)) for name in value.__dataclass_fields__}
    return value.hex() if isinstance(value, bytes) else str(value)
