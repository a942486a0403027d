"""The part of the control socket's Backend for peers and names.

A peer is a mapping with usable locators. The datapath says what it would do with a packet, so the shown uplink, RTR and
direct path are those in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import ip_address
from typing import Final

from lispmob.api.backend import ApiError
from lispmob.api.peers import schema
from lispmob.api.turns import Pages
from lispmob.control.map_cache import MapCacheEntry
from lispmob.control.names import KnownName
from lispmob.control.path_mtu.search import Way
from lispmob.control.probing.path import Path
from lispmob.datapath.ask import Answer, FlowVerdict, Question
from lispmob.datapath.model import SessionUse
from lispmob.lispd.parts import Parts
from lispmob.lispd.tasks.naming import LOOPBACK
from lispmob.lispd.views.in_order import in_pages
from lispmob.lispd.views.path_view import in_ms
from lispmob.lispd.views.seal_views import seal_of
from lispmob.lispd.views.shown import Shown
from lispmob.names.host_resolver import HostResolver, ResolverKind
from lispmob.node.sealed_node import SealedNode
from lispmob.protocol.effect import DATA_PORT, NameResolved
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.named_locator import is_rtr

NAMES_AT_ONCE: Final = 16  # ours: as many as a screen shows
_PING: Final = {4: 1, 6: 58}
_WHY_NOT: Final = {
    FlowVerdict.MISS: "it waits for its mapping",
    FlowVerdict.NATIVE: "it leaves without LISP",
    FlowVerdict.NO_LOCATOR: "no uplink has an address of a locator's family",
    FlowVerdict.NO_UPLINK: "there is no uplink",
}


class PeerViews:
    """Peers, and names."""

    def __init__(self, parts: Shown) -> None:
        self._parts = parts

    def peers(self) -> Pages:
        """All peers with traffic."""
        rest = {"names_asked": 0}
        return Pages(_pages(self._parts, _Known(self._parts), rest), rest)

    async def peer(self, name_or_eid: str) -> schema.Peer:
        """One of them."""
        eid, name = await self._eid_of(name_or_eid)
        parts = self._parts
        entry = parts.node.map_cache.lookup(eid, 0)
        known = _Known(parts)
        found = known.peer(eid, entry if entry is not None and entry.locators else None)
        return found if name is None else _renamed(found, name)

    def names(self) -> schema.Names:
        """The domain, and the known names."""
        parts, naming = self._parts, self._parts.naming
        now, domain = parts.now(), parts.file.names.domain
        kind = HostResolver().configured() if domain else None
        other = None if kind is None or (kind is ResolverKind.RESOLV_CONF and not naming.is_plain) else kind.value
        resolver = "systemd-resolved" if naming.resolved.is_configured else other
        problem = naming.refusal or naming.resolved.refusal
        return schema.Names(
            domain=domain,
            addresses=list(map(str, naming.addresses)),
            port=parts.file.names.port,
            resolver=resolver,
            problem=problem,
            advice=None if resolver is not None else _advice(parts),
            counters=dict(naming.counters),
            entries=[_known_view(name, one, now) for name, one in sorted(parts.node.names.known.items())],
        )

    async def name(self, name_or_eid: str) -> schema.KnownName:
        """The EIDs of a name, or the names of an EID."""
        resolved = await self._resolve(self._asked(name_or_eid))
        known = self._parts.node.names.known.get(resolved.name)
        if known is not None:
            return _known_view(resolved.name, known, self._parts.now())
        return _resolved_view(resolved)

    async def _eid_of(self, text: str) -> tuple[IpAddress, str | None]:
        """The EID that is meant, in a family that we have, and the name that it was given by."""
        try:
            return ip_address(text), None
        except ValueError:
            pass
        resolved = await self._resolve(self._asked(text))
        usable = [eid for eid in resolved.eids if self._parts.node.config.eid_for(eid.version, 0) is not None]
        if not usable:
            raise ApiError("not-found", f"{text}: {self._why_no_eid(resolved)}")
        return usable[0], resolved.name.decode("ascii")

    def _why_no_eid(self, resolved: NameResolved) -> str:
        """Why a name leads to no EID that packets could be sent to."""
        if resolved.eids:
            return f"it has EIDs of IPv{resolved.eids[0].version} only, and this node has none of that family"
        if resolved.is_answered:
            return "no site of the hub has this name"
        known = self._parts.node.names.known.get(resolved.name)
        return known.why if known is not None else resolved.why

    async def _resolve(self, name: bytes) -> NameResolved:
        return await self._parts.naming.resolve(name)

    def _asked(self, text: str) -> bytes:
        """The name for the mapping system: without our domain, or a reverse name."""
        try:
            return ip_address(text).reverse_pointer.encode()
        except ValueError:
            domain = self._parts.file.names.domain
            bare = text.lower().rstrip(".")
            return (bare.removesuffix(f".{domain}") if domain else bare).encode()


class _Known:
    """Values that one reply needs repeatedly: names of EIDs, paths of pairs, packets of locators."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._now = parts.now()
        self._names: Mapping[bytes, KnownName] = parts.node.names.known
        self._name_of = {eid: name for name, one in self._names.items() for eid in one.eids}
        self._paths: dict[tuple[IpAddress, IpAddress], Path] = {(*path.pair,): path for path in parts.node.paths}
        self._heard: dict[IpAddress, tuple[float, IpAddress]] = {}
        for path in parts.node.paths:
            if path.last_heard is not None:
                heard = (path.last_heard, path.pair.local)
                self._heard[path.pair.remote] = max(heard, self._heard.get(path.pair.remote, heard), key=_first)
        self._traffic = parts.engine.liveness.traffic()
        self._shortcuts = {way.eid: way for way in parts.node.traversal.shortcuts.open_ways}
        self._uplinks = {uplink.ifindex: uplink.name for uplink in parts.uplinks}
        self._locators = {locator.address: locator for locator in parts.node.locators.locators}

    @cached_property
    def _sessions(self) -> Sequence[SessionUse]:
        return self._parts.engine.sessions.all() if isinstance(self._parts.node, SealedNode) else ()

    def unasked(self, prefix: EidPrefix) -> bytes | None:
        """The reverse name of an EID whose name has not been looked up yet."""
        reverse = reverse_of(prefix)
        is_known = reverse in self._names or prefix.address in self._name_of
        return None if is_known else reverse

    def name_of(self, prefix: EidPrefix) -> str | None:
        """The name of the host for a host's EID-Prefix."""
        reverse = reverse_of(prefix)
        if reverse is None:
            return None
        known = self._names.get(reverse)
        found = known.names[0] if known is not None and known.names else self._name_of.get(prefix.address)
        return None if found is None else found.decode("ascii")

    def peer(self, eid: IpAddress, entry: MapCacheEntry | None) -> schema.Peer:
        """What happens to packets to an EID."""
        parts = self._parts
        prefix = EidPrefix.host(eid) if entry is None else entry.prefix
        source = parts.node.config.eid_for(eid.version, 0)
        if source is None or prefix.instance_id or entry is None:
            why = "its Instance-ID is not 0" if entry is not None else "nothing is known about it yet"
            if source is None:
                why = f"this node has no EID of IPv{eid.version}"
            elif any(own.covers(prefix) for own in parts.node.config.eids):
                why = "it is this node's own EID"
            return schema.Peer(eid=str(prefix), way="none", why=why, name=self.name_of(EidPrefix.host(eid)))
        answer = parts.engine.dry_run.ask(Question(source.address, eid, _PING[eid.version]))
        if answer.verdict not in (FlowVerdict.SENT, FlowVerdict.DOUBT) or answer.local is None or answer.remote is None:
            why = _WHY_NOT.get(answer.verdict, "the datapath drops it")
            return schema.Peer(
                eid=str(prefix),
                way="none",
                why=why,
                name=self.name_of(prefix),
                used_s=self._used(entry),
                is_genuine=entry.is_genuine,
                mapping_from=_said_by(entry),
                map_version=entry.map_version,
            )
        return self._sent_to(prefix, entry, answer, answer.local, answer.remote)

    def _sent_to(
        self, prefix: EidPrefix, entry: MapCacheEntry, answer: Answer, local: IpAddress, remote: IpAddress
    ) -> schema.Peer:
        path = self._paths.get((local, remote))
        shortcut = self._shortcuts.get(prefix) if answer.relayed_to is None else None
        rtr = answer.relayed_to or next(
            (remote for locator in entry.locators if is_rtr(locator) and remote in locator.ips), None
        )
        rtt_s = path.quality.rtt_s if path is not None else None
        own = self._locators.get(local)
        came_from = {remote, answer.relayed_to, *(address for locator in entry.locators for address in locator.ips)}
        heard = max(
            ((*self._heard[address], address) for address in came_from if address in self._heard),
            key=_first,
            default=None,
        )
        way_back = None if heard is None else self._locators.get(heard[1])
        traffic = self._traffic.get(answer.relayed_to or remote)
        mtu = self._parts.node.path_mtus[Way(local, answer.relayed_to or remote, answer.port or DATA_PORT)]
        return schema.Peer(
            eid=str(prefix),
            way="past-rtr" if shortcut is not None else "direct" if rtr is None else "rtr",
            name=self.name_of(prefix),
            uplink=self._uplinks.get(answer.ifindex),
            local=str(local),
            remote=str(remote),
            rtr=None if rtr is None else str(rtr),
            is_reachable=answer.verdict is FlowVerdict.SENT and self._parts.node.is_reachable(remote),
            rtt_ms=in_ms(shortcut.rtt_s if shortcut is not None else rtt_s),
            loss=None if path is None or path.quality.loss is None else round(path.quality.loss, 4),
            heard_s=None if heard is None else round(self._now - heard[0], 3),
            back_uplink=None if way_back is None else way_back.interface,
            back_local=None if heard is None else str(heard[1]),
            back_remote=None if heard is None else str(heard[2]),
            used_s=self._used(entry),
            packets_out=None if traffic is None else traffic.sent,
            octets_out=None if traffic is None else traffic.sent_octets,
            packets_in=None if traffic is None else traffic.received,
            octets_in=None if traffic is None else traffic.received_octets,
            mtu_bytes=mtu.mtu_bytes if mtu is not None else None if own is None else own.mtu_bytes,
            is_genuine=entry.is_genuine,
            mapping_from=_said_by(entry),
            map_version=entry.map_version,
            seal=seal_of(self._parts, answer.entry or entry.prefix, self._sessions),
        )

    def _used(self, entry: MapCacheEntry) -> float | None:
        return None if entry.last_used == float("-inf") else round(max(0.0, self._now - entry.last_used), 3)


