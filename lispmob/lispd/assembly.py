"""Translates the configuration and the state of the network into the inputs of each part. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Network
from typing import Final, cast

from lispmob.config.node import NodeFile, UplinkSection
from lispmob.config.profile import PROFILES
from lispmob.control.itr_security import derived_secret
from lispmob.control.node_config import Fallback, NodeConfig, StatusBitsUse
from lispmob.control.preference import PreferenceConfig
from lispmob.control.probing.path import ProbeConfig
from lispmob.control.sealing.dialect_keys import DialectName
from lispmob.control.sealing.peer_keys import PinnedKey
from lispmob.control.sealing.seal_config import HubKey, SealMode
from lispmob.datapath.device.lanes import device_prefix
from lispmob.datapath.model import (
    ControlPacket,
    Disposition,
    EngineConfig,
    ForwardingEntry,
    ForwardingLocator,
    PathMtu,
    SourceCheck,
)
from lispmob.datapath.model import Traversal as EngineTraversal
from lispmob.datapath.model import Uplink as EngineUplink
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy
from lispmob.mh.plan import LostAddress
from lispmob.mh.policy import Uplink as SteeringUplink
from lispmob.natt.arrival import DataControl
from lispmob.natt.natt_config import is_private
from lispmob.natt.plan import NattPlan, UplinkPlan
from lispmob.protocol.effect import InstallMapping, UsePathMtu
from lispmob.protocol.locator_set import NEVER, EidRank, LocalLocator, Place
from lispmob.protocol.natt_settings import NattMode, NattSettings
from lispmob.protocol.scheduler import Prefer
from lispmob.protocol.servers import LispSecMode, MapServerPeer, ResolverSecret
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.record import Locator, MappingRecord

NO_PLAN: Final = NattPlan()
_NATT_MODES: Final[dict[str, NattMode]] = {"auto": "auto", "off": "off", "e19": "e19", "lispers-net": "lispers"}
NO_NM: Final = ManagerState()
NONE: Final[frozenset[str]] = frozenset()
NO_TRANSLATORS: Final[Mapping[int, IPv6Network]] = {}
NO_RANKS: Final[Mapping[str, int]] = {}
METERED_COST: Final = 100  # ours: more than nothing


def uplink_policy(file: NodeFile, nm_state: ManagerState = NO_NM, outlasted: frozenset[str] = NONE) -> UplinkPolicy:
    """Which interfaces and addresses may be uplinks, given NetworkManager's view.

    `outlasted`: interfaces that have shown a login page for long enough.
    """
    return UplinkPolicy(
        held_back=frozenset(held_back(file, nm_state)),
        stopgaps=outlasted.intersection(nm_state.portals) - frozenset(nm_state.leaving),
        last_resort=last_resort(file, nm_state),
        rules=tuple(rule.to_rule() for rule in file.uplinks),
        networks=nm_state.networks if any(rule.network for rule in file.uplinks) else (),
        ignored_interfaces=(file.tun.name, f"{device_prefix(file.tun.name)}*", "lmn*", "lmh*"),
        use_temporary=file.addresses.temporary,
        use_deprecated=file.addresses.deprecated,
        destinations=tuple(server.address for server in file.map_servers),
    )


def last_resort(file: NodeFile, nm_state: ManagerState) -> frozenset[str]:
    """Interfaces that are used only if there is no other."""
    wishes = file.network_manager
    metered = nm_state.metered if wishes.use and wishes.metered == "last" else NONE
    return metered | (nm_state.limited if wishes.use and wishes.limited == "last" else NONE)


def held_back(file: NodeFile, nm_state: ManagerState) -> dict[str, str]:
    """Interfaces that must not be used now, each with the reason: NetworkManager's view under the user's rules."""
    wishes = file.network_manager
    if not wishes.use:
        return {}
    found = dict.fromkeys(nm_state.metered, "is metered") if wishes.metered == "never" else {}
    if wishes.portal == "wait":
        found.update(nm_state.portals)
    return {**found, **nm_state.leaving}


def _key_record(static_key: bytes | None, *, is_revoked: bool, was_used: bool) -> KeyRecord | None:
    if static_key is None or (is_revoked and not was_used):
        return None
    return KeyRecord((static_key,), is_revoked)


def node_config(
    file: NodeFile,
    xtr_id: bytes,
    host_name: str = "lispmob",
    *,
    has_key_wrap: bool = False,
    static_key: bytes | None = None,
    has_used_key: bool = False,
) -> NodeConfig:
    """The configuration of the protocol core. Without key wrap there is no LISP-SEC, without a public key no sealing.

    `has_used_key`: an earlier run may have sealed with it. If sealing is off now, the Map-Servers are told that the key
    is no longer used, and so, authenticated, are the peers that would still seal for us.
    """
    mode = cast(LispSecMode, file.security.lisp_sec) if has_key_wrap else "off"
    seal = cast(SealMode, file.security.seal) if static_key is not None else "off"
    return NodeConfig(
        eids=file.eids,
        map_servers=tuple(
            MapServerPeer(
                server.address, server.to_key(), server.proxy_reply, server.sends_xtr_id, has_lisp_sec=mode != "off"
            )
            for server in file.map_servers
        ),
        map_resolvers=file.resolvers,
        seal=seal,
        pinned_keys=tuple(PinnedKey(eid, peer.public_key) for peer in file.peers for eid in peer.eids),
        hub_keys=tuple(HubKey(etr.address, etr.public_key) for etr in file.proxy_etrs if etr.public_key is not None),
        strict_keys=file.security.strict_keys,
        key_record=_key_record(static_key, is_revoked=seal == "off", was_used=has_used_key),
        publications=file.security.publications != "off",
        announcements=seal != "off" and file.security.announcements != "off",
        map_versions=seal != "off" and file.security.map_versions == "sealed",
        dialects=cast(tuple[DialectName, ...], file.security.dialects) if static_key is not None else (),
        lisp_sec=mode,
        resolver_secrets=resolver_secrets(file) if mode != "off" else (),
        has_mapping_program=file.map_cache.program,
        proxy_etrs=tuple(
            Locator(proxy_etr.address, proxy_etr.priority, proxy_etr.weight) for proxy_etr in file.proxy_etrs
        ),
        proxy_itrs=file.proxy_itrs,
        static_mappings=tuple(
            MappingRecord.of(
                mapping.prefix,
                tuple(Locator(locator.address, locator.priority, locator.weight) for locator in mapping.locators),
            )
            for mapping in file.map_cache.static
        ),
        overlay=tuple(map(EidPrefix, file.routing.overlay_prefixes)) if file.routing.mode == "split" else (),
        fallback=cast(Fallback, file.routing.fallback),
        overlay_prefixes=file.routing.overlay_prefixes,
        is_full=file.routing.mode == "full",
        map_cache_limit=file.map_cache.limit,
        register_interval_s=max(file.register.interval_s, PROFILES[file.profile].register_interval_s),
        record_ttl_min=file.register.ttl_min,
        probing=probe_config(file),
        echo_nonce=file.probing.echo_nonce,
        status_bits=cast(StatusBitsUse, file.probing.status_bits),
        preference=preference_config(file),
        xtr_id=xtr_id,
        site_id=file.register.site_id,
        name=own_name(file, host_name).encode(),
        natt=NattSettings(
            mode=_NATT_MODES[file.natt.mode],
            rtrs=file.natt.rtrs,
            prefers_rtr=file.natt.prefer_rtr,
            direct=file.natt.direct,
            keepalive_s=file.natt.keepalive_s,
            host_name=(file.natt.host_name or host_name).encode(),
        ),
    )


def own_name(file: NodeFile, host_name: str) -> str:
    """The domain that callers of flows append to a name for this host; empty if it accepts no flows."""
    return (file.flows.host or host_name.partition(".")[0]) if file.flows.enabled else ""


def probe_config(file: NodeFile) -> ProbeConfig | None:
    """How locators are probed; None: probing is off."""
    wanted, profile = file.probing, PROFILES[file.profile]
    if not wanted.enabled:
        return None
    return ProbeConfig(
        interval_s=max(wanted.interval_s, profile.probe_interval_s),
        tries=wanted.tries,
        timeout_s=wanted.timeout_s,
        backoff_max_s=max(wanted.backoff_s, profile.probe_backoff_s),
        measures=profile.may_measure and (wanted.measure or preference_config(file).is_measured),
        echoes=wanted.echo_nonce,
    )


def preference_config(file: NodeFile) -> PreferenceConfig:
    """The preference among equals; in legacy mode the host's default route decides."""
    wanted = file.multihoming
    return PreferenceConfig(Prefer.WEIGHT if wanted.mode == "legacy" else Prefer(wanted.prefer), wanted.hold_s)


