"""The C engine that the parts of the interface share."""

from __future__ import annotations

from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.model import EngineConfig

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class Handle:
    """A struct lm_engine, until it is freed."""

    def __init__(self, config: EngineConfig) -> None:
        self._c = lib.lm_engine_new(marshal.config(config))
        if self._c == ffi.NULL:
            raise MemoryError("datapath")

    @property
    def c(self) -> Any:
        """The pointer. ValueError after the datapath was stopped."""
        if self._c is None:
            raise ValueError("the datapath has been stopped")
        return self._c

    def free(self) -> None:
        """Stop its threads and free it. Idempotent."""
        if self._c is not None:
            lib.lm_engine_free(self._c)
            self._c = None


def check(error: int) -> None:
    """Raise MemoryError unless the C side returned 0: an update can fail in no other way."""
    if error:
        raise MemoryError("datapath")
