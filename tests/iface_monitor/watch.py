"""A monitor in the namespace of the test's thread, and everything that it reported."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy


class Watch:
    """A monitor and everything that it reported."""

    def __init__(self) -> None:
        self.deltas: list[NetworkDelta] = []
        self.told_at: list[float] = []
        self.monitor = NetlinkMonitor(UplinkPolicy(), self._on_change)
        self._told = asyncio.Event()

    def _on_change(self, state: NetworkState, delta: NetworkDelta, since: float) -> None:
        self.deltas.append(delta)
        self.told_at.append(time.monotonic())
        self._told.set()

    def uplinks(self) -> dict[str, list[str]]:
        found = self.monitor.state.uplinks(UplinkPolicy())
        return {uplink.name: [str(address) for address in uplink.addresses] for uplink in found}

    def kinds(self) -> list[str]:
        return [reason.kind.value for delta in self.deltas for reason in delta.reasons]

    async def until(self, is_so: Callable[[], bool], timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not is_so():
                self._told.clear()
                await self._told.wait()


def ip(*lines: str, family: str = "-4") -> None:
    """Run `ip` commands in one process. `family` "": what is of both families, such as a group of nexthop objects."""
    subprocess.run(["ip", *family.split(), "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=30)


def attach() -> None:
    ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1")


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    watch = Watch()
    await watch.monitor.start()
    try:
        yield watch
    finally:
        await watch.monitor.stop()


def run(body: Callable[[Watch], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with watching() as watch:
            await body(watch)

    asyncio.run(main())
