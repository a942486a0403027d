"""Registrations through an RTR (E19): each one also opens the NAT, and keeps it open.

    node : 4341 -> NAT -> RTR : 4342     ECM (R) with a Map-Register from the private RLOC to the Map-Server
    RTR : 4342 -> NAT -> node : 4341     data packet in Instance-ID 0xFFFFFF with the Map-Notify

One flow serves all EID-Prefixes and Map-Servers of the uplink. In every `slot` the oldest registration is repeated, so
an idle binding costs one packet per keepalive interval, whatever the number of registrations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from lispmob.control.registration import REFUSED_WAIT_S, TAKEN_WAIT_S
from lispmob.control.sealing.key_trial import KeyTrial
from lispmob.control.sharing import sharing
from lispmob.errors import AuthenticationFailed
from lispmob.natt.effect import DataPort, RelayConfirmed, SendFromDataPort, UplinkEffect
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.round_trips import RoundTrips
from lispmob.protocol.effect import Count, Event, EventValue
from lispmob.protocol.locator_set import EidRecords, LocalLocator, further_name
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import sign, verify
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.key_record import is_key_record, without_key_record
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Locator, MappingRecord

FIRST_WAIT_S: Final = 1.0  # RFC 9301, 8.2, while the round-trip time is unknown
SHORTEST_WAIT_S: Final = 0.3  # ours: an RTR on a busy host may take so long
RTT_FACTOR: Final = 3.0  # ours: a register unanswered for three round trips is lost
TRIES_PER_RTR: Final = 3  # ours: 7 s without a measured round trip, about 2 s with one
REFRESH_S: Final = 120.0  # registrations expire after 180 s: leaves a minute for tries
MAX_OUTSTANDING: Final = 8


class Relayed(msgspec.Struct):
    """One EID-Prefix at one Map-Server."""

    eid: EidPrefix
    server: MapServerPeer
    tries: int = 0  # since the last confirmation; 0: none is open
    confirmed_at: float | None = None
    retry_at: float | None = None
    wait_s: float = FIRST_WAIT_S
    trial: KeyTrial = msgspec.field(default_factory=lambda: KeyTrial(is_wanted=False))  # whether it accepts our key
    outstanding: dict[int, float] = msgspec.field(default_factory=dict)  # nonce -> when it was sent
    keyed: set[int] = msgspec.field(default_factory=set)  # of those, the nonces of registers with our key


class RelayedRegistrations:
    """All registrations of one uplink. Nonces come from the counter that the whole node shares."""

    def __init__(self, locator: LocalLocator, config: NattConfig, *, next_nonce: Callable[[], int]) -> None:
        self.locator = locator
        self.rtr: IpAddress | None = None
        self.map_version = 0  # of the records, from now on
        self._names = 0  # that it has had towards RTRs, beside its own
        self._config = config
        self._next_nonce = next_nonce
        self._locators: tuple[Locator, ...] = ()
        self._eid_records: dict[EidPrefix, tuple[Locator, ...]] = {}
        self._interval_s = REFRESH_S
        self._sent_at: float | None = None
        self._round_trips = RoundTrips()
        self.ones = self._for_servers_like(locator.address)

    @property
    def name(self) -> IpAddress:
        """The address by which RTRs know the uplink."""
        towards = self.rtr or self.locator.address
        if self._names:
            return further_name(self.locator, self._names, towards)
        return self.locator.name_towards(towards)

    def rename(self) -> None:
        """Be another uplink to RTRs from now on."""
        self._names += 1

    def _for_servers_like(self, address: IpAddress) -> tuple[Relayed, ...]:
        """The registrations at the Map-Servers of one family, the RTR's: it speaks to them in our place."""
        servers = (s for s in self._config.servers_for(self.locator) if s.address.version == address.version)
        is_keyed = self._config.key_record is not None
        return tuple(
            Relayed(eid, server, trial=KeyTrial(is_wanted=is_keyed)) for server in servers for eid in self._config.eids
        )

    @property
    def is_confirmed(self) -> bool:
        """True when all registrations at some Map-Server are confirmed through the current RTR."""
        confirmed = {relayed.server for relayed in self.ones} - {
            relayed.server for relayed in self.ones if relayed.confirmed_at is None
        }
        return bool(confirmed)

    def holds(self, eid: EidPrefix, server: IpAddress) -> bool:
        """True when this Map-Server has confirmed this registration through the current RTR."""
        fitting = (relayed for relayed in self.ones if relayed.eid == eid and relayed.server.address == server)
        return self.rtr is not None and any(relayed.confirmed_at is not None for relayed in fitting)

    def is_exhausted(self, now: float) -> bool:
        """True when a register has used up its tries, and its RTR has confirmed no other one meanwhile.

        A second Map-Server that is down must not make the RTR look dead.
        """
        for relayed in self.ones:
            if relayed.tries >= TRIES_PER_RTR and relayed.retry_at is not None and now >= relayed.retry_at:
                since = min(relayed.outstanding.values(), default=now)
                if all(other.confirmed_at is None or other.confirmed_at < since for other in self.ones):
                    return True
        return False

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        if self.rtr is None:
            return None
        times = [relayed.retry_at for relayed in self.ones if relayed.retry_at is not None]
        if (slot := self._slot_at()) is not None:
            times.append(slot)
        return min(times, default=None)

    def on_interval(self, interval_s: float) -> None:
        """The NAT needs a packet at least this often."""
        self._interval_s = interval_s

    def start(
        self,
        rtr: IpAddress,
        locators: tuple[Locator, ...],
        eid_records: EidRecords,
        rtt_s: float | None,
        now: float,
    ) -> list[UplinkEffect]:
        """Register everything through this RTR, now, with these locators."""
        is_other = rtr != self.rtr
        if is_other and (self.rtr or self.locator.address).version != rtr.version:
            self.ones = self._for_servers_like(rtr)
        self.rtr, self._locators, self._eid_records = rtr, locators, dict(eid_records)
        if is_other:
            self._round_trips = RoundTrips()
            if rtt_s is not None:
                self._round_trips.add(rtt_s)
        effects: list[UplinkEffect] = []
        for relayed in self.ones:
            relayed.tries = 0
            relayed.confirmed_at = None if is_other else relayed.confirmed_at
            relayed.wait_s = self._first_wait_s()
            relayed.outstanding.clear()  # they would confirm another RTR, or old locators
            effects += self._send(relayed, now)
        return effects

    def again(self, now: float) -> list[UplinkEffect]:
        """The path may be broken: check at once whether we are still registered, and through which binding."""
        effects: list[UplinkEffect] = []
        for relayed in self.ones:
            if not relayed.tries:
                relayed.wait_s = self._first_wait_s()
                effects += self._send(relayed, now)
        return effects

    def repeat(self, now: float) -> list[UplinkEffect]:
        """Send unanswered registers once more, now. This counts as no try, because any sender may have caused it.

        It also keeps the nonces of real tries, which show since when nothing was answered.
        """
        effects: list[UplinkEffect] = []
        for relayed in self.ones:
            if 0 < len(relayed.outstanding) < MAX_OUTSTANDING - TRIES_PER_RTR:
                effects += [self._packet(relayed, self._record(relayed), now), Count("tx_map_register")]
        return effects

    def on_refused_here(self, now: float) -> None:
        """This host's own firewall stopped a register: try again soon, because that reaches no network."""
        for relayed in self.ones:
            if relayed.tries and relayed.retry_at is not None:
                relayed.wait_s = REFUSED_WAIT_S / 2
                relayed.retry_at = min(relayed.retry_at, now + REFUSED_WAIT_S)

    def stop(self) -> None:
        """This uplink uses no RTR any more."""
        self.rtr = None
        for relayed in self.ones:
            relayed.tries, relayed.retry_at, relayed.confirmed_at = 0, None, None
            relayed.outstanding.clear()

    def on_timer(self, now: float) -> list[UplinkEffect]:
        """Repeat unanswered registers, and use the slot for the registration confirmed longest ago."""
        if self.rtr is None:
            return []
        effects: list[UplinkEffect] = []
        for one in self.ones:
            if one.retry_at is not None and now >= one.retry_at:
                # Tries also keep the binding: at least as often as keepalives.
                one.wait_s = min(2 * one.wait_s, max(self._interval_s, FIRST_WAIT_S))
                effects += self._send(one, now)
        slot = self._slot_at()
        if slot is not None and now >= slot:
            idle = [relayed for relayed in self.ones if not relayed.tries]
            oldest = min(idle, key=lambda one: one.confirmed_at or 0.0)
            oldest.wait_s = self._first_wait_s()
            effects += self._send(oldest, now)
        return effects

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[UplinkEffect]:
        """A Data-Map-Notify with valid addresses; `raw` is the message that its MAC covers."""
        one = next((relayed for relayed in self.ones if notify.nonce in relayed.outstanding), None)
        if one is None or self.rtr is None:
            return [Count("rx_nonce")]
        try:
            verify(raw, one.server.key)
        except AuthenticationFailed:
            return [Count("rx_auth")]
        record = next((record for record in notify.records if record.eid_prefix == one.eid), None)
        if record is None or record.ttl_min == 0 or notify.xtr_id not in (None, bytes(16), self._config.xtr_id):
            return [Count("rx_policy")]
        sent_at, tries, is_keyed = one.outstanding[notify.nonce], one.tries, notify.nonce in one.keyed
        one.outstanding.clear()
        shared = sharing(without_key_record(record), self._eid_records.get(one.eid, self._locators))
        if shared is not None and shared.is_refused:
            # The RTR works, and the node that has our EID may leave at any moment.
            one.tries, one.wait_s, one.retry_at = 1, TAKEN_WAIT_S, now + TAKEN_WAIT_S
            told: dict[str, EventValue] = {
                "eid": str(one.eid),
                "map_server": str(one.server.address),
                "text": shared.text,
                "is_refused": True,
            }
            return [Count("rx_policy"), Event("eid-shared", told)]
        one.tries, one.retry_at, one.confirmed_at = 0, None, now
        self._round_trips.add(now - sent_at)
        problem = shared.text if shared is not None else ""
        confirmed = one.eid, one.server.address, self.rtr, tries, now - sent_at, self.locator
        # The Map-Server answers: send our key now, so that others can seal for us.
        wants_key = one.trial.on_answer(now, is_keyed=is_keyed, is_offered=notify.keeps_keys, tries=tries)
        return [RelayConfirmed(*confirmed, problem), *(self._send(one, now) if wants_key else ())]

    def expects(self, nonce: int) -> bool:
        """True when a Map-Notify with this nonce would confirm a register of ours."""
        return any(nonce in relayed.outstanding for relayed in self.ones)

    def withdraw(self, now: float) -> list[UplinkEffect]:
        """The node stops: TTL 0 for everything, best effort."""
        if self.rtr is None:
            return []
        records = [(relayed, MappingRecord.of(relayed.eid, ttl_min=0, is_authoritative=True)) for relayed in self.ones]
        effects: list[UplinkEffect] = [self._packet(one, record, now) for one, record in records]
        self.stop()
        return effects

    def _slot_at(self) -> float | None:
        if self._sent_at is None or all(relayed.tries for relayed in self.ones):
            return None
        return self._sent_at + min(self._interval_s, REFRESH_S / len(self.ones))

    def _first_wait_s(self) -> float:
        quickest_s = self._round_trips.quickest_s
        return FIRST_WAIT_S if quickest_s is None else min(max(RTT_FACTOR * quickest_s, SHORTEST_WAIT_S), FIRST_WAIT_S)

    def _send(self, one: Relayed, now: float) -> list[UplinkEffect]:
        one.tries += 1
        one.retry_at = now + one.wait_s
        self._sent_at = now
        fields: dict[str, EventValue] = {
            "eid": str(one.eid),
            "map_server": str(one.server.address),
            "rtr": str(self.rtr),
            "rloc": str(self.locator.address),
            "tries": one.tries,
        }
        return [self._packet(one, self._record(one), now), Count("tx_map_register"), Event("register-sent", fields)]

    def _record(self, one: Relayed) -> MappingRecord:
        locators = self._eid_records.get(one.eid, self._locators)
        key_record = self._config.key_record
        if key_record is not None and one.trial.says_key(max(one.tries, 1)):
            locators = (*locators, key_record.to_locator())
        ttl_min, version = self._config.record_ttl_min, self.map_version
        return MappingRecord.of(one.eid, locators, ttl_min=ttl_min, is_authoritative=True, map_version=version)

    def _packet(self, one: Relayed, record: MappingRecord, now: float) -> SendFromDataPort:
        assert self.rtr is not None
        nonce = self._next_nonce()
        one.outstanding[nonce] = now
        one.keyed = {known for known in one.keyed if known in one.outstanding}
        if any(map(is_key_record, record.locators)):
            one.keyed.add(nonce)
        if len(one.outstanding) > MAX_OUTSTANDING:
            del one.outstanding[next(iter(one.outstanding))]
        register = MapRegister(
            nonce=nonce,
            records=(record,),
            proxy_map_reply=True,  # a Map-Request from outside cannot reach us
            has_lisp_sec=one.server.has_lisp_sec,
            want_map_notify=True,
            xtr_id=self._config.xtr_id,
            site_id=self._config.site_id,
        )
        # The RTR identifies the uplink by the inner source, which NATs do not change.
        source, server = self.locator.address, one.server
        ecm = EncapsulatedControl(
            self.name, CONTROL_PORT, server.address, CONTROL_PORT, sign(register, server.key), to_rtr=True
        )
        return SendFromDataPort(
            ecm.encode(), self.rtr, CONTROL_PORT, source, self.locator.ifindex, data_port=DataPort.FIXED
        )