def engine_config(file: NodeFile) -> EngineConfig:
    """The datapath's configuration at its start."""
    return EngineConfig(
        tun_name=file.tun.name,
        eids=file.eids,
        role="node",
        mark_mask=file.steering.to_policy().mask.bits,
        pin_threads=file.tun.pin_threads,
        source_check=source_check(file),
    )


def source_check(file: NodeFile) -> SourceCheck:
    """Which inner sources the datapath accepts."""
    return cast(SourceCheck, file.datapath.source_check)


def steering_uplinks(
    file: NodeFile, uplinks: Iterable[Uplink], nm_state: ManagerState = NO_NM
) -> tuple[SteeringUplink, ...]:
    """The uplinks in the form that rules use."""
    return tuple(
        SteeringUplink(
            uplink.name,
            uplink.ifindex,
            uplink.priority,
            _is_metered(file, uplink, nm_state),
            nm_state.network(uplink.name),
        )
        for uplink in uplinks
    )


def uplink_cost(file: NodeFile, uplink: Uplink, nm_state: ManagerState = NO_NM) -> int:
    """The user's figure; without one, metered uplinks have a cost, and others none."""
    if (told := _section(file, uplink, nm_state).cost) is not None:
        return told
    return METERED_COST if _is_metered(file, uplink, nm_state) else 0


