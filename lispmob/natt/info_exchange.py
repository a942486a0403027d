"""Info-Request and Info-Reply for one uplink: its outside address, and the RTRs that it may use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from lispmob.errors import AuthenticationFailed
from lispmob.natt.dialect import INFO_PORT, TRAITS, Dialect, candidates
from lispmob.natt.effect import AskFailed, DataPort, LifeSignWanted, SendFromDataPort, UplinkEffect
from lispmob.natt.natt_config import NattConfig, is_private
from lispmob.natt.server_knowledge import RETRY_ALIVE_S, ServerKnowledge
from lispmob.natt.server_trial import Finding, ServerTrial
from lispmob.protocol.effect import Count, Event, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.auth import Algorithm, sign, verify
from lispmob.wire.eid import from_prefix
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.record import Locator

FIRST_WAIT_S: Final = 1.0  # ours, as for Map-Registers; doubles
TRIES: Final = 3  # NAT-traversal draft and OOR: then it counts as unanswered
MAX_OUTSTANDING: Final = 8
MAX_RTRS: Final = 16  # error catalogue: more are ignored
TTL_MIN_S, TTL_MAX_S = 60.0, 86400.0  # error catalogue: 0 would mean "repeat at once"


class Seen(msgspec.Struct, frozen=True):
    """The contents of an Info-Reply. `address` None: unknown. `port` is the translated source port of the request.

    `as_other_family`: the IPv4 address that our IPv6 one is translated to on the way, where the Map-Server was asked at
    an IPv6 address that a DNS server made up, by a prefix that we do not know (NAT64 and DNS64; RFC 6146, RFC 6147).
    """

    server: MapServerPeer
    dialect: Dialect
    address: IpAddress | None
    port: int
    rtrs: tuple[IpAddress, ...]
    has_untrusted_rtrs: bool
    ttl_s: float
    rtt_s: float
    as_other_family: IpAddress | None = None
    by_other_port: bool = False  # the request did not leave from 4342; `port` belongs to the port that it left from


class _Asked(msgspec.Struct, frozen=True):
    server: MapServerPeer
    dialect: Dialect
    request: InfoRequest
    at: float


class InfoExchange:
    """Asks the Map-Servers that the uplink can reach in turn until one answers.

    A Map-Server behind a translator is asked in the dialect that authenticates the answer, because any host may be
    behind a prefix.
    """

    def __init__(
        self,
        locator: LocalLocator,
        config: NattConfig,
        knowledge: ServerKnowledge,
        *,
        new_nonce: Callable[[], int],
        next_nonce: Callable[[], int],
    ) -> None:
        self.trial = ServerTrial(locator, config, next_nonce=next_nonce)
        self.locator = locator
        self._config = config
        self._knowledge = knowledge
        self._new_nonce = new_nonce
        self._outstanding: dict[int, _Asked] = {}
        self._turn = 0
        self._tries = 0
        self._wake_at: float | None = None
        self._check_at: float | None = None  # when to check for a life sign of a server that must not be asked again
        self._on_trial: MapServerPeer | None = None

    @property
    def server(self) -> MapServerPeer | None:
        """The Map-Server to ask now; None if this uplink can ask none."""
        servers = self._servers
        return servers[self._turn % len(servers)] if servers else None

    @property
    def _servers(self) -> list[MapServerPeer]:
        own = self.locator
        return [
            server
            for server in self._config.servers_for(own)
            if (
                self._knowledge.dialect_of(server) is not None
                or is_private(own.address)
                or self._is_beyond(server)
                or not self._config.is_at_risk(server)
            )
            and not (self._is_beyond(server) and not self._speaks_e19(server))
        ]

    def _is_beyond(self, server: MapServerPeer) -> bool:
        """True when only a translator leads to it."""
        return server.address.version != self.locator.address.version

    def _speaks_e19(self, server: MapServerPeer) -> bool:
        known = self._knowledge.dialect_of(server)
        return known is Dialect.E19 or (known is None and Dialect.E19 in candidates(self._config.mode, server.key))

    @property
    def is_asking(self) -> bool:
        """True while an answer may still come."""
        return self._wake_at is not None

    @property
    def asks_from_data_port(self) -> bool:
        """True while an answer may still come to the ephemeral data port of such a dialect."""
        return self.is_asking and any(TRAITS[asked.dialect].info_from_data_port for asked in self._outstanding.values())

    @property
    def is_silent(self) -> bool:
        """True when no server has answered anything since it was asked: the network may be the cause."""
        return not any(self._knowledge.is_alive(server) for server in self._servers)

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        own = () if self._wake_at is None else (self._wake_at, self._check_at)
        return min((at for at in (self.trial.wake_at(), *own) if at is not None), default=None)

    def start(self, now: float) -> list[UplinkEffect]:
        """Ask now, or as soon as the server may be asked."""
        self._tries = 0
        return self._ask(now)

    def stop(self) -> None:
        """Stop asking."""
        self._outstanding.clear()
        self._wake_at = self._on_trial = None
        self.trial.stop()

    def on_timer(self, now: float) -> list[UplinkEffect]:
        """A deadline may have passed."""
        effects = self._on_tried(self.trial.on_timer(now), now)
        if self._wake_at is None:
            return effects
        if now >= self._wake_at:
            return effects + self._ask(now)
        if self._check_at is not None and now >= self._check_at and self.server is not None:
            self._check_at = None
            effects.append(LifeSignWanted(self.server.address))
        return effects

    def on_record(self, locators: tuple[Locator, ...], now: float) -> list[UplinkEffect]:
        """Our record has changed. A server at risk is tried with registers first, to see whether it may be asked."""
        if self._on_trial is None or self.trial.server == self._on_trial or self._wake_at is None:
            return []
        return [*self.trial.start(self._on_trial, locators, now)]

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[UplinkEffect]:
        """A Map-Notify for a register of the trial arrived."""
        return self._on_tried(self.trial.on_map_notify(notify, raw, now), now)

    def on_alive(self, server: MapServerPeer, now: float, *, has_returned: bool) -> None:
        """The server answered something else: the request may be repeated sooner. `has_returned`: after an outage."""
        if self._wake_at is not None and server == self.server:
            self._tries = 0 if has_returned else self._tries
            self._wake_at = min(self._wake_at, self._may_ask_at(server, now))

    def on_info_reply(self, reply: InfoReply, raw: bytes, now: float, *, by_other_port: bool = False) -> Seen | Count:
        """An Info-Reply arrived; `raw` is the message that its MAC covers. Returns the counter if it is refused."""
        asked = self._outstanding.get(reply.nonce)
        if asked is None:
            return Count("rx_nonce")
        if asked.dialect is Dialect.E19:
            try:
                if asked.server.key.algorithm is not Algorithm.NONE and not reply.authentication:
                    raise AuthenticationFailed("an Info-Reply without authentication")
                verify(raw, asked.server.key)
            except AuthenticationFailed:
                return Count("rx_auth")
        elif self._knowledge.dialect_of(asked.server) is Dialect.E19:
            return Count("rx_policy")  # the server can authenticate its replies, so this one is forged
        if (reply.eid, reply.mask_len) != (asked.request.eid, asked.request.mask_len):
            return Count("rx_policy")
        self.stop()
        self._tries = 0
        address = reply.nat.global_etr_rloc
        has_address = isinstance(address, IPv4Address | IPv6Address) and address.version == asked.server.address.version
        has_address = has_address and reply.nat.etr_port > 0
        rtrs = self._offered(reply, asked.server)
        usable = self._trusted(rtrs, asked.dialect)
        return Seen(
            asked.server,
            asked.dialect,
            address if has_address and isinstance(address, IPv4Address | IPv6Address) else None,
            reply.nat.etr_port,
            usable,
            bool(rtrs) and not usable,
            min(max(60.0 * reply.ttl_min, TTL_MIN_S), TTL_MAX_S),
            now - asked.at,
            address if isinstance(address, IPv4Address) and asked.server.address.version == 6 else None,
            by_other_port,
        )

    def _ask(self, now: float) -> list[UplinkEffect]:
        server = self.server
        if server is None:
            self._wake_at = None
            return []
        effects: list[UplinkEffect] = []
        if self._tries >= TRIES:
            effects.append(Event("natt-unanswered", self._fields(server)))
            self._turn += 1
            self._tries = 0
            if self._turn % len(self._servers) == 0:
                self._wake_at = self._on_trial = None
                self.trial.stop()
                return [*effects, AskFailed(server)]
            server = self.server or server
        if self._may_ask_at(server, now) <= now:
            self._tries += 1
            return [*effects, *self._put(server, FIRST_WAIT_S * 2 ** (self._tries - 1), now)]
        # It may be dead, so it rests for a while. A server that may be asked now goes first.
        other = self._soonest(now)
        if self._may_ask_at(other, now) <= now:
            return [*effects, *self._put(other, FIRST_WAIT_S, now)]
        self._wake_at = self._may_ask_at(other, now)
        return effects

    def _may_ask_at(self, server: MapServerPeer, now: float) -> float:
        """One beyond a translator gives no other sign of life. What a question does no harm may be asked again."""
        is_harmless = not self._config.is_at_risk(server)
        if self._is_beyond(server) and is_harmless:
            return now
        return self._knowledge.may_ask_at(server, now, is_harmless=is_harmless)

    def _soonest(self, now: float) -> MapServerPeer:
        """The Map-Server that may be asked before all others."""
        return min(self._servers, key=lambda one: self._may_ask_at(one, now))

    def _put(self, server: MapServerPeer, wait_s: float, now: float) -> list[UplinkEffect]:
        """Ask this one."""
        dialect = Dialect.E19 if self._is_beyond(server) else self._knowledge.next_dialect(server)
        self._knowledge.on_asked(server, now)
        self._wake_at = max(now + wait_s, self._may_ask_at(self._soonest(now), now))
        self._check_at = now + RETRY_ALIVE_S if self._knowledge.dialect_of(server) is None else None
        dialects = (dialect, Dialect.LISPERS) if self._asks_both(server, dialect) else (dialect,)
        return [effect for spoken in dialects for effect in (self._send(server, spoken, now), Count("tx_info_request"))]

    def _asks_both(self, server: MapServerPeer, dialect: Dialect) -> bool:
        """Configured RTRs may be lispers.net's, which ignores the other dialect: ask in both without waiting."""
        is_unknown = self._knowledge.dialect_of(server) is None and dialect is Dialect.E19
        if self._is_beyond(server):
            return False
        return is_unknown and bool(self._config.rtrs) and Dialect.LISPERS in candidates(self._config.mode, server.key)

    def _on_tried(self, sent: Sequence[UplinkEffect], now: float) -> list[UplinkEffect]:
        """Apply the result of the trial."""
        effects, server, finding = list(sent), self._on_trial, self.trial.take_finding()
        if server is None:
            return effects
        if finding is not None:
            self._on_trial = None
        if finding is Finding.NO_RTRS:
            effects.append(AskFailed(server))
        elif finding is Finding.HAS_RTRS:
            self._knowledge.on_rtrs_found(server)
            effects += [*self._ask(now), *self.trial.watch(server, now)]
            self._on_trial = server
        elif finding is Finding.SILENT:
            self._knowledge.on_silent(server)
        return effects

    def _send(self, server: MapServerPeer, dialect: Dialect, now: float) -> SendControl | SendFromDataPort:
        traits = TRAITS[dialect]
        eid = self._config.eids[0]
        request = InfoRequest(
            nonce=self._new_nonce(),
            eid=from_prefix(eid) if traits.info_names_eid else None,
            mask_len=eid.mask_len if traits.info_names_eid else 0,
            tail=None
            if traits.info_names_eid
            else DistinguishedName(self._config.host_name_on(self.locator.interface)),
        )
        key = server.key
        if self._config.is_at_risk(server):
            if self._knowledge.takes_whole_question(server):
                self._knowledge.on_asked_whole(server)
            else:
                key = dataclasses.replace(key, is_truncated=True)
                self._on_trial = server
        payload = sign(request, key) if traits.info_is_authenticated else request.encode()
        self._outstanding[request.nonce] = _Asked(server, dialect, request, now)
        while len(self._outstanding) > MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        one = self.locator
        if traits.info_from_data_port:
            port = DataPort.FIXED if traits.data_port_is_fixed else DataPort.EPHEMERAL
            return SendFromDataPort(payload, server.address, INFO_PORT, one.address, one.ifindex, port)
        return SendControl(payload, server.address, INFO_PORT, one.address, one.ifindex)

    def _offered(self, reply: InfoReply, server: MapServerPeer) -> tuple[IpAddress, ...]:
        """The RTRs of the list that are usable from here."""
        found = [ip for rloc in reply.nat.rtr_rlocs[:MAX_RTRS] for ip in ip_addresses(rloc)]
        return tuple(ip for ip in dict.fromkeys(found) if self._is_usable(ip, server))

    def _is_usable(self, rtr: IpAddress, server: MapServerPeer) -> bool:
        if rtr.version != server.address.version or rtr == self.locator.address:
            return False
        if any(eid.contains(rtr) for eid in self._config.eids):
            return False
        if not (rtr.is_loopback and server.address.is_loopback) and not may_be_rloc(rtr):
            return False
        return not is_private(rtr) or is_private(server.address)

    def _trusted(self, rtrs: tuple[IpAddress, ...], dialect: Dialect) -> tuple[IpAddress, ...]:
        """An unauthenticated list could name any RTR: then only configured ones count."""
        if self._config.rtrs:
            return tuple(ip for ip in self._config.rtrs if ip in rtrs)
        return rtrs if TRAITS[dialect].info_is_authenticated else ()

    def _fields(self, server: MapServerPeer) -> dict[str, str | int | float | bool | list[str] | None]:
        return {"rloc": str(self.locator.address), "map_server": str(server.address)}
