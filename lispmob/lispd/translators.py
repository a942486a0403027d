"""The translators (NAT64) that lead uplinks with IPv6 only to IPv4: what `control/translator_search.py` has asked for.

Only where a Map-Server has IPv4 is any of it wanted. The questions go to the resolver of the C library, as those about
servers do (resolving.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Network
from random import random

from lispmob.config.node import NodeFile
from lispmob.control.server_addresses import AskName
from lispmob.control.translator_search import TranslatorSearch
from lispmob.iface_monitor.snapshot import NetworkState, Uplink
from lispmob.lispd.alarm import Alarm
from lispmob.lispd.resolving import ask_in_thread
from lispmob.wire.address import IpAddress

log = logging.getLogger("lispd")


class Translators:
    """`on_change` is called by the loop, later, when another prefix is to be used."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._search = TranslatorSearch(jitter=random)
        self._alarm = Alarm(self._on_time)
        self._reported: dict[int, IPv6Network] = {}
        self._is_open = True

    @property
    def prefixes(self) -> Mapping[int, IPv6Network]:
        """By the index of an uplink that has IPv6 only: the prefix that IPv4 addresses are embedded behind."""
        return self._search.prefixes

    @property
    def is_searching(self) -> bool:
        """True while an uplink has none, and DNS may yet tell."""
        return self._search.is_open

    def look(self, file: NodeFile, network: NetworkState, uplinks: Iterable[Uplink]) -> None:
        """The configuration, the network or the uplinks are these now."""
        wish, now = file.natt.nat64, self._now()
        named = wish if isinstance(wish, IPv6Network) else None
        questions = self._search.on_config(named, now, is_off=wish == "off" or file.natt.mode == "off")
        questions += self._search.on_uplinks(needy(file, network, uplinks), now)
        self._ask(questions)
        self._reported = dict(self.prefixes)  # who looks tells the core by itself

    def stop(self) -> None:
        """Ask no more."""
        self._is_open = False
        self._alarm.cancel()

    def _ask(self, questions: Iterable[AskName]) -> None:
        for question in questions:
            ask_in_thread(question, self._on_answer)
        self._alarm.set(self._search.wake_at() if self._is_open else None)

    def _on_answer(self, question: AskName, addresses: tuple[IpAddress, ...], why_none: str) -> None:
        if self._is_open:
            log.debug("translator asked for answer=%s why=%s", addresses, why_none)
            self._search.on_answer(question.number, addresses, self._now())
            self._settle()

    def _on_time(self) -> None:
        self._ask(self._search.on_timer(self._now()))
        self._settle()

    def _settle(self) -> None:
        self._alarm.set(self._search.wake_at())
        if self.prefixes != self._reported:
            self._reported = dict(self.prefixes)
            self._on_change()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def needy(file: NodeFile, network: NetworkState, uplinks: Iterable[Uplink]) -> dict[int, IPv6Network | None]:
    """The uplinks that have IPv6 only, where there is a Map-Server with IPv4; each with what its router says."""
    if all(server.address.version == 6 for server in file.map_servers):
        return {}
    routed = {translator.ifindex: translator.prefix for translator in reversed(network.translators)}
    families = {uplink.ifindex: {address.version for address in uplink.addresses} for uplink in uplinks}
    return {ifindex: routed.get(ifindex) for ifindex, found in families.items() if found == {6}}
