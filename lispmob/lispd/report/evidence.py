"""Collects the evidence from the daemon's parts, from which problems are derived. No decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from itertools import islice
from typing import Final

from lispmob.config import doubts
from lispmob.control.diagnosis import Diagnosis
from lispmob.control.map_cache import MapCache
from lispmob.control.path_mtu.search import Source
from lispmob.control.probing.data_doubt import Route, Verdict
from lispmob.control.probing.path import Path
from lispmob.control.registration import Registration, State
from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy
from lispmob.lispd.assembly import preference_config
from lispmob.lispd.parts import Parts
from lispmob.lispd.report.complaints import Complaints
from lispmob.lispd.views import uplink_views
from lispmob.natt.data_way import Fault
from lispmob.natt.dialect import Dialect
from lispmob.natt.info_exchange import Seen
from lispmob.natt.machine import UplinkMachine
from lispmob.natt.natt_config import is_private
from lispmob.natt.state import State as NattState
from lispmob.natt.union import left
from lispmob.node.reachability import Evidence as Reached
from lispmob.problems.evidence import (
    AddressEvidence,
    DetourEvidence,
    DuplicateAddress,
    Evidence,
    FilteredEvidence,
    InsideEvidence,
    LossEvidence,
    NarrowEvidence,
    OwnEidEvidence,
    PeerEvidence,
    RefusedEvidence,
    RegistrationEvidence,
    SpoiledEvidence,
    UnusedInterface,
)
from lispmob.problems.problem import Problem
from lispmob.protocol.scheduler import Prefer
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork

UNHEARD_MIN: Final = 2  # ours: peers; a single one may have a firewall of its own
INSIDE_MAX: Final = 3  # ours: a few examples suffice
NO_RTR = "the Map-Server names none that can be used from here"
UNTRUSTED_RTR = "the Map-Server's answer proves nothing, so the RTR that it names is not used"


class OddChoices:
    """Improbable settings in the configuration, computed again only if it or the host changes."""

    def __init__(self) -> None:
        self._about: tuple[object, ...] = ()
        self._found: tuple[Problem, ...] = ()

    def of(self, parts: Parts) -> tuple[Problem, ...]:
        """On this host, now."""
        file, networks = parts.file, _networks(parts)
        names = frozenset(link.name for link in parts.network.links)
        about = (file, names, networks)
        if about != self._about:
            self._about = about
            self._found = (*doubts.doubts(file), *doubts.doubts_on(file, names, networks))
        return self._found


def gather(
    parts: Parts,
    diagnosis: Diagnosis,
    complaints: Complaints,
    odd_choices: tuple[Problem, ...],
    detours: tuple[DetourEvidence, ...],
    dropped_by_mark: int,
    filtered: Mapping[IpAddress, Verdict],
) -> Evidence:
    """All evidence, now."""
    families = frozenset(address.version for uplink in parts.uplinks for address in uplink.addresses)
    return Evidence(
        is_starting=parts.is_starting,
        is_stopping=parts.is_stopping,
        families=families,
        seeks_translator=parts.translators.is_searching,
        addresses=tuple(_address(machine, parts, complaints, filtered) for machine in parts.node.traversal.machines),
        duplicates=tuple(duplicates(parts.network, parts.policy)),
        own_eids=tuple(own_eids_in_use(parts.file.eids, parts.uplinks, parts.network)),
        unused=tuple(_unused(parts)),
        refused=tuple(refused_families(parts.network, parts.policy)),
        registrations=tuple(
            _registration(registration, parts, diagnosis, complaints) for registration in parts.node.registrations
        ),
        names=parts.names.evidence,
        peers=tuple(_peers(parts)),
        inside=tuple(foreign_in_own_prefix(parts.file.eids, parts.node.map_cache)),
        detours=detours,
        filtered=tuple(_filtered(parts, filtered)),
        narrow=tuple(_narrow(parts)),
        lossy=tuple(_lossy(parts)),
        steady=_steady(parts),
        sending=tuple(uplink.name for uplink in parts.uplinks),
        prefers_loss=preference_config(parts.file).prefer is Prefer.LOSS,
        chain_refusal=parts.steering.refusal,
        has_rules=bool(parts.steering.policy.rules),
        state_refusal=next(iter(parts.state_refusals), None),
        dropped_by_mark=dropped_by_mark,
        in_vain=tuple(map(str, parts.node.reachability.in_vain)),
        unasked=tuple(
            str(way.locator.address) for way in parts.node.reachability.ways if way.evidence is Reached.NO_RESOLVER
        ),
        peers_answer=parts.node.reachability.has_peers,
        reported=(*odd_choices, *parts.host_problems),
    )


def is_relayed(one: Registration, parts: Parts) -> bool:
    """True when it is registered through an RTR that answers."""
    return any(
        machine.state is NattState.RELAYED and machine.relays.holds(one.eid, one.server.address)
        for machine in parts.node.traversal.machines
    )


def is_registered_by_other_address(one: Registration, parts: Parts) -> bool:
    """True when no uplink has the family of this Map-Server, and the EID is registered at one with the same key.

    That is one hub with an address of each family: a network with only one family lacks nothing.
    """
    if any(address.version == one.server.address.version for uplink in parts.uplinks for address in uplink.addresses):
        return False
    return any(
        other.eid == one.eid and other.server.key == one.server.key and (other.is_confirmed or is_relayed(other, parts))
        for other in parts.node.registrations
    )


def is_reached_by_other_address(one: Registration, parts: Parts) -> bool:
    """True when its server has a name and an address of another family too, and only that one can be reached."""
    name = parts.names.name_of(one.server.address) if one.state is State.IDLE else ""
    return bool(name) and any(
        other.state is not State.IDLE and parts.names.name_of(other.server.address) == name
        for other in parts.node.registrations
    )


def _registration(
    one: Registration, parts: Parts, diagnosis: Diagnosis, complaints: Complaints
) -> RegistrationEvidence:
    eid, server = str(one.eid), str(one.server.address)
    is_open = one.state in (State.REGISTERING, State.REFRESHING, State.LOST)
    sources = [
        locator.address for locator in parts.node.plan.direct if locator.address.version == one.server.address.version
    ]
    return RegistrationEvidence(
        eid=eid,
        server=server,
        stands=one.is_confirmed or is_relayed(one, parts) or is_registered_by_other_address(one, parts),
        tries=max(0, one.tries - 1) if is_open else 0,
        is_resting=one.state is State.IDLE and not is_reached_by_other_address(one, parts),
        is_private=bool(sources) and all(map(is_private, sources)),
        finding=diagnosis.finding(one.eid, one.server.address),
        refusal=complaints.refusal(eid, server),
        shared=complaints.shared(eid, server),
        ever=one.confirmed_at is not None,
        on_link=_on_link(one.server.address, parts),
    )


def _on_link(address: IpAddress, parts: Parts) -> str | None:
    around = (net for net in _networks(parts).items() if net[0].version == address.version and address in net[0])
    return next((f"{network}, the network of {interface}" for network, interface in around), None)


def _address(
    machine: UplinkMachine, parts: Parts, complaints: Complaints, verdicts: Mapping[IpAddress, Verdict]
) -> AddressEvidence:
    one = machine.locator
    is_untrusted = machine.seen is not None and machine.seen.has_untrusted_rtrs
    stranded = machine.state is NattState.STRANDED
    nat64 = None if one.nat64 is None or _is_native(machine) else str(one.nat64)
    # An RTR that was never heard by the translator says nothing about the RTR.
    leads_nowhere = nat64 is not None and not machine.is_translated and (machine.is_unserved or machine.has_failed)
    return AddressEvidence(
        interface=one.interface,
        address=str(one.address),
        is_silent=parts.node.is_silent(one.address) and not _is_unasked(machine, parts),
        translated_to=translated_to(machine.seen, parts.uplinks),
        unheard_by=unheard_by(one.address, parts.node.paths, verdicts),
        stranded=(UNTRUSTED_RTR if is_untrusted else NO_RTR) if stranded else None,
        deaf_rtr=str(machine.choice.current)
        if machine.deafness.is_reported and machine.data_way.fault is None
        else None,
        spoiled=_spoiled(machine, parts),
        failed_rtr=complaints.failed_rtr(str(one.address))
        if machine.state is NattState.REGISTERING and not leads_nowhere
        else None,
        nat64=nat64,
        nat64_answers=True if machine.is_translated else False if leads_nowhere or machine.is_unserved else None,
    )


def _spoiled(machine: UplinkMachine, parts: Parts) -> SpoiledEvidence | None:
    """What is wrong with data to the RTR in use. An RTR of lispers.net's dialect may be down instead."""
    way, rtr = machine.data_way, machine.rtrs[0] if machine.rtrs else None
    if rtr is None or way.fault is None or machine.dialect is Dialect.LISPERS:
        return None
    is_spared = machine in left(parts.node.traversal.machines)
    is_by_nat = way.fault is Fault.OTHER_ADDRESS
    return SpoiledEvidence(str(rtr), is_by_nat=is_by_nat, goes_on=not way.is_shut, is_spared=is_spared)