def _is_metered(file: NodeFile, uplink: Uplink, nm_state: ManagerState) -> bool:
    """Whether an uplink is metered: by the configuration, else by NetworkManager."""
    told = _section(file, uplink, nm_state).metered
    return (file.network_manager.use and uplink.name in nm_state.metered) if told is None else told


def _section(file: NodeFile, uplink: Uplink, nm_state: ManagerState) -> UplinkSection:
    """The configuration of an interface: the first matching rule, as everywhere."""
    network = nm_state.network(uplink.name)
    return next(
        (section for section in file.uplinks if section.to_rule().matches(uplink, network)), UplinkSection(name="*")
    )


def forwarding_entry(mapping: InstallMapping) -> ForwardingEntry:
    """One line of the forwarding table."""
    used = (
        ForwardingLocator(
            locator.address,
            locator.priority,
            locator.weight,
            locator.port,
            locator.source,
            is_relay=locator.is_relay,
            is_on_trial=locator.is_on_trial,
        )
        for locator in mapping.locators
    )
    heard = (ForwardingLocator(address, NEVER, 0) for address in mapping.sources)
    disposition = Disposition[mapping.disposition]
    version = mapping.map_version if mapping.peer else 0  # in clear every host on the way could read it
    return ForwardingEntry(mapping.prefix, disposition, (*used, *heard), mapping.peer, mapping.must_seal, version)


def resolver_secrets(file: NodeFile) -> tuple[tuple[IpAddress, ResolverSecret], ...]:
    """The secret shared with each Map-Resolver: its key, or one derived from that of the Map-Server at its address."""
    found: dict[IpAddress, ResolverSecret] = {}
    for server in file.map_servers:
        if (derived := derived_secret(server.to_key(), cast(LispSecMode, file.security.lisp_sec))) is not None:
            found[server.address] = derived
    for resolver in file.map_resolvers:
        if resolver.secret is not None:
            found[resolver.address] = ResolverSecret(resolver.secret.octets, resolver.key_id)
    return tuple((address, found[address]) for address in file.resolvers if address in found)


def guarded(file: NodeFile) -> tuple[IpAddress, ...]:
    """Addresses that packets of applications must not be encapsulated to: those of the mapping system."""
    servers = tuple(server.address for server in file.map_servers)
    proxies = tuple(locator.address for locator in file.proxy_etrs)
    return tuple(dict.fromkeys((*servers, *file.resolvers, *proxies, *file.proxy_itrs)))


def local_locators(
    uplinks: Iterable[Uplink],
    file: NodeFile,
    nm_state: ManagerState = NO_NM,
    translators: Mapping[int, IPv6Network] = NO_TRANSLATORS,
) -> tuple[LocalLocator, ...]:
    """Our RLOCs: every usable address of every uplink, with the prefix of the translator that its interface needs.

    The first of a family has all the weight of its uplink: several addresses do not make an interface better, and
    traffic arrives where ours leaves. The others serve when the first cannot be reached.
    """
    return tuple(
        LocalLocator(
            address,
            uplink.ifindex,
            uplink.name,
            uplink.rank(address.version)[0],
            uplink.rank(address.version)[1] if is_first else 0,
            uplink.mtu_bytes,
            uplink_cost(file, uplink, nm_state),
            eid_ranks(file, uplink, is_first=is_first),
            nat64=translators.get(uplink.ifindex),
        )
        for uplink in uplinks
        for address in uplink.addresses
        for is_first in (address == next(source for source in uplink.addresses if source.version == address.version),)
    )


def eid_ranks(file: NodeFile, uplink: Uplink, *, is_first: bool) -> tuple[EidRank, ...]:
    """The EIDs in whose mappings an address of this uplink, the first of its family or not, has another rank."""
    usual = uplink.priority, uplink.weight
    ranks = ((own.prefix, own.rank(uplink.name, *usual)) for own in file.own_eids)
    return tuple(
        EidRank(eid, priority, weight if is_first else 0)
        for eid, (priority, weight) in ranks
        if (priority, weight) != usual
    )