def _said_by(entry: MapCacheEntry) -> schema.MappingFrom | None:
    """Who said last where it is; None: there was no answer."""
    if entry.source == "placeholder":
        return None
    if entry.source == "reply":
        return entry.told_by or "map-reply"
    return entry.source


def _first(values: tuple[float, *tuple[IpAddress, ...]]) -> float:
    return values[0]


def reverse_of(prefix: EidPrefix) -> bytes | None:
    """The reverse name of an EID-Prefix that is one host."""
    is_host = prefix.mask_len == prefix.width and not prefix.instance_id
    return prefix.address.reverse_pointer.encode() if is_host else None


def _pages(parts: Parts, known: _Known, rest: dict[str, int]) -> Iterator[list[schema.Peer]]:
    """Read `rest` after the last page: how many names had to be looked up."""
    for entries in in_pages(parts.node.map_cache):
        peers = [entry for entry in entries if entry.locators and entry.prefix.mask_len]
        yield [known.peer(entry.prefix.address, entry) for entry in peers]
        for entry in peers:
            reverse = known.unasked(entry.prefix) if rest["names_asked"] < NAMES_AT_ONCE else None
            if reverse is not None:
                rest["names_asked"] += 1
                parts.perform(parts.node.on_name_wanted(reverse, parts.now()))