def _is_native(machine: UplinkMachine) -> bool:
    """True when a Map-Server answers without a translator."""
    return machine.seen is not None and not machine.is_translated


def translated_to(seen: Seen | None, uplinks: Iterable[Uplink]) -> str | None:
    """The IPv4 address of a translator in front of the Map-Server, if no uplink has IPv4 itself."""
    if (
        seen is None
        or seen.as_other_family is None
        or any(address.version == 4 for up in uplinks for address in up.addresses)
    ):
        return None
    return str(seen.as_other_family)


def unheard_by(local: IpAddress, paths: Iterable[Path], verdicts: Mapping[IpAddress, Verdict]) -> tuple[str, ...]:
    """The locators of peers that answer probes from `local` and get no data from it; none if another one may get data.

    A single one may have a firewall of its own.
    """
    asked = {path.pair.remote for path in paths if path.pair.local == local and not path.is_down}
    if len(asked) < UNHEARD_MIN or any(verdicts.get(remote) is not Verdict.OUT for remote in asked):
        return ()
    return tuple(map(str, sorted(asked, key=str)))


def duplicates(network: NetworkState, policy: UplinkPolicy) -> Iterator[DuplicateAddress]:
    """On usable interfaces."""
    for local in network.addresses:
        link = network.link(local.ifindex) if local.is_duplicate else None
        if link is not None and policy.allows(link):
            yield DuplicateAddress(link.name, str(local.address))


