"""Names in the mapping system (RFC 9735): registers this host's own name, and looks up those of others. Pure.

A name is an EID whose locators are the EIDs of its host. The locators of the reverse name of an EID are the names of
its host. An expired answer stays in use while it is looked up again, so a known name stays known when the mapping
system does not answer. When a name changes, the Map-Server sends a Solicit-Map-Request.

Names are registered only with Map-Servers that have a key of HMAC-SHA-256: the one implementation that knows only
HMAC-SHA-1 stops at records that it does not expect.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.node_config import NodeConfig
from lispmob.errors import AuthenticationFailed
from lispmob.protocol.effect import CONTROL_PORT, Count, Event, MachineEffect, NameResolved, SendControl
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import Algorithm, sign
from lispmob.wire.auth import verify as verify_mac
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import ControlMessage
from lispmob.wire.name_eid import EIDS_OF_NAME, covers_name, folded, may_be_name, name_of, name_record
from lispmob.wire.record import Action, MappingRecord

FIRST_WAIT_S: Final = 1.0  # RFC 9301, 8.2
LONGEST_WAIT_S: Final = 60.0  # RFC 9301, 8.2
# Ours: a Map-Server that never confirmed the name may not support names, and never answers.
UNKNOWN_WAIT_S: Final = 600.0
MAX_OUTSTANDING: Final = 16  # ours: nonces of Map-Registers that a late Map-Notify may still confirm
JITTER_SHARE: Final = 0.1
RETRY_S: Final = 1.0  # RFC 9301, 5.3
TRIES: Final = 2  # ours: DNS is asked next, and a program is waiting
NEGATIVE_S: Final = 60.0
SILENCE_S: Final = 10.0  # ours: a name without an answer is not asked for again in this time
LONGEST_S: Final = 86400.0  # ours, as for EID-Prefixes
CACHE_LIMIT: Final = 1024  # ours: names with their answers
LOOKUPS_LIMIT: Final = 64  # ours: open lookups
ASK_INTERVAL_S: Final = 0.05  # ours: 20 Map-Requests per second
ASK_BURST: Final = 40
SOLICITED_S: Final = 3.0  # RFC 9301, 6.1: what an SMR may cause, once in 3 s for each name
SOLICITED_MAX: Final = LOOKUPS_LIMIT // 2  # ours: open lookups beyond which SMRs cause none
_OLD: Final = frozenset({Algorithm.NONE, Algorithm.HMAC_SHA_1_96})


class NameRegistration:
    """Keeps the name of this host registered with one Map-Server."""

    def __init__(
        self, config: NodeConfig, server: MapServerPeer, *, next_nonce: Callable[[], int], jitter: Callable[[], float]
    ) -> None:
        self.server = server
        self.is_confirmed = False
        self._config = config
        self._next_nonce, self._jitter = next_nonce, jitter
        self._uplinks: tuple[LocalLocator, ...] = ()
        self._outstanding: set[int] = set()
        self._is_denied = False
        self._tries = 0
        self._wake_at: float | None = None

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return self._wake_at

    def expects(self, nonce: int) -> bool:
        """Whether a Map-Notify with this nonce confirms a Map-Register of ours."""
        return nonce in self._outstanding

    def on_locators(self, locators: LocatorSet, now: float) -> list[MachineEffect]:
        """Our RLOCs have changed. The record holds none of them, so a move alone changes nothing."""
        had_none = not self._uplinks
        self._uplinks = locators.ways_to(self.server.address)
        if not self._uplinks:
            self._wake_at = None
            return []
        return self.restart(now) if had_none else []

    def restart(self, now: float) -> list[MachineEffect]:
        """Register now, whatever was sent before."""
        self._tries = 0
        self._outstanding.clear()
        return self._register(now) if self._uplinks else []

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed."""
        return self._register(now) if self._wake_at is not None and now >= self._wake_at else []

    def on_registers_sent(self, now: float) -> list[MachineEffect]:
        """An EID-Prefix is registered now: refresh with it what jitter alone has put later."""
        soon_s = 2 * JITTER_SHARE * self._config.register_interval_s
        is_soon = self._wake_at is not None and now < self._wake_at <= now + soon_s
        return self._register(now) if is_soon and self.is_confirmed and not self._tries else []

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[MachineEffect]:
        """A Map-Notify with a nonce of ours arrived; `raw` is the message that its MAC covers."""
        try:
            verify_mac(raw, self.server.key)
        except AuthenticationFailed:
            return [Count("rx_auth")]
        record = next((answer for answer in notify.records if name_of(answer.eid) == folded(self._config.name)), None)
        if record is None:
            return [Count("rx_policy")]
        self._outstanding.clear()
        self._tries = 0
        was_denied, self._is_denied = self._is_denied, record.action is Action.DROP_POLICY_DENIED
        was_confirmed, self.is_confirmed = self.is_confirmed, not self._is_denied
        self._wake_at = now + (UNKNOWN_WAIT_S if self._is_denied else self._spread(self._config.register_interval_s))
        if self._is_denied:
            return [] if was_denied else [self._event("name-refused", text="another node has this name")]
        return [] if was_confirmed else [self._event("name-registered")]

    def on_shutdown(self) -> list[MachineEffect]:
        """The node stops, or has another name: best effort."""
        if not self._uplinks or not self.is_confirmed:
            return []
        self.is_confirmed = False
        return [self._send(name_record(self._config.name, (), ttl_min=0), self._uplinks[0])]

    def _register(self, now: float) -> list[MachineEffect]:
        longest_s = LONGEST_WAIT_S if self.is_confirmed else UNKNOWN_WAIT_S
        wait_s = min(FIRST_WAIT_S * 2 ** min(self._tries, 16), longest_s)
        self._wake_at = now + self._spread(wait_s)
        uplink = self._uplinks[self._tries % len(self._uplinks)]
        self._tries += 1
        record = name_record(
            self._config.name, _own_eids(self._config), ttl_min=self._config.record_ttl_min, is_authoritative=True
        )
        return [self._send(record, uplink), Count("tx_map_register")]

    def _send(self, record: MappingRecord, uplink: LocalLocator) -> SendControl:
        nonce = self._next_nonce()
        self._outstanding.add(nonce)
        if len(self._outstanding) > MAX_OUTSTANDING:
            self._outstanding.remove(min(self._outstanding))
        message = MapRegister(
            nonce=nonce,
            records=(record,),
            proxy_map_reply=True,  # the host itself cannot be asked without its locators
            want_map_notify=True,
            xtr_id=self._config.xtr_id,
            site_id=self._config.site_id,
        )
        payload = sign(message, self.server.key)
        return SendControl(payload, self.server.address, source=uplink.address, ifindex=uplink.ifindex)

    def _spread(self, seconds: float) -> float:
        return seconds * (1 + JITTER_SHARE * (2 * self._jitter() - 1))

    def _event(self, kind: str, **fields: str) -> Event:
        name = self._config.name.decode("ascii")
        return Event(kind, {"eid": f"name {name}", "map_server": str(self.server.address), **fields})


