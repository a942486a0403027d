"""Keeps one EID-Prefix registered with one Map-Server in spite of losses (RFC 9301, 8.2).

How it works:

1. `on_locators` starts: it returns a Map-Register from the best uplink with a new nonce. Older nonces
   are forgotten, because they would confirm old locators.
2. Without a Map-Notify it is repeated after 1 s, 2 s, 4 s, up to every 60 s, on up to four uplinks: the best one may
   not work. After three minutes the registration counts as lost, and the tries go on.
3. A Map-Notify is valid if its nonce is known, its MAC is right and it holds our EID-Prefix. Then the machine is idle
   until the next refresh, which is spread by 10 percent so that a fleet does not refresh at once.
4. A Map-Notify that shows another node's locators means that the EID is taken: the next try comes after ten seconds.
5. `on_shutdown` withdraws the mapping with a record TTL of 0.

One EID-Prefix per Map-Register: some deployed Map-Servers mishandle more than one. A Map-Notify is always requested,
because nothing else confirms that the mapping system has our locators.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.sealing.key_trial import KeyTrial
from lispmob.control.sharing import Sharing, sharing
from lispmob.errors import AuthenticationFailed
from lispmob.protocol.effect import (
    Count,
    Event,
    MachineEffect,
    RegistrationConfirmed,
    SendControl,
    WayAnswered,
    WaysInDoubt,
)
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import sign
from lispmob.wire.auth import verify as verify_mac
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Action, MappingRecord

FIRST_WAIT_S = 1.0  # RFC 9301, 8.2: first retransmission after 1 s, then doubling
LONGEST_WAIT_S = 60.0  # RFC 9301, 8.2: at most 60 s between tries
LIFETIME_S = 180.0  # RFC 9301, 8.2: a Map-Server forgets a registration after three minutes
JITTER_SHARE = 0.1  # ours: refreshes spread over +/- 10 %, so that a whole fleet does not refresh at once
REFUSED_WAIT_S = 2.0  # ours: the wait after a register that this host itself refused; it reached no network
TAKEN_WAIT_S = 10.0  # ours: between tries for an EID that another node holds
UPLINKS_AT_ONCE = 4  # ours: an unanswered register is repeated on so many uplinks, because the best one may not work
MAX_OUTSTANDING = 16  # ours: nonces that a late Map-Notify may still answer
AUTH_FAILED_EVENT_S = 60.0  # ours: forged messages must not fill the log


class State(Enum):
    """The state of one registration."""

    IDLE = "idle"
    REGISTERING = "registering"
    REGISTERED = "registered"
    REFRESHING = "refreshing"
    LOST = "lost"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.REGISTERING}),
    State.REGISTERING: frozenset({State.REGISTERED, State.LOST, State.IDLE}),
    State.REGISTERED: frozenset({State.REFRESHING, State.REGISTERING, State.IDLE}),
    State.REFRESHING: frozenset({State.REGISTERED, State.REGISTERING, State.LOST, State.IDLE}),
    State.LOST: frozenset({State.REGISTERED, State.REGISTERING, State.IDLE}),
}


class RegistrationPolicy(msgspec.Struct, frozen=True):
    """The settings that all registrations of a node share."""

    interval_s: float = 60.0
    ttl_min: int = 10
    xtr_id: bytes = bytes(16)
    site_id: bytes = bytes(8)
    key_record: KeyRecord | None = None
    """Our static key, for Map-Servers that accept it."""


class Registration:
    """One EID-Prefix at one Map-Server. Nonces come from a counter that the whole node shares."""

    def __init__(
        self,
        eid: EidPrefix,
        server: MapServerPeer,
        policy: RegistrationPolicy,
        *,
        next_nonce: Callable[[], int],
        jitter: Callable[[], float],
    ) -> None:
        self.eid = eid
        self.server = server
        self.policy = policy
        self.state = State.IDLE
        self.tries = 0
        self.confirmed_at: float | None = None
        self.since: float | None = None
        """When the current locators were first confirmed."""
        self.rtt_ms: float | None = None
        self._next_nonce = next_nonce
        self._jitter = jitter
        self._locators = LocatorSet()
        # nonce -> when it was sent, from where, and whether with our key
        self._outstanding: dict[int, tuple[float, LocalLocator, bool]] = {}
        self._trial = KeyTrial(is_wanted=policy.key_record is not None)
        self._wait_s = FIRST_WAIT_S
        self._wake_at: float | None = None
        self._trying_since = 0.0
        self._auth_events = TokenBucket(AUTH_FAILED_EVENT_S)

    @property
    def is_confirmed(self) -> bool:
        """True while the Map-Server is known to hold our current locators."""
        return self.state in (State.REGISTERED, State.REFRESHING)

    @property
    def takes_key(self) -> bool:
        """True when the Map-Server is known to hold our static key."""
        return self._trial.is_taken

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None if nothing is due."""
        return self._wake_at

    def expects(self, nonce: int) -> bool:
        """True when a Map-Notify with this nonce would confirm a Map-Register of ours."""
        return nonce in self._outstanding

    def on_locators(self, locators: LocatorSet, now: float) -> list[MachineEffect]:
        """Our RLOCs have changed."""
        is_same = locators.is_like(self._locators)
        self._locators = locators
        if not self._uplinks():
            return self._rest()
        if is_same and self.state is not State.IDLE:
            return []
        return self._start(now)

    def on_slept(self, now: float) -> list[MachineEffect]:
        """The host was suspended: the Map-Server may have dropped the registration."""
        return self._start(now) if self._uplinks() else []

    def on_doubt(self, now: float) -> list[MachineEffect]:
        """Check whether the Map-Server still answers, by a refresh. An open try already does that, at its own pace."""
        return self._refresh(now) if self.state is State.REGISTERED else []

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed: refresh, or try again and double the wait."""
        if self._wake_at is None or now < self._wake_at:
            return []
        if self.state is State.REGISTERED:
            return self._refresh(now)
        timeout = self._event("register-timeout", tries=self.tries, waited_s=self._wait_s)
        effects: list[MachineEffect] = [timeout, WaysInDoubt()]
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        if self.state is not State.LOST and now - self._trying_since >= LIFETIME_S:
            self._to(State.LOST)
            text = "no Map-Notify for 3 minutes: wrong key, UDP port 4342 filtered, or the Map-Server is down"
            effects.append(self._event("registration-lost", text=text))
        return effects + self._register(now)

    def on_refused_here(self, now: float) -> None:
        """This host's own firewall stopped a register: try again soon, because that reaches no network."""
        if self._wake_at is not None and self.state is not State.REGISTERED:
            self._wait_s = REFUSED_WAIT_S / 2
            self._wake_at = min(self._wake_at, now + REFUSED_WAIT_S)

    def on_registers_sent(self, now: float) -> list[MachineEffect]:
        """Another registration of this node sends now: refresh with it what jitter alone has put later."""
        soon_s = 2 * JITTER_SHARE * self.policy.interval_s
        is_soon = self._wake_at is not None and now < self._wake_at <= now + soon_s
        return self._refresh(now) if is_soon and self.state is State.REGISTERED else []

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[MachineEffect]:
        """A Map-Notify arrived; `raw` is the message that its MAC covers."""
        sent = self._outstanding.get(notify.nonce)
        if sent is None:
            return [Count("rx_nonce")]
        try:
            verify_mac(raw, self.server.key)
        except AuthenticationFailed as failure:
            return self._refuse_unauthenticated(str(failure), now)
        if self.server.sends_xtr_id and notify.xtr_id not in (None, bytes(16), self.policy.xtr_id):
            return [Count("rx_policy")]
        record = next((one for one in notify.records if one.eid_prefix == self.eid), None)
        if record is None:
            return [Count("rx_policy")]
        shared = sharing(record, self._locators.to_record(self.eid, self.policy.ttl_min).locators)
        if shared is not None and shared.is_refused:
            # The other node may leave at any moment: try again soon, at a steady pace.
            self._wait_s = TAKEN_WAIT_S / 2
            self._wake_at = now + TAKEN_WAIT_S
            return [Count("rx_policy"), self._event("eid-shared", text=shared.text, is_refused=True)]
        if why := _refusal(record):
            return [Count("rx_policy"), self._event("register-refused", text=why)]
        sent_at, uplink, is_keyed = sent
        confirmed = self._confirm(sent_at, shared, now)
        if self._trial.on_answer(now, is_keyed=is_keyed, is_offered=notify.keeps_keys, tries=self.tries):
            confirmed += self._refresh(now)  # the Map-Server answers: register again at once, with our key or without
        return [WayAnswered(uplink.address, uplink.ifindex, now - sent_at), *confirmed]

    def on_shutdown(self, now: float) -> list[MachineEffect]:
        """The node stops: withdraw the mapping with TTL 0, best effort."""
        if self.state is State.IDLE:
            return []
        withdrawal = MappingRecord.of(self.eid, ttl_min=0, is_authoritative=True)
        effects: list[MachineEffect] = [self._send(withdrawal, self._uplinks()[0], now), self._event("withdrawn")]
        return effects + self._rest()

    def _start(self, now: float) -> list[MachineEffect]:
        if self.state is not State.REGISTERING:
            self._trying_since = now
        self._to(State.REGISTERING)
        self._outstanding.clear()  # they would confirm old locators
        self.tries = 0
        self._wait_s = FIRST_WAIT_S
        return self._register(now)

    def _refresh(self, now: float) -> list[MachineEffect]:
        self._to(State.REFRESHING)
        self.tries = 0
        self._wait_s = FIRST_WAIT_S
        return self._register(now)

    def _register(self, now: float) -> list[MachineEffect]:
        self.tries += 1
        self._wake_at = now + self._wait_s
        record = self._locators.to_record(self.eid, self.policy.ttl_min)
        is_keyed = self._trial.says_key(self.tries)
        rlocs = [str(locator.address) for locator in record.locators]
        event = self._event("register-sent", tries=self.tries, version=self._locators.version, rlocs=rlocs)
        if is_keyed and self.policy.key_record is not None:
            record = replace(record, locators=(*record.locators, self.policy.key_record.to_locator()))
        # The first try uses the best uplink; repeats use several, because one of them may work.
        uplinks = self._uplinks()[: UPLINKS_AT_ONCE if self.tries > 1 else 1]
        sent = [self._send(record, uplink, now, is_keyed=is_keyed) for uplink in uplinks]
        return [*sent, *[Count("tx_map_register")] * len(sent), event]

    def _send(self, record: MappingRecord, uplink: LocalLocator, now: float, *, is_keyed: bool = False) -> SendControl:
        nonce = self._next_nonce()
        self._outstanding[nonce] = now, uplink, is_keyed
        if len(self._outstanding) > MAX_OUTSTANDING:
            del self._outstanding[min(self._outstanding)]
        message = MapRegister(
            nonce=nonce,
            records=(record,),
            proxy_map_reply=self.server.proxy_map_reply,
            has_lisp_sec=self.server.has_lisp_sec,
            want_map_notify=True,
            xtr_id=self.policy.xtr_id if self.server.sends_xtr_id else None,
            site_id=self.policy.site_id if self.server.sends_xtr_id else None,
        )
        payload = sign(message, self.server.key)
        return SendControl(payload, self.server.address, source=uplink.address, ifindex=uplink.ifindex)

    def _confirm(self, sent_at: float, shared: Sharing | None, now: float) -> list[MachineEffect]:
        is_change = self.state is not State.REFRESHING
        tries = self.tries
        self._to(State.REGISTERED)
        self._outstanding.clear()
        self.confirmed_at = self._trying_since = now
        if is_change or self.since is None:
            self.since = now
        self.rtt_ms = (now - sent_at) * 1000
        self._wake_at = now + self.policy.interval_s * (1 + JITTER_SHARE * (2 * self._jitter() - 1))
        event = self._event(
            "registered", tries=tries, rtt_ms=round(self.rtt_ms, 3), version=self._locators.version, is_change=is_change
        )
        if shared is not None:
            event = replace(event, fields={**event.fields, "shared": shared.text})
        return [event, RegistrationConfirmed(self.eid, self.server.address, tries, is_change)]

    def _refuse_unauthenticated(self, why: str, now: float) -> list[MachineEffect]:
        effects: list[MachineEffect] = [Count("rx_auth")]
        if self._auth_events.take(now):
            hint = "does map-servers: key (and key-id, algorithm) agree with what the Map-Server has for this EID?"
            effects.append(self._event("auth-failed", text=f"Map-Notify refused: {why}; {hint}"))
        return effects

    def _rest(self) -> list[MachineEffect]:
        if self.state is not State.IDLE:
            self._to(State.IDLE)
        self._outstanding.clear()
        self._wake_at = None
        return []

    def _uplinks(self) -> tuple[LocalLocator, ...]:
        return self._locators.for_family(self.server.address.version)

    def _event(self, kind: str, **fields: str | int | float | bool | list[str]) -> Event:
        return Event(kind, {"eid": str(self.eid), "map_server": str(self.server.address), **fields})

    def _to(self, new: State) -> None:
        if new is self.state:
            return
        assert new in TRANSITIONS[self.state], (self.state, new)
        self.state = new


def _refusal(record: MappingRecord) -> str | None:
    """Why a Map-Notify is no confirmation; None if it is one."""
    if record.ttl_min == 0:
        return "the Map-Server reports TTL 0: another node withdrew this EID, or uses its key"
    if not record.locators and record.action in (Action.DROP_POLICY_DENIED, Action.DROP_AUTH_FAILURE):
        return "the Map-Server denies this registration by policy"
    return None