def own_eids_in_use(
    eids: Iterable[EidPrefix], uplinks: Iterable[Uplink], network: NetworkState
) -> Iterator[OwnEidEvidence]:
    """Addresses of uplinks and of their gateways inside a local EID-Prefix."""
    ours = tuple(eids)
    for uplink in uplinks:
        gateways = [route.gateway for route in network.default_routes if route.ifindex == uplink.ifindex]
        found = [(address, False) for address in uplink.addresses]
        found += [(address, True) for address in dict.fromkeys(gateways) if address is not None]
        for address, is_gateway in found:
            eid = next((own for own in ours if own.contains(address)), None)
            if eid is not None:
                yield OwnEidEvidence(uplink.name, str(address), str(eid.network), is_gateway)


def eid_without_route(eids: Iterable[EidPrefix], network: NetworkState, ifindex: int) -> str:
    """A local EID inside a network of this interface, which has no default route of that family; "": there is none."""
    around = [
        local.subnet
        for local in network.addresses
        if local.ifindex == ifindex
        and local.prefix_len < local.address.max_prefixlen
        and not network.routes_of(ifindex, local.address.version)
    ]
    inside = (str(own.network) for own in eids if any(own.address in subnet for subnet in around))
    return next(inside, "")


def refused_families(network: NetworkState, policy: UplinkPolicy) -> Iterator[RefusedEvidence]:
    """Interfaces with an address and a default route that no packet comes to."""
    for link in network.links:
        if not (link.is_up and link.has_carrier and policy.allows(link)):
            continue
        families = {local.address.version for local in network.usable_addresses(link, policy)}
        for family in sorted(families):
            if refusal := network.refusal_of(link.ifindex, family):
                yield RefusedEvidence(link.name, family, refusal)


def foreign_in_own_prefix(eids: Iterable[EidPrefix], map_cache: MapCache) -> Iterator[InsideEvidence]:
    """Mappings of others inside a local EID-Prefix, the first few."""
    ours = tuple(eids)
    for own in ours:
        if own.mask_len < own.network.max_prefixlen:
            others = (entry for entry in map_cache.narrower(own) if entry.prefix not in ours and entry.locators)
            yield from (InsideEvidence(str(entry.prefix), str(own)) for entry in islice(others, INSIDE_MAX))


def _is_unasked(machine: UplinkMachine, parts: Parts) -> bool:
    """True for a locator that is unused because its family has no Map-Resolver: that is no problem."""
    way = parts.node.reachability.way(machine.locator.place)
    return way is not None and way.evidence in (Reached.NO_RESOLVER, Reached.UNKNOWN)


