"""The desktop around the daemon: the system bus with NetworkManager, suspend and our own D-Bus object, and systemd's
status.

Any of this may be missing, come and go; the daemon then works from netlink alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from lispmob.api import sd_notify
from lispmob.api.backend import Backend
from lispmob.api.dbus import TOLD, DBusFace
from lispmob.api.schema import Event
from lispmob.bus.connection import BusClient
from lispmob.bus.system_bus import SystemBus
from lispmob.errors import KernelRefused
from lispmob.iface_monitor.delta import OnChange
from lispmob.iface_monitor.monitor import Monitor
from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.network_manager import NetworkManagerWatch
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.portal_patience import PortalPatience
from lispmob.iface_monitor.sleep import SleepWatch
from lispmob.iface_monitor.snapshot import UplinkPolicy
from lispmob.lispd.tasks.waking import Waking
from lispmob.lispd.wall import suspended_s

NUDGES_APART_S: Final = 1.0  # ours: any user may nudge, and a look costs a millisecond

log = logging.getLogger(__name__)


class Listener(Protocol):
    """The part of the daemon that gets reports."""

    def on_nm_state(self, reasons: list[str], since: float) -> None:
        """NetworkManager's view changed at `since` (the loop's time); `reasons` are sentences, perhaps none."""

    def on_awake(self) -> None:
        """The machine was suspended: earlier state cannot be trusted."""

    def look_again(self) -> None:
        """Read the kernel's state again."""

    def summary(self) -> str:
        """One line for `systemctl status`."""


class Desktop:
    """Owns the bus and its clients."""

    def __init__(self, daemon: Listener, views: Backend, *, has_bus: bool, clients: Iterable[BusClient] = ()) -> None:
        """`clients` share the bus."""
        self._daemon = daemon
        self._manager = NetworkManagerWatch(self._on_nm_state)
        self._face = DBusFace(views)
        listening: list[BusClient] = [self._manager, SleepWatch(self._on_sleep), *clients]
        self._bus = SystemBus(listening, self._face) if has_bus else None
        self._waking = Waking(suspended_s())
        self._nudged_at = float("-inf")
        self._nudge: asyncio.TimerHandle | None = None
        self._status = ""
        self._patience = PortalPatience()
        self._patience_ends: asyncio.TimerHandle | None = None

    @property
    def nm_state(self) -> ManagerState:
        """NetworkManager's present view; empty if it does not run."""
        return self._manager.nm_state

    @property
    def outlasted(self) -> frozenset[str]:
        """Interfaces that have shown a login page for so long that they may be tried."""
        return self._patience.outlasted(asyncio.get_running_loop().time())

    async def start(self) -> None:
        """Begin to listen; does not wait."""
        if self._bus is not None:
            await self._bus.start()

    async def stop(self) -> None:
        """Leave the bus. Idempotent."""
        for timer in (self._nudge, self._patience_ends):
            if timer is not None:
                timer.cancel()
        self._nudge = self._patience_ends = None
        if self._bus is not None:
            await self._bus.stop()
        self._face.close()

    def publish(self, event: Event) -> None:
        """Publish an event on the bus, and in `systemctl status` if it is for people."""
        self._face.publish(event)
        if event.kind in TOLD:
            self.touch()

    def touch(self) -> None:
        """The shown state may have changed."""
        self._face.touch()
        line = self._daemon.summary()
        if line != self._status:
            self._status = line
            sd_notify.status(line)

    def nudge(self) -> bool:
        """The network may have changed. False if the look is delayed, to bound the cost."""
        loop = asyncio.get_running_loop()
        due = self._nudged_at + NUDGES_APART_S
        if loop.time() >= due:
            self._look()
            return True
        if self._nudge is None:
            self._nudge = loop.call_at(due, self._look)
        return False

    def check_clocks(self) -> None:
        """The fallback if logind does not report suspends; cheap."""
        self._on_awake(self._waking.on_clocks(suspended_s(), asyncio.get_running_loop().time()))

    def _look(self) -> None:
        self._nudge = None
        self._nudged_at = asyncio.get_running_loop().time()
        log.debug("nudged: looking at the network again")
        self._daemon.look_again()

    def _on_nm_state(self, nm_state: ManagerState, reasons: list[str], since: float) -> None:
        self._patience.on_portals(nm_state.portals, asyncio.get_running_loop().time())
        self._await_portals()
        self._daemon.on_nm_state(reasons, since)
        self._face.touch()

    def _await_portals(self) -> None:
        """Evaluate the interfaces again when a login page has been shown for long enough."""
        loop = asyncio.get_running_loop()
        if self._patience_ends is not None:
            self._patience_ends.cancel()
        at = self._patience.wake_at(loop.time())
        self._patience_ends = None if at is None else loop.call_at(at, self._on_patience_ended)

    def _on_patience_ended(self) -> None:
        now = asyncio.get_running_loop().time()
        names = ", ".join(sorted(self._patience.outlasted(now)))
        self._await_portals()
        self._daemon.on_nm_state(
            [f"{names}: the login page is still there; tried all the same if nothing else is"], now
        )
        self._face.touch()

    def _on_sleep(self, is_falling_asleep: bool) -> None:
        if is_falling_asleep:
            log.info("the machine is about to sleep")
        self._on_awake(self._waking.on_prepare(is_falling_asleep, asyncio.get_running_loop().time()))

    def _on_awake(self, news: str | None) -> None:
        if news is not None:
            log.info("%s", news)
            self._daemon.on_awake()


async def start_monitor(policy: UplinkPolicy, on_change: OnChange, on_rules_changed: Callable[[], None]) -> Monitor:
    """A running monitor: netlink's, or one that polls if netlink is refused."""
    netlink = NetlinkMonitor(policy, on_change, on_rules_changed)
    try:
        await netlink.start()
    except KernelRefused as refused:
        log.warning("%s", refused)
    else:
        return netlink
    from lispmob.iface_monitor.polling import PollingMonitor  # late: hardly any machine needs it

    polling = PollingMonitor(policy, on_change, on_rules_changed)
    await polling.start()
    return polling