class KnownName(msgspec.Struct, frozen=True):
    """A cached answer: `until` is in monotonic seconds."""

    eids: tuple[IpAddress, ...]
    why: str
    until: float
    names: tuple[bytes, ...] = ()
    is_answered: bool = True

    @property
    def is_found(self) -> bool:
        """Whether it has addresses."""
        return bool(self.eids or self.names)

    def resolved(self, name: bytes, now: float | None = None) -> NameResolved:
        """The answer as an effect; with `now`, including its remaining TTL."""
        why = self.why if now is None else f"{self.why}, {self.until - now:.0f} s to live"
        return NameResolved(name, self.eids, why, self.is_answered, self.names)


class _Lookup(msgspec.Struct, eq=False):
    name: bytes
    wake_at: float
    tries: int = 0
    sent: dict[int, tuple[IpAddress, ...]] = msgspec.field(default_factory=dict)  # nonce -> ITR-RLOCs


class NameLookups:
    """Looks up names, and caches the answers."""

    def __init__(self, config: NodeConfig, *, new_nonce: Callable[[], int]) -> None:
        self._config = config
        self._new_nonce = new_nonce
        self._locators = LocatorSet()
        self._lookups: dict[bytes, _Lookup] = {}
        self._of_nonce: dict[int, _Lookup] = {}
        self._known: OrderedDict[bytes, KnownName] = OrderedDict()
        self._allowed = TokenBucket(ASK_INTERVAL_S, ASK_BURST)
        # Any host may send an SMR, so these are limited apart from what programs ask.
        self._solicited: KeyedBuckets[bytes] = KeyedBuckets(SOLICITED_S, limit=CACHE_LIMIT)
        self._all_solicited = TokenBucket(ASK_INTERVAL_S, ASK_BURST)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return min((lookup.wake_at for lookup in self._lookups.values()), default=None)

    def expects(self, nonce: int) -> bool:
        """Whether a Map-Reply with this nonce answers a request of ours."""
        return nonce in self._of_nonce

    def on_locators(self, locators: LocatorSet) -> None:
        """Our RLOCs have changed; open lookups continue from the new ones."""
        self._locators = locators

    def on_config(self, config: NodeConfig) -> None:
        """The configuration was reloaded: another mapping system may know other names."""
        if config.map_resolvers != self._config.map_resolvers:
            self._known.clear()
        self._config = config

    def doubt(self, now: float) -> None:
        """Cached answers may be old."""
        self._known = OrderedDict((name, replace(one, until=now)) for name, one in self._known.items() if one.is_found)

    def resolve(self, asked: bytes, now: float) -> list[MachineEffect]:
        """Look up the EIDs of a host name. One NameResolved follows, at once if the answer is cached or impossible."""
        name = folded(asked)
        if not may_be_name(name):
            return [NameResolved(name, (), "no name of US-ASCII")]
        if not _servers(self._config):
            return [NameResolved(name, (), "no Map-Server with a key of HMAC-SHA-256", is_answered=False)]
        known = self._known.get(name)
        if known is not None and known.until > now:
            return [known.resolved(name, now)]
        stale = [] if known is None or not known.is_found else [known.resolved(name)]
        if name in self._lookups:
            return [*stale]
        if len(self._lookups) >= LOOKUPS_LIMIT or not self._allowed.take(now):
            refused = NameResolved(name, (), "too many names are asked for", is_answered=False)
            return [*(stale or [refused]), Count("tx_rate")]
        return [*stale, *self._ask(_Lookup(name, now), now)]

    def on_solicited(self, name: bytes, now: float) -> list[MachineEffect]:
        """An SMR says that a name may have changed: look it up again if it is cached. It is not authenticated.

        Where it may cause no lookup now, the next program that asks for the name does.
        """
        if name not in self._known or name in self._lookups:
            return []
        has_room = len(self._lookups) < SOLICITED_MAX and self._all_solicited.available_at(now) <= now
        if not has_room or not self._solicited.take(name, now) or not self._all_solicited.take(now):
            self._known[name] = replace(self._known[name], until=now)
            return [Count("tx_rate")]
        return self._ask(_Lookup(name, now), now)

    def known(self) -> Mapping[bytes, KnownName]:
        """The cached answers, latest last."""
        return self._known

    def is_known(self, asked: bytes, now: float) -> bool:
        """Whether `resolve` answers at once: whatever else is asked for, and without a question where none is due."""
        known = self._known.get(folded(asked))
        return known is not None and (known.is_found or known.until > now)

    def restore(self, known: Mapping[bytes, KnownName]) -> None:
        """Restore answers from before a restart; newer ones take precedence."""
        for name, answer in list(known.items())[-CACHE_LIMIT:]:
            self._known.setdefault(name, answer)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """Repeat unanswered requests; give up soon."""
        effects: list[MachineEffect] = []
        for lookup in [due for due in self._lookups.values() if due.wake_at <= now]:
            if lookup.tries < TRIES:
                effects += self._ask(lookup, now)
            else:
                effects += self._end(lookup, self._unanswered(lookup.name, now), now)
        return effects

    def on_map_reply(self, reply: MapReply, arrived_at: IpAddress, now: float) -> list[MachineEffect]:
        """A Map-Reply with a nonce of ours: accepted for exactly the requested name, at an address that we named."""
        lookup = self._of_nonce[reply.nonce]
        record = reply.records[0]
        is_shorter = covers_name(record, lookup.name)
        is_named = is_shorter or name_of(record.eid) == lookup.name
        is_answer = len(reply.records) == 1 and not reply.is_probe and is_named
        if not is_answer or arrived_at not in lookup.sent[reply.nonce]:
            return [Count("rx_policy")]
        found = (locator.ip for locator in record.locators if locator.is_reachable and locator.priority < 255)
        eids = tuple(dict.fromkeys(ip for ip in found if ip is not None))[:EIDS_OF_NAME]
        names = tuple(dict.fromkeys(name for locator in record.locators if (name := name_of(locator.address))))[
            :EIDS_OF_NAME
        ]
        if is_shorter or (not eids and not names):
            return self._end(lookup, KnownName((), "no site has registered it", now + NEGATIVE_S), now)
        lives_s = min(60.0 * record.ttl_min, LONGEST_S)
        return self._end(lookup, KnownName(eids, "registered", now + lives_s, names), now)

    def _unanswered(self, name: bytes, now: float) -> KnownName:
        """No answer came: the former answer stays in use."""
        before = self._known.get(name)
        if before is not None and before.is_found:
            return replace(before, until=now + SILENCE_S)
        return KnownName((), "the mapping system does not answer", now + SILENCE_S, is_answered=False)

    def _ask(self, lookup: _Lookup, now: float) -> list[MachineEffect]:
        resolvers = [
            map_resolver
            for map_resolver in self._config.map_resolvers
            if map_resolver not in _old_servers(self._config)
        ]
        ways = [(address, uplink) for address in resolvers for uplink in self._locators.ways_to(address)]
        if not ways:
            return self._end(lookup, KnownName((), "no uplink to a Map-Resolver", now, is_answered=False), now)
        resolver, uplink = ways[lookup.tries % len(ways)]
        lookup.tries += 1
        lookup.wake_at = now + RETRY_S
        self._lookups[lookup.name] = lookup
        nonce = self._new_nonce()
        itr_rlocs = self._locators.itr_rlocs_from(uplink, resolver)
        lookup.sent[nonce] = itr_rlocs
        self._of_nonce[nonce] = lookup
        request = MapRequest(nonce, None, itr_rlocs, (EidRecord(DistinguishedName(lookup.name), 0),))
        # A name has no address, so the inner header gets the outer destination.
        source = uplink.address_towards(resolver)
        ecm = EncapsulatedControl(source, CONTROL_PORT, resolver, CONTROL_PORT, request.encode())
        sent = SendControl(ecm.encode(), resolver, source=uplink.address, ifindex=uplink.ifindex)
        return [sent, Count("tx_map_request")]

    def _end(self, lookup: _Lookup, answer: KnownName, now: float) -> list[MachineEffect]:
        self._lookups.pop(lookup.name, None)
        for nonce in lookup.sent:
            del self._of_nonce[nonce]
        if answer.until > now:
            self._known[lookup.name] = answer
            self._known.move_to_end(lookup.name)
            if len(self._known) > CACHE_LIMIT:
                # Any program on this host can look up nonexistent names: these must not evict useful answers.
                nothing = (name for name, known in self._known.items() if not known.is_found)
                del self._known[next(nothing, next(iter(self._known)))]
        return [answer.resolved(lookup.name)]


