"""The machine of sealed data: sessions with peers, how they are made, and which packets may be in clear.

How it works.
1. A mapping whose EID-Prefix has a known key (`peer_keys.py`) gets a peer in its forwarding entry.
2. For traffic to a peer without a session, or with an old one, the datapath calls `on_seal_wanted`: a handshake
   begins, in RLOC-probes to the locators in turn (`handshake_carriage.py`), repeated after 1, 2, 4 and then every 5 s.
3. The answer makes a session, and an empty sealed packet confirms it to the responder.
4. A first message from a peer is answered, within limits, if its static key is the known key of its Source EID. If no
   key is known, it is looked up, and the message waits for two seconds.
5. A peer that has had a session gets no clear text, and its clear text is refused, starting three seconds after
   the first session, because clear packets may be in flight until then.

Keys are replaced after 120 s by the initiator, after 165 s by the responder, and only when there is something to send:
nothing here wakes an idle node. Sessions are found by index in the datapath, so a move needs none of this. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from lispmob.control.sealing.callers import AnswerLimits, HeldHandshakes
from lispmob.control.sealing.handshake_carriage import First, put_first, put_second, take_second
from lispmob.control.sealing.hub_keys import HubKeys
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import PeerKeys, fingerprint
from lispmob.control.sealing.seal_config import SealConfig, SealMode, SealTools
from lispmob.control.sealing.sealed_entries import (
    GIVE_UP_S,
    PARTING_S,
    SETTLED_S,
    Asking,
    InstalledSession,
    SealedEntries,
    SealedPeer,
)
from lispmob.control.sealing.sealed_handshake import Answered, OpenHandshake, Pair, Session, answer, new_index
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    Count,
    Event,
    ForgetPeer,
    ForgetSession,
    MachineEffect,
    SendControl,
    SendKeepalive,
)
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.sealed_handshake import FirstMessage, SecondMessage

ASKING_MAX: Final = 256  # ours: first messages that may still be answered
ASKING_S: Final = 10.0  # ours: how late an answer may come
REKEY_APART_S: Final = 1.0  # ours: longer than a packet is in flight
ASK_TRIES: Final = 3  # ours: unanswered handshakes before the peer's key is looked up again
SWEEP_S: Final = 1.0  # ours: between sweeps over all peers for expired state
SILENCE_S: Final = 5.0  # ours: between handshakes caused by unanswered data


class Sealing:
    """The sealing state of all peers of a node."""

    def __init__(self, config: SealConfig, tools: SealTools, new_nonce: Callable[[], int]) -> None:
        self._tools = tools
        self._new_nonce = new_nonce
        self.keys = PeerKeys(config.pinned, tools.memory, is_strict=config.is_strict)
        self._hub_keys = HubKeys(config, tools.hub_memory)
        self._config = self._hub_keys.config()
        self.entries = SealedEntries(self._config, self.keys)
        self._own = LocatorSet()
        self._asking: dict[int, Asking] = {}
        self._held = HeldHandshakes()
        self._limits = AnswerLimits()
        self._questions: list[EidPrefix] = []
        self._agenda: Agenda[int] = Agenda()  # of peers, by their numbers
        self._swept_at = float("-inf")

    @property
    def public_key(self) -> bytes:
        """Our static public key."""
        return self._tools.static.public

    @property
    def mode(self) -> SealMode:
        """The configured mode."""
        return self._config.mode

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds. Sessions do not count: none wakes an idle node."""
        times = (self._agenda.first(), self._held.wake_at(), *self.entries.parting_at)
        return min((at for at in times if at is not None), default=None)

    def on_start(self) -> list[MachineEffect]:
        """What the datapath must know before the first packet."""
        return self.entries.say_refused()

    def on_hub_vouched(self, address: IpAddress, record: KeyRecord | None) -> list[MachineEffect]:
        """A Map-Resolver vouches, under LISP-SEC, for the key of this proxy. A configured key takes precedence."""
        return [*self._hub_keys.on_vouched(address, record), *self._use_hubs()]

    def knows_hub(self, address: IpAddress) -> bool:
        """True when the key of the proxy at this address is configured, or vouched for since the start."""
        return any(hub.address == address and hub.grade != "remembered" for hub in self._config.hubs)

    @property
    def waiting(self) -> Mapping[EidPrefix, bytes]:
        """Keys that wait for a client's acceptance."""
        return {**self.keys.waiting, **self._hub_keys.waiting}

    def _use_hubs(self) -> list[MachineEffect]:
        """Something about the keys of hubs may have changed."""
        former, self._config = self._config, self._hub_keys.config()
        return self.entries.on_config(self._config) if self._config != former else []

    def on_config(self, config: SealConfig) -> list[MachineEffect]:
        """The configuration was reloaded. An unchanged one is free: there may be 100,000 mappings."""
        if not self._hub_keys.on_config(config):
            return []
        self.keys.on_config(config.pinned, is_strict=config.is_strict)
        self._config = self._hub_keys.config()
        return [*self.entries.on_config(self._config), *self.entries.say_sources()]

    def forget_key(self, prefix: EidPrefix) -> list[MachineEffect]:
        """A client says that this EID-Prefix, or hub, need not be sealed. ValueError if no key of it is stored."""
        if self._hub_keys.knows(prefix):
            self._hub_keys.forget(prefix)
            return self._use_hubs()
        self.keys.forget(prefix)
        return self.entries.reconsider(prefix)

    def accept_key(self, prefix: EidPrefix) -> list[MachineEffect]:
        """A client accepts the new key of this EID-Prefix, or hub. ValueError if none is waiting."""
        if prefix in self._hub_keys.waiting:
            return [*self._hub_keys.accept(prefix), *self._use_hubs()]
        return [*self.keys.accept(prefix), *self._use_keys(prefix)]

    def _use_keys(self, prefix: EidPrefix, until: float | None = None) -> list[MachineEffect]:
        """The key of this EID-Prefix has changed."""
        return [*self.entries.reconsider(prefix, until), *self.entries.say_sources(prefix)]

    def on_announced_key(self, peer: SealedPeer, prefix: EidPrefix, record: KeyRecord) -> list[MachineEffect]:
        """A peer announces, in a session of its present key, the key that this EID-Prefix of it will have."""
        known, before = self.keys.of(prefix), self.keys.version
        if known is None or known.key != peer.known.key or record.is_revoked:
            return []
        effects = self.keys.on_announced(known, record.keys[0])
        return effects if self.keys.version == before else [*effects, *self._use_keys(known.prefix)]

    def on_locators(self, own: LocatorSet) -> None:
        """The RLOCs at which others reach us without an RTR have changed."""
        self._own = own

    def on_static_key(self, static: KeyPair, now: float) -> list[MachineEffect]:
        """Our static key has changed: begin handshakes with it at once. Existing sessions stay until they expire."""
        self._tools = dataclasses.replace(self._tools, static=static)
        self._asking.clear()
        return self._begin_all(now, age_s=0.0)

    def on_rekey(self, now: float) -> list[MachineEffect]:
        """A client wants new keys for every peer with a session, except for new sessions."""
        return self._begin_all(now, age_s=REKEY_APART_S)

    def _begin_all(self, now: float, *, age_s: float) -> list[MachineEffect]:
        """The datapath has room for three sessions in use of a peer: with a fourth, packets in flight would be lost."""
        effects: list[MachineEffect] = []
        for peer in self.entries.peers:
            if peer.sessions and peer.entries and now - peer.sessions[-1].at >= age_s:
                effects += self._begin(peer, now)
        return effects

    def on_vouched(self, prefix: EidPrefix, record: KeyRecord | None, now: float) -> list[MachineEffect]:
        """LISP-SEC has authenticated a mapping with these keys. Called before it is installed."""
        before = self.keys.version
        effects = self.keys.on_vouched(prefix, record)
        if self.keys.version != before:
            # Packets in flight that were sealed with a replaced key still count; with a revoked key they do not.
            until = None if record is not None and record.is_revoked else now + PARTING_S
            effects += self._use_keys(prefix, until)
        for held in self._held.take_within(prefix) if self.keys.of(prefix) is not None else ():
            effects += self._answer(held.first, held.datagram, held.nonce, now, is_last=True)
        return effects

    def on_seal_wanted(self, number: int, now: float) -> list[MachineEffect]:
        """Packets for this peer need a session, or new keys."""
        peer = self.entries.by_number(number)
        if peer is None or self._config.mode == "off":
            return []
        peer.wanted_at = now
        if peer.next_at is not None or not peer.wants_rekey(now):
            return []
        return self._begin(peer, now)

    def on_silence(self, remote: IpAddress, now: float) -> list[MachineEffect]:
        """Packets to this locator go unanswered. A peer that lost its session, as at a restart, answers a handshake."""
        effects: list[MachineEffect] = []
        for peer in self.entries.peers:
            is_due = peer.next_at is None and now - peer.last_try_at >= SILENCE_S
            if is_due and peer.sessions and remote in peer.remotes:
                effects += self._begin(peer, now)
        return effects

    def on_clear_heard(self, number: int, now: float) -> list[MachineEffect]:
        """Clear text came in the name of a peer that has sealed. If it is the peer, it has lost its keys.

        A handshake shows which: a peer with another key, or without one, is answered if its Map-Server vouches for
        that.
        """
        peer = self.entries.by_number(number)
        if peer is None or peer.next_at is not None or now - peer.last_try_at < SILENCE_S:
            return []
        return self._begin(peer, now)

    def on_mapping_back(self, now: float) -> list[MachineEffect]:
        """Mappings of peers came back after they had gone: a peer that registers again may have lost its sessions."""
        effects: list[MachineEffect] = []
        for peer in self.entries.take_returned():
            if peer.sessions and peer.next_at is None and now - peer.last_try_at >= SILENCE_S:
                effects += self._begin(peer, now)
        return effects

    def take_questions(self) -> list[EidPrefix]:
        """The EIDs whose keys must be looked up, collected since the previous call."""
        taken, self._questions = self._questions, []
        return taken

    def on_first(
        self, first: First, datagram: Datagram, nonce: int, now: float, *, is_known: bool = False
    ) -> list[MachineEffect]:
        """A peer begins a handshake. An invalid message costs one hash and uses up no limit.

        `is_known`: it comes from a locator of a mapping that we use. Such senders have limits of their own.
        """
        responder = first.responder
        if self._config.mode == "off" or responder is None or self._config.owner_of(responder) is None:
            return [Count("rx_policy")]
        try:
            FirstMessage.decode(first.message, self._tools.static.public)
        except MalformedMessage as malformed:
            return [Count(malformed.counter)]
        if not self._limits.take(datagram.source, now, is_known=is_known):
            return [Count("rx_rate")]
        return self._answer(first, datagram, nonce, now, is_known=is_known)

    def on_answer(self, reply: MapReply, now: float) -> list[MachineEffect] | None:
        """A Map-Reply to a probe came; None if it answers no handshake of ours.

        A host that reads our probes can forge answers. None of them ends the handshake: the genuine one still counts.
        """
        asking = self._asking.get(reply.nonce)
        if asking is None:
            return None
        try:
            second = take_second(reply)
            if second is None:
                peer = asking.peer
                if peer.next_at is None:
                    return []
                peer.why_unsealed = "it answers probes, and no handshake"
                if peer.tries % 2 == 0:
                    return []
                # It is probably an RTR: send the handshake as data, at once.
                return [*self.entries.on_way(peer, is_behind=True), *self._try(peer, now)]
            SecondMessage.decode(second, self._tools.static.public)
        except MalformedMessage as malformed:
            return [Count(malformed.counter)]
        if not self._limits.may_verify(now):
            return [Count("rx_rate")]
        try:
            session = asking.handshake.finish(second)
        except MalformedMessage as malformed:
            self._limits.on_forged(now)
            return [Count(malformed.counter)]
        del self._asking[reply.nonce]
        peer = asking.peer
        if peer.known.key != session.peer or self.entries.by_number(peer.number) is not peer:
            return [Count("rx_policy")]  # its key has changed since the first message
        peer.rest()
        way = self.entries.on_way(peer, is_behind=asking.is_nested)
        installed = [*way, *self._install_session(peer, session, now, is_initiator=True)]
        return [*installed, *self._confirmed(peer, now), SendKeepalive(peer.number)]

    def on_confirmed(self, number: int, local_index: int, now: float) -> list[MachineEffect]:
        """A packet of the peer opened with this session."""
        peer = self.entries.by_number(number)
        standing = (
            next((session for session in peer.sessions if session.local_index == local_index), None) if peer else None
        )
        if peer is None or standing is None or standing.is_confirmed:
            return []
        standing.is_confirmed = True
        peer.sessions = [*(session for session in peer.sessions if session is not standing), standing]
        peer.rest()
        return self._confirmed(peer, now)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed. Expired state is removed at each call."""
        effects: list[MachineEffect] = [*self.entries.part(now), *[Count("rx_auth")] * self._held.take_over(now)]
        if now >= self._swept_at + SWEEP_S:
            self._swept_at = now
            effects += self._sweep(now)
        for number in self._agenda.due(now):
            if (peer := self.entries.by_number(number)) is not None:
                effects += self._on_due(peer, now)
                self._note(peer)
        return effects

    def _on_due(self, peer: SealedPeer, now: float) -> list[MachineEffect]:
        effects: list[MachineEffect] = []
        if peer.settled_at is not None and now >= peer.settled_at:
            peer.settled_at = None
            effects += self._settle(peer)
        if peer.next_at is None or now < peer.next_at:
            return effects
        if now - peer.begun_at >= GIVE_UP_S and peer.wanted_at < peer.last_try_at:
            peer.why_unsealed = peer.why_unsealed or "no answer to the handshake"
            peer.rest()
            return effects
        return [*effects, *self._try(peer, now)]

    def _settle(self, peer: SealedPeer) -> list[MachineEffect]:
        """Store that there was a session with this peer: from now on nothing leaves for it in clear."""
        if peer.is_hub:
            return self._use_hubs() if self._hub_keys.on_session(peer.known) else []
        return self.entries.reconsider(peer.known.prefix) if self.keys.on_session(peer.known) else []

    def _sweep(self, now: float) -> list[MachineEffect]:
        """Remove expired state of all peers."""
        for nonce, asking in [*self._asking.items()]:
            if now - asking.sent_at > ASKING_S:
                del self._asking[nonce]
        effects: list[MachineEffect] = []
        for peer in self.entries.peers:
            effects += [ForgetSession(standing.local_index) for standing in peer.take_old(now)]
            if not peer.entries and not peer.sessions:
                self.entries.drop(peer)
        return effects

    def _note(self, peer: SealedPeer) -> None:
        """Set the deadline of this peer. Call it after each change."""
        times = (at for at in (peer.next_at, peer.settled_at) if at is not None)
        self._agenda.set(peer.number, min(times, default=None))

    def on_slept(self) -> list[MachineEffect]:
        """The host was suspended, perhaps copied: no earlier key is used again."""
        effects: list[MachineEffect] = [*self.entries.part()]
        for peer in self.entries.peers:
            effects += [ForgetPeer(peer.number)] if peer.sessions else []
            peer.sessions.clear()
            peer.rest()
            self._note(peer)
        self._asking.clear()
        self._held.clear()
        return effects

    def on_shutdown(self) -> list[MachineEffect]:
        """The node stops."""
        return self.on_slept()

    # --- handshakes that we begin

    def _begin(self, peer: SealedPeer, now: float) -> list[MachineEffect]:
        peer.begun_at, peer.tries = now, 0
        return self._try(peer, now)

    def _try(self, peer: SealedPeer, now: float) -> list[MachineEffect]:
        """Send a first message over the next path; each has a new ephemeral key."""
        eid = peer.eid
        place = next(iter(peer.entries), None)
        own = None if place is None else self._config.own_eid(place)
        peer.tries += 1
        peer.wait(now)
        self._note(peer)
        if peer.tries % ASK_TRIES == 0 and (eid is not None or peer.is_hub):
            # It may have another key, or have stopped sealing: its hub knows.
            self._questions.append(eid or peer.known.prefix)
        if (eid is None and not peer.is_hub) or own is None:
            peer.why_unsealed = "no mapping to begin a handshake with"
            return []
        way = peer.way(self._own)
        tools = self._tools
        pair = Pair(own.instance_id, own.address, None if eid is None else eid.address)
        ephemeral, index = tools.draw(32), self._new_index()
        handshake = OpenHandshake(tools.ciphers, pair, tools.static, peer.known.key, ephemeral=ephemeral, index=index)
        try:
            message = handshake.begin(tools.next_timestamp(), tools.aeads)
        except AuthenticationFailed:
            peer.why_unsealed = "its key is none: there is no secret with it"
            return []
        nonce = self._new_nonce()
        self._asking[nonce] = Asking(peer, handshake, now, is_nested=way is None and not peer.is_hub)
        while len(self._asking) > ASKING_MAX:
            del self._asking[next(iter(self._asking))]
        first = First(message, own, eid)
        if way is None and eid is None:
            # To a hub from behind a NAT: it answers to the source of this packet.
            hub = peer.remotes[peer.tries % len(peer.remotes)]
            sent = SendControl(put_first(nonce, first, own.address), hub)
        elif way is None:
            assert eid is not None
            # From EID to EID, as data: an RTR forwards it to the peer behind it, or from us behind it.
            sent = SendControl(put_first(nonce, first, own.address), eid.address, source=own.address)
        else:
            remote, uplink = way
            payload = put_first(nonce, first, uplink.address)
            sent = SendControl(payload, remote, source=uplink.address, ifindex=uplink.ifindex)
        return [sent, Count("tx_handshake")]

    def _new_index(self) -> int:
        asked = {asking.handshake.index for asking in self._asking.values()}
        return new_index(self._tools.draw, self.entries.indices | asked)

    # --- handshakes that peers begin

    def _answer(
        self,
        first: First,
        datagram: Datagram,
        nonce: int,
        now: float,
        *,
        is_last: bool = False,
        is_known: bool = False,
    ) -> list[MachineEffect]:
        known = self.keys.of(first.initiator)
        if known is None:
            return [Count("rx_auth")] if is_last else self._hold(first, datagram, nonce, now, is_known=is_known)
        try:
            told = self._open(first)
        except MalformedMessage as malformed:
            return [Count(malformed.counter)]
        if told.session.peer != known.key:
            # The owner may have a new key by now: only the mapping system can say.
            is_hopeless = is_last or known.grade == "pinned"
            hold = self._hold
            return [Count("rx_auth")] if is_hopeless else hold(first, datagram, nonce, now, is_known=is_known)
        self.keys.on_time(told.session.peer, told.timestamp_ns)
        peer = self.entries.peer(known)
        is_nested = self._config.owner_of(EidPrefix.host(datagram.destination, known.prefix.instance_id)) is not None
        effects = self.entries.on_way(peer, is_behind=is_nested)
        effects += self._install_session(peer, told.session, now, is_initiator=False)
        payload = put_second(nonce, told.message, first.responder or first.initiator, datagram.destination)
        place = datagram.source, datagram.source_port, datagram.destination, datagram.ifindex
        return [*effects, SendControl(payload, *place), Count("tx_handshake_answer")]

    def _open(self, first: First) -> Answered:
        """Raises MalformedMessage."""
        tools = self._tools
        responder = first.responder
        pair = Pair(first.initiator.instance_id, first.initiator.address, responder.address if responder else None)
        return answer(
            tools.ciphers,
            pair,
            tools.static,
            first.message,
            latest_of=self.keys.last_time_of,
            new_ephemeral=lambda: tools.draw(32),
            index=self._new_index(),
            aeads=tools.aeads,
        )

    def _hold(self, first: First, datagram: Datagram, nonce: int, now: float, *, is_known: bool) -> list[MachineEffect]:
        """Hold it until its key is known. One from a known locator replaces the oldest one of a stranger."""
        eid = first.initiator
        if self._config.owner_of(eid) is not None:
            return [Count("rx_policy")]
        is_asked = self._held.names(eid)
        waits, refused = self._held.add(first, datagram, nonce, now, is_known=is_known)
        if waits and not is_asked:
            self._questions.append(eid)
        return [Count("rx_rate")] * refused

    # --- sessions

    def _install_session(
        self, peer: SealedPeer, session: Session, now: float, *, is_initiator: bool
    ) -> list[MachineEffect]:
        peer.sessions.append(InstalledSession(session.own_index, now, is_initiator, is_confirmed=is_initiator))
        peer.sources = () if peer.is_hub else self.keys.sources(peer.known)
        installed = session.to_install(
            peer.number, peer.known.prefix.instance_id, peer.sources, is_confirmed=is_initiator
        )
        return [*(ForgetSession(standing.local_index) for standing in peer.take_spare()), installed]

    def _confirmed(self, peer: SealedPeer, now: float) -> list[MachineEffect]:
        peer.why_unsealed = ""
        effects: list[MachineEffect] = []
        if not peer.known.has_been_sealed and peer.settled_at is None:
            peer.settled_at = now + SETTLED_S
        self._note(peer)
        if not peer.is_reported:
            peer.is_reported = True
            known = peer.known
            fields = {"eid": str(known.prefix), "grade": known.grade, "fingerprint": fingerprint(known.key)}
            effects.append(Event("sealed", fields))
        return effects
