"""Answers the control socket: registrations, events, and the operator's commands (adapter)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol

from lispmob.errors import LispError
from lispmob.hub.asking import Answer
from lispmob.hub.config import HubFile
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.inviting.desk import InvitationDesk
from lispmob.hub.ledger import Ledger
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.public_address import unreachable_as_rtr
from lispmob.hub.show import entries
from lispmob.hub.views import SCHEMA_VERSION, node_of, pools_of, problems_of, site_of
from lispmob.package_version import package_version
from lispmob.wire.address import EidPrefix, IpAddress

SHOWN_AT_ONCE: Final = 128  # ours: registrations that are converted to text at a time
EVENTS_SHOWN: Final = 1000
MOVES_SHOWN: Final = 5


class HubFace(Protocol):
    """The running hub as the operator's requests need it."""

    plane: ControlPlane
    desk: InvitationDesk
    ledger: Ledger
    file: HubFile
    started_at: float

    def counters(self) -> dict[str, int]:
        """All nonzero counters."""

    def reload(self) -> Awaitable[str | None]:
        """Read the configuration again; returns its error, or None."""

    async def settle(self) -> None:
        """Wait until the stored state is loaded, and pending changes are written."""

    def slices(self, count: int) -> AsyncIterator[list[Registration]]:
        """All registrations, some at a time; the hub serves meanwhile."""

    @property
    def store_problem(self) -> str | None:
        """Why registrations cannot be saved."""