def _renamed(peer: schema.Peer, name: str) -> schema.Peer:
    from msgspec.structs import replace

    return replace(peer, name=name)


def _known_view(name: bytes, one: KnownName, now: float) -> schema.KnownName:
    return schema.KnownName(
        name=name.decode("ascii"),
        eids=list(map(str, one.eids)),
        names=[datagram.decode("ascii") for datagram in one.names],
        why=one.why,
        is_answered=one.is_answered,
        ttl_s=round(one.until - now, 1) if one.until > now else None,
    )


def _resolved_view(resolved: NameResolved) -> schema.KnownName:
    return schema.KnownName(
        name=resolved.name.decode("ascii", "backslashreplace"),
        eids=list(map(str, resolved.eids)),
        names=[name.decode("ascii") for name in resolved.names],
        why=resolved.why,
        is_answered=resolved.is_answered,
    )


def _advice(parts: Parts) -> str | None:
    """How other programs can be made to use lispd for names, if no resolver was configured."""
    domain, port = parts.file.names.domain, parts.file.names.port
    if not domain:
        return "put `names: {domain: lisp.home.arpa}` into lispd.conf"
    if not parts.naming.addresses:
        return None
    return (
        "run `sudo lispctl names --configure`, which configures this host's resolver; or have any resolver forward "
        f"{domain} to {LOOPBACK} port {port}"
    )