def engine_uplinks(
    uplinks: Iterable[Uplink],
    is_silent: Callable[[Place], bool] = frozenset().__contains__,
    plan: NattPlan = NO_PLAN,
    *,
    is_legacy: bool = False,
    ranks: Mapping[str, int] = NO_RANKS,
) -> tuple[EngineUplink, ...]:
    """The uplinks for the datapath: one for each family, because either family alone may fail.

    `is_legacy`: packets leave by the uplink of the host's own default route, and by the next one only if it fails.
    `ranks`: priorities by name, if a quality is preferred. An address that the plan does not know yet has no NAT,
    unless it is private: its packets would be lost. Of several addresses of a family, the first working one sends. A
    silent one sends only if no uplink has a better one of its family.
    """
    present = tuple(uplinks)
    by_metric = sorted(present, key=lambda uplink: (uplink.metric, uplink.name))
    ranking = {uplink.ifindex: place for place, uplink in enumerate(by_metric, start=1)}
    traversal = {
        planned.locator.place: _traversal(planned) for planned in plan.uplinks if planned != UplinkPlan(planned.locator)
    }
    known = {planned.locator.place for planned in plan.uplinks}
    places = [(own, uplink.ifindex) for uplink in present for own in uplink.addresses]
    hidden = {place for place in places if known and place not in known and is_private(place[0])}
    traversal |= dict.fromkeys(hidden, EngineTraversal(is_usable=False))
    unusable = {place for place, one in traversal.items() if not one.is_usable}
    senders = {place for place in places if place not in unusable and not is_silent(place)}
    alive = {address.version for address, _ in senders}
    return tuple(
        EngineUplink(
            ifindex=uplink.ifindex,
            interface=uplink.name,
            addresses=addresses,
            priority=NEVER
            if family in alive and (addresses[0], uplink.ifindex) not in senders | unusable
            else ranking[uplink.ifindex]
            if is_legacy
            else ranks.get(uplink.name, uplink.rank(family)[0]),
            weight=uplink.rank(family)[1],
            mtu_bytes=uplink.mtu_bytes,
            traversal={
                address: traversal[address, uplink.ifindex]
                for address in addresses
                if (address, uplink.ifindex) in traversal
            },
        )
        for uplink in present
        for family in (4, 6)
        if (addresses := _senders_first(uplink, family, senders))
    )


def _senders_first(uplink: Uplink, family: int, senders: set[Place]) -> tuple[IpAddress, ...]:
    """The addresses of one family; working ones come first, because the first one sends."""
    fitting = (address for address in uplink.addresses if address.version == family)
    return tuple(sorted(fitting, key=lambda address: (address, uplink.ifindex) not in senders))


def data_control(punt: ControlPacket) -> DataControl:
    """A control message from the data port in the form of the core."""
    return DataControl(
        payload=punt.payload,
        source=punt.source,
        source_port=punt.source_port,
        destination=punt.destination,
        destination_port=punt.destination_port,
        outer_source=punt.outer_source,
        outer_source_port=punt.outer_source_port,
        outer_destination=punt.outer_destination,
        ifindex=punt.ifindex,
    )


def path_mtu(use: UsePathMtu) -> PathMtu:
    """The path MTU of one path in the form of the datapath."""
    return PathMtu(use.local, use.remote, use.port, use.mtu_bytes)


def _traversal(plan: UplinkPlan) -> EngineTraversal:
    relays = tuple(ForwardingLocator(relay.address, relay.priority, relay.weight, relay.port) for relay in plan.relays)
    return EngineTraversal(plan.data_port, relays, plan.is_usable, plan.admits_others, plan.passes_zero)


def leaving_uplinks(former: Iterable[Uplink], policy: UplinkPolicy, state: NetworkState) -> tuple[Uplink, ...]:
    """Uplinks that we left before their addresses are gone: packets to them may still arrive."""
    present = {local.address for local in state.addresses}
    leaving = (up for up in former if up.name in policy.held_back and present.intersection(up.addresses))
    return tuple(dict.fromkeys(leaving))


def lost_addresses(former: Iterable[Uplink], state: NetworkState) -> tuple[LostAddress, ...]:
    """Former RLOCs that are no longer addresses of this host although their link works: packets may still arrive."""
    present = {local.address for local in state.addresses}
    return tuple(
        LostAddress(address, uplink.name)
        for uplink in former
        if (link := state.link(uplink.ifindex)) is not None and link.is_up and link.has_carrier
        for address in uplink.addresses
        if address not in present
    )