class Operator:
    """Answers each kind of request."""

    def __init__(self, hub: HubFace) -> None:
        self._hub = hub
        self._answers: dict[str, Callable[[Answer], Awaitable[Answer | bytes]]] = {
            "reload": self._reload,
            "registrations": self._registrations,
            "status": self._status,
            "sites": self._sites,
            "nodes": self._nodes,
            "events": self._events,
            "counters": self._counters,
            "invite": hub.desk.invite,
            "renumber": hub.desk.renumber,
            "revoke": hub.desk.revoke,
        }

    async def answer(self, asked: Answer) -> Answer | bytes:
        """The answer to one request, with the version of its schema."""
        found = self._answers.get(str(asked.get("ask")))
        if found is None:
            return {"v": SCHEMA_VERSION, "error": f"{str(asked.get('ask'))!r} is nothing that can be asked for"}
        try:
            answer = await found(asked)
        except LispError as error:
            return {"v": SCHEMA_VERSION, "error": str(error)}
        return answer if isinstance(answer, bytes) else {"v": SCHEMA_VERSION, **answer}

    async def _reload(self, _: Answer) -> Answer:
        return {"error": await self._hub.reload()}

    async def _registrations(self, _: Answer) -> bytes:
        """All registrations as JSON, a slice at a time, so that nodes do not wait."""
        hub = self._hub
        await hub.settle()
        pieces: list[str] = []
        async for some in hub.slices(SHOWN_AT_ONCE):
            shown = entries((part for registration in some for part in registration), _now())
            pieces.append(json.dumps(shown)[1:-1])
        names = entries(hub.plane.map_server.names, _now())
        pieces += [json.dumps(names)[1:-1]] if names else []
        return f'{{"registrations": [{", ".join(pieces)}], "problem": {json.dumps(hub.store_problem)}}}'.encode()

    async def _nodes(self, _: Answer) -> bytes:
        hub = self._hub
        rtrs, pieces = self._rtrs(), list[str]()
        subscriptions: dict[bytes, list[str]] = {}
        for subscription in hub.plane.publisher.subscriptions:
            subscriptions.setdefault(subscription.xtr_id, []).append(str(subscription.prefix))
        async for some in hub.slices(SHOWN_AT_ONCE):
            nodes = [
                node_of(
                    part,
                    self._site_name(registration.prefix),
                    hub.ledger,
                    rtrs,
                    _now(),
                    subscriptions.get(part.xtr_id or b"", ()),
                )
                for registration in some
                for part in registration
            ]
            pieces += [json.dumps(nodes)[1:-1]] if nodes else []
        return f'{{"v": {SCHEMA_VERSION}, "nodes": [{", ".join(pieces)}]}}'.encode()

    async def _sites(self, _: Answer) -> Answer:
        hub, wall = self._hub, time.time()
        by_site = await self._registered()
        states = hub.desk.states(wall)
        live = {site.name for site in hub.desk.sites()}
        sites: list[Answer] = []
        for site in hub.plane.map_server.sites:
            sites.append(site_of(site, states[site.name] if site.name in live else None, by_site.get(site.name, ())))
            if len(sites) % SHOWN_AT_ONCE == 0:
                await asyncio.sleep(0)
        return {"sites": sites, "displaced": sorted(set(states) - live)}

    async def _status(self, _: Answer) -> Answer:
        hub, wall = self._hub, time.time()
        by_site, relayed = dict[str, list[EidPrefix]](), 0
        rtrs = self._rtrs()
        # The registrations in memory: of a shared registry, those used here.
        for some in hub.plane.map_server.registrations.slices(SHOWN_AT_ONCE):
            for registration in some:
                by_site.setdefault(self._site_name(registration.prefix) or "", []).append(registration.prefix)
                record = registration.record
                locators = record.locators if record is not None else ()
                relayed += any(ip in rtrs for locator in locators if locator.is_reachable for ip in locator.ips)
            await asyncio.sleep(0)
        states = hub.desk.states(wall)
        sites = list(hub.plane.map_server.sites)
        known = hub.plane.addresses
        offer = hub.file.to_offer()
        return {
            "version": package_version(),
            "started_at": hub.started_at,
            "uptime_s": round(wall - hub.started_at, 1),
            "addresses": list(map(str, known or offer.addresses)),
            "is_rtr": hub.file.rtr.enabled,
            "is_proxy": hub.file.proxy.enabled,
            "public_key": "" if hub.plane.sealing is None else hub.plane.sealing.public_key.hex(),
            "sealed_nodes": 0 if hub.plane.sealing is None else hub.plane.sealing.session_count,
            "domain": offer.domain,
            "pools": pools_of(offer.pools, (eid for site in sites for eid in site.eids)),
            "sites": len(sites),
            "invitations": {
                state: sum(invitation["state"] == state for invitation in states.values())
                for state in ("joined", "invited", "expired")
            },
            "registered": sum(map(len, by_site.values())),
            "sites_registered": len(by_site),
            "behind_rtr": relayed,
            "subscriptions": hub.counters().get("registry_subscriptions", len(hub.plane.publisher)),  # of all processes
            "published": _published(hub.plane.publisher.last, wall),
            "is_complete": hub.plane.map_server.is_complete,
            "last_moves": hub.ledger.moves(MOVES_SHOWN),
            "problems": problems_of(
                hub.ledger,
                wall,
                {
                    "not-saved" if not hub.file.registry.is_shared else "registry": hub.store_problem,
                    "no-invitations": hub.desk.problem if offer.pools else None,
                    "unreachable-as-rtr": unreachable_as_rtr(known) if hub.file.rtr.enabled else None,
                },
            ),
        }

    async def _events(self, asked: Answer) -> Answer:
        count, after = asked.get("count"), asked.get("after")
        shown = count if isinstance(count, int) and 0 < count <= EVENTS_SHOWN else EVENTS_SHOWN
        return {"events": self._hub.ledger.events(shown, after if isinstance(after, int) else 0)}

    async def _counters(self, _: Answer) -> Answer:
        return {"counters": self._hub.counters()}

    async def _registered(self) -> dict[str, list[EidPrefix]]:
        """The registered EID-Prefixes, by the name of their site."""
        found: dict[str, list[EidPrefix]] = {}
        async for some in self._hub.slices(SHOWN_AT_ONCE):
            for registration in some:
                found.setdefault(self._site_name(registration.prefix) or "", []).append(registration.prefix)
        return found

    def _site_name(self, prefix: EidPrefix) -> str | None:
        found = self._hub.plane.map_server.sites.of(prefix)
        return found[1].name if found is not None else None

    def _rtrs(self) -> frozenset[IpAddress]:
        """The RTRs, whose locators stand for nodes behind NATs."""
        policy = self._hub.plane.traversal.policy
        own = self._hub.plane.addresses if policy.is_rtr else ()
        return frozenset((*own, *(rtr.address for rtr in policy.rtrs)))


def _now() -> float:
    return asyncio.get_running_loop().time()


def error_of(answer: dict[str, Any]) -> str | None:
    """The reason of the hub's refusal."""
    error = answer.get("error")
    return None if error is None else str(error)


def _published(last: tuple[float, EidPrefix] | None, wall: float) -> Answer | None:
    """The last publication (RFC 9437): when, and about which EID-Prefix."""
    return None if last is None else {"at": wall - (_now() - last[0]), "eid": str(last[1])}
