"""The door to pyroute2's requests; imported late: it takes 40 ms, and nothing is asked before the registers left."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

from lispmob.netlink.decoders import only_submodules_of


@contextlib.contextmanager
def _without_tls() -> Iterator[None]:
    """A megabyte less: one of its requests, to probe a web server, needs TLS. A later `import ssl` works as ever."""
    importlib.import_module("asyncio")  # takes the real one, or none at all
    if "ssl" in sys.modules:
        yield
        return
    sys.modules["ssl"] = ModuleType("ssl")
    try:
        yield
    finally:
        del sys.modules["ssl"]


with only_submodules_of("pyroute2"), _without_tls():
    from pyroute2.iproute.linux import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["AsyncIPRoute", "NetlinkError"]
