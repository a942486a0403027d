"""Configures systemd-resolved to ask our server for the overlay's names, and others for everything else.

The settings belong to our device (org.freedesktop.resolve1, SetLink...), so the host's configuration is not touched.
resolved keeps them over its own restart; a device that is created again needs them again. When lispd ends in any way,
the device disappears, and the settings with it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from lispmob.bus.connection import BusError, Connection, Signal
from lispmob.wire.address import IpAddress

NAME: Final = "org.freedesktop.resolve1"
_PATH: Final = "/org/freedesktop/resolve1"
_MANAGER: Final = "org.freedesktop.resolve1.Manager"
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

log = logging.getLogger(__name__)


class LinkNames(msgspec.Struct, frozen=True):
    """What resolved is sent for a device. `domain` is searched for short names; `reverse` zones are only asked for."""

    ifindex: int
    server: IpAddress
    port: int
    domain: str
    reverse: Sequence[str] = ()


class Resolved:
    """A client of the bus. `use` sets what resolved is sent, now and whenever it starts."""

    def __init__(self) -> None:
        self._bus: Connection | None = None
        self._wanted: LinkNames | None = None
        self._is_there = False
        self._task: asyncio.Task[None] | None = None
        self.is_configured = False
        self.refusal: str | None = None

    def use(self, names: LinkNames | None) -> None:
        """Send these settings from now on; None: none."""
        if names != self._wanted:
            self._wanted = names
            self._apply()

    async def revert(self) -> None:
        """Withdraw the settings, best effort: removing the device has the same effect."""
        names, self._wanted = self._wanted, None
        if self._task is not None:
            self._task.cancel()
        if names is not None and self._bus is not None and self.is_configured:
            self.is_configured = False
            try:
                await self._call("RevertLink", "i", names.ifindex)
            except BusError as error:
                log.debug("systemd-resolved: RevertLink: %s", error)

    async def on_bus(self, bus: Connection) -> None:
        """Follow resolved."""
        self._bus = bus
        await bus.follow(NAME)

    def on_bus_lost(self) -> None:
        """Stop: the bus is gone."""
        self._bus, self._is_there = None, False

    def on_owner(self, name: str, is_there: bool) -> None:
        """resolved has started or ended."""
        if name == NAME:
            self._is_there = is_there
            self._apply()

    def on_signal(self, signal: Signal) -> None:
        """Ignore signals: resolved sends none that matters here."""

    def _apply(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._is_there and self._bus is not None and self._wanted is not None:
            self._task = asyncio.get_running_loop().create_task(self._set(self._wanted))
        else:
            self.is_configured = False

    async def _set(self, names: LinkNames) -> None:
        index = names.ifindex
        domains = [[names.domain, False], *([zone, True] for zone in names.reverse)]
        server = [_FAMILY[names.server.version], names.server.packed, names.port, ""]
        try:
            await self._call("SetLinkDNSEx", "ia(iayqs)", index, [server])
            await self._call("SetLinkDomains", "ia(sb)", index, domains)
            await self._call("SetLinkDefaultRoute", "ib", index, False)
            for member in ("SetLinkLLMNR", "SetLinkMulticastDNS", "SetLinkDNSSEC", "SetLinkDNSOverTLS"):
                await self._call(member, "is", index, "no")
        except BusError as error:
            self.is_configured, self.refusal = False, error.text
            log.warning("systemd-resolved does not ask lispd for %s: %s", names.domain, error.text)
        else:
            self.is_configured, self.refusal = True, None
            log.info("systemd-resolved asks lispd for domain=%s", names.domain)

    async def _call(self, member: str, signature: str, *body: object) -> None:
        assert self._bus is not None
        await self._bus.call(NAME, _PATH, _MANAGER, member, signature, *body)
