"""Converts the daemon's state to the schema of the control socket, and applies its changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import structs

from lispmob.api import schema
from lispmob.api.backend import ApiError
from lispmob.api.mapping.backend import StaticLocator
from lispmob.api.turns import Pages
from lispmob.control.registration import Registration, State
from lispmob.lispd.report.evidence import is_reached_by_other_address, is_registered_by_other_address, is_relayed
from lispmob.lispd.report.handovers import Handover
from lispmob.lispd.views import netcheck, uplink_views
from lispmob.lispd.views.flushing import flush
from lispmob.lispd.views.mapping_views import MappingViews
from lispmob.lispd.views.path_view import path_views
from lispmob.lispd.views.peer_views import PeerViews
from lispmob.lispd.views.seal_views import SealViews, seals_by_locator, summary
from lispmob.lispd.views.shown import Shown
from lispmob.lispd.views.steering_views import SteeringViews
from lispmob.lispd.views.upkeep_views import UpkeepViews
from lispmob.lispd.wall import iso_utc
from lispmob.package_version import package_version
from lispmob.problems.problem import Problem, Severity, verdict
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Action, Locator

_STATES: dict[State, Literal["idle", "registering", "registered", "failed"]] = {
    State.IDLE: "idle",
    State.REGISTERING: "registering",
    State.REGISTERED: "registered",
    State.REFRESHING: "registered",
    State.LOST: "failed",
}


class Views:
    """The Backend of the control socket, with its parts."""

    def __init__(self, parts: Shown) -> None:
        self._parts = parts
        self.steering = SteeringViews(parts)
        self.mappings = MappingViews(parts)
        self.upkeep = UpkeepViews(parts)
        self.seals = SealViews(parts)
        self.peers = PeerViews(parts)

    def version(self) -> str:
        """Of the installed package."""
        return package_version()

    def status(self) -> schema.Status:
        """Everything at a glance."""
        parts = self._parts
        parts.journal.on_unsent(parts.engine.drops("out_"), parts.now())
        moves = parts.journal.moves
        problems = parts.problems.look()
        eids = [
            schema.EidStatus(
                prefix=str(eid), registrations=[self._registration(registration) for registration in self._of(eid)]
            )
            for eid in parts.file.eids
        ]
        return schema.Status(
            state=self._state(),
            version=self.version(),
            pid=os.getpid(),
            started_at=iso_utc(parts.started_wall),
            uptime_s=round(max(0.0, parts.wall() - parts.started_wall), 3),
            eids=eids,
            uplinks=list(self.uplinks()),
            locators=self._locators(),
            locator_set_version=parts.node.locators.version,
            routing=schema.Routing(
                mode="full" if parts.file.routing.mode == "full" else "split",
                fallback=parts.node.config.fallback,
                tun=parts.file.tun.name,
                mtu_bytes=parts.tun_mtu_bytes,
                overlay_prefixes=[str(prefix) for prefix in parts.file.routing.overlay_prefixes],
            ),
            datapath=self._datapath(),
            map_cache_size=len(parts.node.map_cache),
            map_cache_limit=parts.node.map_cache.limit,
            last_handover=_handover(moves[-1]) if moves else None,
            verdict=verdict(problems),
            headline=parts.problems.headline,
            problems=[self._problem(problem) for problem in problems],
            map_resolvers=[str(address) for address in parts.file.resolvers],
            sealed=summary(parts),
        )

    def uplinks(self) -> Sequence[schema.Uplink]:
        """The uplinks, and the interfaces that could be uplinks and are not, with the reason."""
        return uplink_views.view(self._parts)

    def netcheck(self) -> Sequence[schema.NetCheck]:
        """What is between each address and the Internet."""
        return [netcheck.view(machine, self._parts.measuring) for machine in self._parts.node.traversal.machines]

    def map_cache(self) -> Pages:
        """A copy of the map-cache, with the direct paths past the RTR that take precedence."""
        from lispmob.lispd.views.map_cache_pages import pages

        return Pages(pages(self._parts), {"limit": self._parts.node.map_cache.limit})

    def database(self) -> Sequence[schema.DatabaseEntry]:
        """Our own mappings."""
        return [
            schema.DatabaseEntry(
                prefix=str(eid),
                locators=self._locators(eid),
                ttl_min=self._parts.node.config.record_ttl_min,
                map_version=self._parts.node.plan.map_version,
            )
            for eid in self._parts.file.eids
        ]

    def paths(self) -> Sequence[schema.Path]:
        """Every pair of a local locator and a remote one in use, by local interface."""
        found = path_views(self._parts.node, self._parts.now())
        sealed = seals_by_locator(self._parts)
        shown = (structs.replace(path, seal=sealed.get(path.remote, path.seal)) for path in found)
        return sorted(shown, key=lambda one: (one.interface, one.local, one.remote))

    def handovers(self) -> Sequence[schema.Handover]:
        """The latest moves, oldest first."""
        return [_handover(move) for move in self._parts.journal.moves]

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Counts of packets received, sent, refused and dropped, by part and reason."""
        control = self._parts.control
        return {
            "control": dict(sorted(self._parts.node.counters.items())),
            "control-socket": dict(sorted({**control.counters, "dropped": control.dropped}.items())),
            "datapath": dict(self._parts.engine.counters()),
            **({"names": dict(sorted(names.items()))} if (names := self._parts.naming.counters) else {}),
        }

    def lookup(self, eid: IpAddress, instance_id: int) -> schema.Lookup:
        """What would happen to a packet to `eid`; sends no request."""
        from lispmob.lispd.explain.looking_up import look_up  # loaded on request, and not at every start
        from lispmob.lispd.views.map_cache_pages import entry_view

        found = look_up(self._parts, eid, instance_id)
        return schema.Lookup(
            eid=str(eid),
            verdict=found.verdict,
            why=found.why,
            entry=None if found.entry is None else entry_view(self._parts, found.entry),
            locator=None if found.locator is None else str(found.locator),
        )

    def map_cache_add(
        self, prefix: EidPrefix, locators: Sequence[StaticLocator], action: Literal["drop", "native"]
    ) -> None:
        """Add or replace a static mapping; it lasts until it is deleted or lispd stops."""
        if any(eid.covers(prefix) for eid in self._parts.file.eids):
            raise ApiError("refused", f"{prefix} is an EID of our own; it needs no mapping")
        chosen = tuple(Locator(locator.address, locator.priority, locator.weight) for locator in locators)
        meaning = Action.NATIVELY_FORWARD if action == "native" else Action.DROP
        self._parts.perform(self._parts.node.on_mapping_added(prefix, chosen, meaning, self._parts.now()))

    def map_cache_delete(self, prefix: EidPrefix) -> bool:
        """Remove one mapping. False when there is none of exactly this prefix."""
        if self._parts.node.map_cache.get(prefix) is None:
            return False
        self._parts.perform(self._parts.node.on_mapping_deleted(prefix, self._parts.now()))
        return True

    async def map_cache_flush(self) -> int:
        """Remove every learned mapping; static ones stay. Returns how many were removed."""
        return await flush(self._parts, lambda entry: entry.source != "static")

    def nudge(self) -> bool:
        """Look at the network."""
        return self._parts.nudge()

    async def reload(self) -> schema.Reloaded:
        """Read the configuration again."""
        return await self._parts.reload()

    # --- internals

    def _state(self) -> Literal["starting", "offline", "registering", "partly-registered", "registered", "stopping"]:
        if self._parts.is_stopping:
            return "stopping"
        if self._parts.is_starting:
            return "starting"  # the node is not usable before the kernel's routes are set
        if not self._parts.uplinks:
            return "offline"
        registrations = [
            registration
            for registration in self._parts.node.registrations
            if not is_reached_by_other_address(registration, self._parts)
        ]
        if not registrations and self._parts.names.is_waiting:
            return "registering"
        confirmed = [
            registration.is_confirmed
            or is_relayed(registration, self._parts)
            or is_registered_by_other_address(registration, self._parts)
            for registration in registrations
        ]
        if all(confirmed):
            return "registered"
        return "partly-registered" if any(confirmed) else "registering"

    def _of(self, eid: EidPrefix) -> list[Registration]:
        return [registration for registration in self._parts.node.registrations if registration.eid == eid]

    def _registration(self, one: Registration) -> schema.Registration:
        now = self._parts.now()
        due, relayed = one.wake_at(), is_relayed(one, self._parts)
        return schema.Registration(
            map_server=str(one.server.address),
            state="registered" if relayed else _STATES[one.state],
            since=None if relayed else self._when(one.since),
            last_notify=self._when(one.confirmed_at),
            next_in_s=None if due is None else round(max(0.0, due - now), 3),
            rtt_ms=None if one.rtt_ms is None else round(one.rtt_ms, 3),
            problem=self._parts.problems.of(str(one.eid), str(one.server.address)),
        )

    def _when(self, at: float | None) -> str | None:
        """A time of the loop's clock as a time of day."""
        return None if at is None else iso_utc(self._parts.wall() - (self._parts.now() - at))

    def _problem(self, problem: Problem) -> schema.Problem:
        severities: dict[Severity, Literal["notice", "degraded", "broken"]] = {
            Severity.NOTICE: "notice",
            Severity.DEGRADED: "degraded",
            Severity.BROKEN: "broken",
        }
        return schema.Problem(
            key=problem.key,
            severity=severities[problem.severity],
            what=problem.what,
            cause=problem.cause,
            remedy=problem.remedy,
            subject=problem.subject,
            since_s=round(self._parts.problems.since_s(problem), 3),
        )

    def _locators(self, eid: EidPrefix | None = None) -> list[schema.LocalLocator]:
        relays = {uplink.locator.place: uplink.relays for uplink in self._parts.node.plan.uplinks}
        return [
            schema.LocalLocator(
                address=str(announced.address),
                interface=announced.interface,
                priority=announced.priority,
                weight=announced.weight,
                rtr=next((str(relay.rtr or relay.address) for relay in relays.get(announced.place, ())), None),
                nat64=next((str(announced.nat64) for relay in relays.get(announced.place, ()) if relay.rtr), None),
            )
            for announced in (locator.announced_for(eid) for locator in self._parts.node.locators.locators)
        ]

    def _datapath(self) -> schema.Datapath:
        counts, tier, marks = self._parts.engine.counters(), self._parts.engine.tiers.now, self._parts.engine.marks_way
        return schema.Datapath(
            tier=tier.name,
            why=tier.why,
            marks=marks.name,
            marks_why=marks.why,
            packets_out=counts["out_packets"],
            packets_in=counts["data_packets"],
            octets_out=counts["out_octets"],
            octets_in=counts["data_octets"],
            drops=self._parts.engine.drops(),
        )


def _handover(move: Handover) -> schema.Handover:
    return schema.Handover(
        id=move.number,
        started_at=iso_utc(move.began_wall),
        reasons=list(move.reasons),
        # The datapath reports packets a moment after they passed: sort by time, not by arrival.
        steps=[
            schema.Step(at_ms=step.at_ms, what=step.what, detail=step.detail)
            for step in sorted(move.steps, key=lambda each: each.at_ms)
        ],
        moved_after_ms=move.moved_after_ms,
        gap_out_ms=move.gap_out_ms,
        gap_in_ms=move.gap_in_ms,
        left=list(move.left),
        took=list(move.took),
        lost=move.lost,
    )