def _unused(parts: Parts) -> Iterator[UnusedInterface]:
    waits = parts.nm_state.portals if parts.file.network_manager.use else {}
    for uplink in uplink_views.view(parts):
        if not uplink.is_used:
            note = uplink.note or "not used"
            has_no_route = note == uplink_views.NO_ROUTE
            eid = eid_without_route(parts.file.eids, parts.network, uplink.ifindex) if has_no_route else ""
            yield UnusedInterface(uplink.name, note, wants_login=note == waits.get(uplink.name), eid_inside=eid)


def _peers(parts: Parts) -> Iterator[PeerEvidence]:
    """Mappings in use whose locators are all silent. Paths are few, whatever the size of the map-cache."""
    node = parts.node
    doubtful = {path.eid for path in node.paths if not node.is_reachable(path.pair.remote)}
    for prefix in sorted(doubtful, key=str):
        entry = node.map_cache.get(prefix)
        if entry is None or not prefix.mask_len:
            continue  # gone meanwhile; or the RTR, which NAT traversal reports
        probed = {path.pair.remote for path in node.paths if path.eid == prefix}
        if probed and not any(map(node.is_reachable, probed)):
            yield PeerEvidence(str(prefix), tuple(map(str, sorted(probed, key=int))))


def _filtered(parts: Parts, verdicts: Mapping[IpAddress, Verdict]) -> Iterator[FilteredEvidence]:
    """Only while probes are answered: otherwise it is another problem. Locators that data has left are tested by the
    node, the others by the status.
    """
    node = parts.node
    passing = node.passing_data(parts.now())
    for path in node.paths:
        remote, entry = path.pair.remote, node.disposition(path.eid)
        is_spared = remote in node.lost_data and entry is not None and all(o.address != remote for o in entry.locators)
        doubtful = None if remote in passing else verdicts.get(remote)
        verdict = node.lost_data[remote] if is_spared else doubtful
        if verdict is not None and node.is_reachable(remote):
            yield FilteredEvidence(str(path.eid), str(remote), verdict is Verdict.OUT, is_spared=is_spared)


def _narrow(parts: Parts) -> Iterator[NarrowEvidence]:
    """One for each local address: probes found it without an ICMP error."""
    found: dict[IpAddress, list[tuple[int, IpAddress]]] = {}
    for way, mtu in parts.node.path_mtus.ways.items():
        if mtu.is_reduced and mtu.source is Source.PROBED:
            found.setdefault(way.local, []).append((mtu.mtu_bytes, way.remote))
    for local, ways in found.items():
        remotes = tuple(dict.fromkeys(str(remote) for _, remote in ways))
        yield NarrowEvidence(str(local), min(mtu_bytes for mtu_bytes, _ in ways), remotes)


def _lossy(parts: Parts) -> Iterator[LossEvidence]:
    """Only paths that answer: a dead one is another problem."""
    names, now = _interfaces(parts), parts.now()
    for path in parts.node.paths:
        name, loss = names.get(path.pair.local), path.losses.loss(now) if path.is_answered else None
        if name is not None and loss is not None:
            yield LossEvidence(name, str(path.eid), str(path.pair.remote), loss.share, loss.over_s)


def _steady(parts: Parts) -> frozenset[str]:
    """The interfaces by which at least one peer has answered probes long enough, without a loss to speak of."""
    names, now = _interfaces(parts), parts.now()
    steady = (path for path in parts.node.paths if path.is_answered and path.losses.is_known(now))
    return frozenset(names.get(path.pair.local, "") for path in steady if not path.losses.is_lossy)


def _interfaces(parts: Parts) -> Mapping[IpAddress, str]:
    return {address: uplink.name for uplink in parts.uplinks for address in uplink.addresses}


def route_to(parts: Parts, remote: IpAddress) -> Route | None:
    """How to probe a locator in data: by a path whose probes are answered, from an uplink without an RTR."""
    path = next(
        (candidate for candidate in parts.node.paths if candidate.pair.remote == remote and not candidate.is_down), None
    )
    local = None if path is None else next((o for o in parts.node.plan.direct if o.address == path.pair.local), None)
    return None if path is None or local is None else Route(path.eid, local.address, local.ifindex)


def _networks(parts: Parts) -> Mapping[IpNetwork, str]:
    """The networks that the uplinks are attached to."""
    names = {uplink.ifindex: uplink.name for uplink in parts.uplinks}
    return {
        ip_network((local.address, local.prefix_len), strict=False): names[local.ifindex]
        for local in parts.network.addresses
        if local.ifindex in names and local.prefix_len < local.address.max_prefixlen
    }
