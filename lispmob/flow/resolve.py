"""Resolves a full name to the EIDs of its host: a literal, this host, the mapping system, DNS with /etc/hosts.

These sources are asked in this order. Only EIDs count: a flow to any other address would bypass the overlay, and would
break with the next move.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final, TypeAlias

import msgspec

from lispmob.errors import LispError
from lispmob.flow.auth import IpAddress
from lispmob.flow.name import fold

SRV: Final = "_lispflow._udp."
DNS_TIMEOUT_S: Final = 5.0
MAPPING_TIMEOUT_S: Final = 4.0  # ours: lispd gives up earlier

FindName: TypeAlias = Callable[[str], Awaitable[tuple[tuple[IpAddress, ...], str]]]
"""Returns the EIDs of a name in the mapping system, and the result as text for users."""


class NotResolved(LispError):
    """No EID is known for a name; `steps` has the sources that were asked, with their results."""

    def __init__(self, name: str, steps: tuple[Step, ...]) -> None:
        told = "; ".join(f"{step.source}: {step.outcome}" for step in steps)
        super().__init__(f"no host has the name {name}: {told}")
        self.steps = steps


class Step(msgspec.Struct, frozen=True):
    """A source that was asked, and its result."""

    source: str
    outcome: str


class Resolved(msgspec.Struct, frozen=True):
    """The name for the request, its EIDs, the port to send the request to (0: the usual port), and how it was found."""

    name: str
    eids: tuple[IpAddress, ...]
    port: int
    steps: tuple[Step, ...]


class Resolver:
    """Resolves names. `is_eid`: whether an address belongs to the overlay; `is_held`: whether this host holds a name.

    `own` returns our EIDs; `find_name` asks the mapping system, for `patience_s` at most; `find_service` asks DNS for
    the SRV record of a name: (host, port), or None. `domain` is ours: names in the mapping system do not contain it.
    """

    def __init__(
        self,
        *,
        is_eid: Callable[[IpAddress], bool],
        is_held: Callable[[str], bool],
        own: Callable[[], tuple[IpAddress, ...]],
        domain: str = "",
        find_name: FindName | None = None,
        patience_s: float = MAPPING_TIMEOUT_S,
        find_service: Callable[[str], Awaitable[tuple[str, int] | None]] | None = None,
    ) -> None:
        self._is_eid, self._is_held, self._own = is_eid, is_held, own
        self._domain, self._find_name, self._patience_s = domain, find_name, patience_s
        self._find_service = find_service or find_service_by_dns

    async def resolve(self, name: str) -> Resolved:
        """The EIDs of a name, from the most trusted source that has any. Raises NotResolved."""
        full, at, literal = name.rpartition("@")
        if at and full:
            return self._literal(full, literal)
        if self._is_held(name):
            return Resolved(name, self._own(), 0, (Step("this host", "holds it"),))
        steps = [Step("this host", "does not hold it")]
        if self._find_name is not None and (eids := await self._by_mapping(self._find_name, name, steps)):
            return Resolved(name, eids, 0, tuple(steps))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DNS_TIMEOUT_S):
                return await self._by_dns(name, steps)
        raise NotResolved(name, (*steps, Step("dns", f"no answer in {DNS_TIMEOUT_S:g} s")))

    async def _by_mapping(self, find: FindName, name: str, steps: list[Step]) -> tuple[IpAddress, ...]:
        """Ask for the name itself and for its host.

        Both are asked at the same time, so that it takes one round trip.
        """
        asked = mapping_names(name, self._domain)
        tasks = [asyncio.ensure_future(find(candidate)) for candidate in asked]
        try:
            await asyncio.wait(tasks, timeout=self._patience_s)
        finally:
            for task in tasks:
                task.cancel()
        for candidate, task in zip(asked, tasks, strict=True):
            found, why = task.result() if task.done() and not task.cancelled() else ((), "no answer")
            eids = tuple(eid for eid in found if self._is_eid(eid))
            said = ", ".join(map(str, eids)) or ("not in the overlay" if found else why)
            steps.append(Step(f"mapping system, {candidate}", said))
            if eids:
                return eids
        return ()

    def _literal(self, name: str, literal: str) -> Resolved:
        try:
            eid = ip_address(literal)
        except ValueError:
            raise NotResolved(name, (Step("literal", f"{literal!r} is no address"),)) from None
        if not self._is_eid(eid):
            raise NotResolved(name, (Step("literal", f"{eid} is not in the overlay"),))
        return Resolved(name, (eid,), 0, (Step("literal", str(eid)),))

    async def _by_dns(self, name: str, steps: list[Step]) -> Resolved:
        service = await self._find_service(SRV + name)
        steps.append(Step("dns SRV", f"{service[0]} port {service[1]}" if service else "none"))
        host = name.partition(".")[2]
        places = ([service] if service else []) + [(name, 0)] + ([(host, 0)] if host else [])
        for place, port in places:
            found = await addresses_of(place)
            eids = tuple(address for address in found if self._is_eid(address))
            outcome = ", ".join(map(str, eids)) or ("not in the overlay" if found else "no address")
            steps.append(Step(f"address of {place}", outcome))
            if eids:
                return Resolved(name, eids, port, tuple(steps))
        raise NotResolved(name, tuple(steps))


def mapping_names(name: str, domain: str) -> tuple[str, ...]:
    """What to ask the mapping system for: the name, and its host, both without our domain and in lower case."""
    suffix = f".{domain.lower()}" if domain else ""
    full = fold(name).decode()
    full = full.removesuffix(suffix) or full
    return tuple(dict.fromkeys(candidate for candidate in (full, full.partition(".")[2]) if candidate))


async def addresses_of(host: str) -> tuple[IpAddress, ...]:
    """The result of getaddrinfo, which includes /etc/hosts; empty for an invalid name."""
    try:
        host.encode("idna")
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(ip_address(str(place[0]).partition("%")[0]) for *_, place in found))


async def find_service_by_dns(name: str) -> tuple[str, int] | None:
    """The preferred SRV record of a name, if dnspython is installed; None without a record or an answer."""
    try:
        import dns.asyncresolver
        import dns.exception
    except ImportError:
        return None
    try:
        answer = await dns.asyncresolver.resolve(name, "SRV", lifetime=DNS_TIMEOUT_S / 2, search=True)
    except (dns.exception.DNSException, OSError, UnicodeError):
        return None
    records = sorted(answer, key=lambda record: (record.priority, -record.weight))
    return (str(records[0].target).rstrip("."), int(records[0].port)) if records else None