class Names:
    """Registration and lookup of names together, as the node uses them."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        new_nonce: Callable[[], int],
        next_nonce: Callable[[], int],
        jitter: Callable[[], float],
    ) -> None:
        self._next_nonce, self._jitter = next_nonce, jitter
        self._locators = LocatorSet()
        self._identity = _identity(config)
        self.registrations = self._make(config)
        self._lookups = NameLookups(config, new_nonce=new_nonce)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        times = [self._lookups.wake_at(), *(registration.wake_at() for registration in self.registrations)]
        return min((at for at in times if at is not None), default=None)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed."""
        registering = [effect for registration in self.registrations for effect in registration.on_timer(now)]
        return [*registering, *self._lookups.on_timer(now)]

    def on_registers_sent(self, now: float) -> list[MachineEffect]:
        """Our EID-Prefixes are registered now: so is a name whose refresh is due soon, and the host wakes once."""
        return [effect for registration in self.registrations for effect in registration.on_registers_sent(now)]

    def on_locators(self, locators: LocatorSet, now: float) -> list[MachineEffect]:
        """Our RLOCs have changed."""
        self._locators = locators
        self._lookups.on_locators(locators)
        return [effect for registration in self.registrations for effect in registration.on_locators(locators, now)]

    def on_config(self, config: NodeConfig, now: float) -> list[MachineEffect]:
        """The configuration was reloaded."""
        self._lookups.on_config(config)
        if _identity(config) == self._identity:
            return []
        withdrawn = self.on_shutdown()
        self._identity = _identity(config)
        self.registrations = self._make(config)
        return [*withdrawn, *self.on_locators(self._locators, now)]

    def on_slept(self, now: float) -> list[MachineEffect]:
        """The host was suspended."""
        self._lookups.doubt(now)
        return [effect for registration in self.registrations for effect in registration.restart(now)]

    def on_shutdown(self) -> list[MachineEffect]:
        """The node stops."""
        return [effect for registration in self.registrations for effect in registration.on_shutdown()]

    def resolve(self, name: bytes, now: float) -> list[MachineEffect]:
        """See `NameLookups.resolve`."""
        return self._lookups.resolve(name, now)

    def is_known(self, name: bytes, now: float) -> bool:
        """See `NameLookups.is_known`."""
        return self._lookups.is_known(name, now)

    @property
    def known(self) -> Mapping[bytes, KnownName]:
        """The cached names."""
        return self._lookups.known()

    def restore(self, known: Mapping[bytes, KnownName]) -> None:
        """See `NameLookups.restore`."""
        self._lookups.restore(known)

    def on_message(
        self, message: ControlMessage, raw: bytes, arrived_at: IpAddress, now: float
    ) -> list[MachineEffect] | None:
        """Handle an answer to a lookup or Map-Register of a name; None for everything else."""
        match message:
            case MapReply() if self._lookups.expects(message.nonce):
                return self._lookups.on_map_reply(message, arrived_at, now)
            case MapNotify():
                asked = next(
                    (registration for registration in self.registrations if registration.expects(message.nonce)), None
                )
                return None if asked is None else asked.on_map_notify(message, raw, now)
            case MapRequest(is_smr=True, is_probe=False) if (name := name_of(message.source_eid)) is not None:
                return self._lookups.on_solicited(name, now)
        return None

    def _make(self, config: NodeConfig) -> tuple[NameRegistration, ...]:
        if not may_be_name(config.name) or not _own_eids(config):
            return ()
        return tuple(
            NameRegistration(config, server, next_nonce=self._next_nonce, jitter=self._jitter)
            for server in _servers(config)
        )


def _identity(config: NodeConfig) -> object:
    return config.name, config.eids, config.map_servers, config.xtr_id, config.record_ttl_min


def _servers(config: NodeConfig) -> tuple[MapServerPeer, ...]:
    return tuple(server for server in config.map_servers if server.key.algorithm not in _OLD)


def _old_servers(config: NodeConfig) -> frozenset[IpAddress]:
    return frozenset(server.address for server in config.map_servers if server.key.algorithm in _OLD)


def _own_eids(config: NodeConfig) -> tuple[IpAddress, ...]:
    """The EIDs that a program can bind a socket to: whole addresses in Instance-ID 0."""
    whole = (eid for eid in config.eids if eid.mask_len == eid.network.max_prefixlen and not eid.instance_id)
    return tuple(eid.address for eid in whole)
