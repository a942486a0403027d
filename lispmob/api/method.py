"""What a method of the control socket is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lispmob.api.backend import Backend


class Method(msgspec.Struct, frozen=True):
    """One method. `is_change`: only root and the group may call it. `wants_pid`: that of the client comes as well."""

    params: type[msgspec.Struct]
    call: Callable[..., Any]
    is_change: bool = False
    wants_pid: bool = False

    def apply(self, backend: Backend, params: Any, pid: int) -> Any:
        """Do it; the result, or an awaitable."""
        return self.call(backend, params, pid) if self.wants_pid else self.call(backend, params)
