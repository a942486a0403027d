"""Imports pyroute2's requests late: that takes 40 ms, and no request is made before the registers are sent."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

from lispmob.netlink.decoders import only_submodules_of


@contextlib.contextmanager
def _without_tls() -> Iterator[None]:
    """Leave out TLS, a megabyte that only a request to probe web servers needs. `import ssl` still works."""
    importlib.import_module("asyncio")  # import the real asyncio, or leave it out
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
