"""The methods of the control socket for who looks after a node."""

from __future__ import annotations

from typing import Final

from lispmob.api.method import Method
from lispmob.api.schema import NoParams
from lispmob.api.upkeep.schema import LogLevel

UPKEEP_METHODS: Final[dict[str, Method]] = {
    "log-level": Method(NoParams, lambda backend, _: backend.log_level()),
    "set-log-level": Method(LogLevel, lambda backend, params: backend.set_log_level(params.level), is_change=True),
    "energy": Method(NoParams, lambda backend, _: backend.energy()),
    # It changes nothing, but lispd.conf is not for everybody either.
    "believed": Method(NoParams, lambda backend, _: backend.believed()),
    "recording": Method(NoParams, lambda backend, _: backend.recording(), is_change=True),
    "configuration": Method(NoParams, lambda backend, _: backend.configuration(), is_change=True),
}
