"""One uplink: detects a NAT, and keeps the uplink reachable behind it (NAT-traversal drafts, section 6).

         Info-Reply: no NAT            ordinary registrations
PROBING -------------------> DIRECT ---------------------------> (asks again when the reply's TTL expires)
   |   Info-Reply: NAT                    Data-Map-Notify
   +-------------------> REGISTERING ------------------------> RELAYED --+ a register every keepalive interval
   |                          ^  all RTRs failed: PROBING         |       |
   |                          +-----------------------------------+ <-----+ unanswered: the next RTR
   +-- NAT, but no RTR --> STRANDED (asks again after a minute)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lispmob.natt.checksum_probe import ChecksumProbe
from lispmob.natt.data_way import Cut, DataWay, Fault, Step
from lispmob.natt.deafness import Deafness
from lispmob.natt.dialect import TRAITS, Dialect
from lispmob.natt.effect import AskFailed, DataPort, DataSuspect, Reach, RelayConfirmed, UplinkEffect
from lispmob.natt.info_exchange import InfoExchange, Seen
from lispmob.natt.keepalive import Lifetime, interval_for
from lispmob.natt.natt_config import NattConfig, is_private
from lispmob.natt.punching import Punches
from lispmob.natt.relayed import RelayedRegistrations
from lispmob.natt.rtr import RtrChoice, RtrProbes
from lispmob.natt.server_knowledge import ServerKnowledge
from lispmob.natt.state import TRANSITIONS, State
from lispmob.natt.trust import BindingTrust
from lispmob.protocol.effect import Count, Event
from lispmob.protocol.locator_set import EidRecords, LocalLocator
from lispmob.protocol.outage import longest_wait_s
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import IpAddress
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.info import InfoReply
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator

ASK_AGAIN_S: Final = 60.0  # NAT-traversal draft: after an Info-Request without an answer, or without any RTR
ASK_BEYOND_S: Final = 20.0  # ours: the same through a translator (NAT64), where nothing else tells that it works by now
LISPERS_ASK_S: Final = 60.0  # ours: its RTR tells nothing, so that a changed public address shows only here
PATIENCE_S: Final = 3.0  # OOR's wait for an Info-Reply: then even a private address is registered as it is
DOUBT_INTERVAL_S: Final = 30.0  # ours: how often a missing answer may cause an Info-Request
POKE_INTERVAL_S: Final = 1.0  # ours: how often a word of the RTR may cause a register out of turn


class UplinkMachine:
    """The NAT traversal of one of our addresses. A new address is a new machine."""

    def __init__(
        self,
        locator: LocalLocator,
        config: NattConfig,
        knowledge: ServerKnowledge,
        *,
        new_nonce: Callable[[], int],
        next_nonce: Callable[[], int],
        peers_answer: Callable[[IpAddress], bool] = lambda _: False,
    ) -> None:
        """`peers_answer`: whether peers answer probes from this address, without an RTR."""
        self.locator = locator
        self._peers_answer = peers_answer
        self.state = State.IDLE
        self.seen: Seen | None = None
        self.is_filtered = False  # only answers come in: an RTR is needed although there is no NAT
        self.cut = Cut()
        self.is_unserved = False  # no server answered: registered in the ordinary way, as the best guess
        self.has_failed = False  # no RTR has answered since one fell silent: packets to this uplink are lost
        self.choice = RtrChoice()
        self.relays = RelayedRegistrations(locator, config, next_nonce=next_nonce)
        self.punches = Punches(locator, config.host_name_on(locator.interface), new_nonce=new_nonce)
        self.lifetime = Lifetime()
        self.deafness = Deafness()
        self.data_way = DataWay(locator, new_nonce=new_nonce)
        self._config = config
        self._probes = RtrProbes(locator, new_nonce=new_nonce)
        self._checksums = ChecksumProbe(locator, new_nonce=new_nonce)
        self._exchange = InfoExchange(locator, config, knowledge, new_nonce=new_nonce, next_nonce=next_nonce)
        self._record: tuple[tuple[Locator, ...], EidRecords] = (), ()
        self._is_cut_off = False  # every RTR has failed, and an event has reported it
        self._ask_at: float | None = None
        self._unanswered_since: float | None = None  # of our Info-Requests
        self._patience_ends_at: float | None = None
        self._left_rtrs: set[IpAddress] = set()  # since data last got through
        self._pokes = TokenBucket(POKE_INTERVAL_S, burst=2)
        self._doubts = TokenBucket(DOUBT_INTERVAL_S)
        self._trust = BindingTrust()

    @property
    def name(self) -> IpAddress:
        """The uplink's name towards RTRs."""
        return self.relays.name

    @property
    def dialect(self) -> Dialect | None:
        """The dialect of the Map-Server, once it has answered."""
        return self.seen.dialect if self.seen else None

    @property
    def reach(self) -> Reach:
        """The Map-Server's view of our address."""
        if self.seen is None or self.seen.address is None:
            return Reach.UNKNOWN
        # An ephemeral port is not known here; no NAT translates the port alone.
        is_known = self.seen.dialect is Dialect.E19 and not self.seen.by_other_port
        port = CONTROL_PORT if is_known else self.seen.port
        is_same = (self.seen.address, self.seen.port) == (self.locator.address, port)
        return Reach.DIRECT if is_same else Reach.TRANSLATED

    @property
    def is_translated(self) -> bool:
        """True when a translator (NAT64) stands between us and the Map-Server that answered: it has IPv4 only."""
        return self.seen is not None and self._is_beyond(self.seen)

    @property
    def is_direct(self) -> bool:
        """True when ordinary Map-Registers may be sent from here.

        While nothing is known that is so for a public address: waiting would cost it a round trip at every move. A
        private one would be registered for nothing, and over what may still work; so would one that reaches Map-Servers
        by a translator alone. Where that leads to no RTR, or peers answer it, it is an address like another to peers of
        its own family.
        """
        if self.state is State.STRANDED and self.is_translated:
            return True
        if self.state in (State.REGISTERING, State.RELAYED, State.STRANDED):
            return self.dialect is Dialect.LISPERS and self.state is State.RELAYED
        if self.state in (State.DIRECT, State.IDLE):  # idle: NAT traversal is off
            return True
        if self._needs_translator:
            return self.is_unserved or self._peers_answer(self.locator.address)
        return self.is_unserved or not is_private(self.locator.address)

    @property
    def _needs_translator(self) -> bool:
        """True when there are Map-Servers, and a translator leads to all of them."""
        servers = self._config.servers_for(self.locator)
        return bool(servers) and all(server.address.version != self._family for server in servers)

    @property
    def rtrs(self) -> tuple[IpAddress, ...]:
        """The RTRs that data of this uplink goes through."""
        if self.state not in (State.REGISTERING, State.RELAYED):
            return ()
        if self.dialect is Dialect.LISPERS:
            return self.punches.alive
        return (self.choice.current,) if self.choice.current is not None else ()

    @property
    def is_shut(self) -> bool:
        """True when the registration works, and data does not get to any RTR that would take it."""
        is_lost = self.punches.is_silent if self.dialect is Dialect.LISPERS else self.data_way.is_shut
        return self.state is State.RELAYED and is_lost

    @property
    def passes_zero(self) -> bool | None:
        """Whether packets without a UDP checksum reach the RTR in use; None: unknown."""
        is_relayed = self.state is State.RELAYED and self.rtrs
        return self._checksums.passes_to(self.rtrs[0]) if is_relayed else None

    def rtt_s_to(self, rtr: IpAddress) -> float | None:
        """The round trip to an RTR, None if it was never measured."""
        return self.punches.rtt_s(rtr) if self.dialect is Dialect.LISPERS else self.choice.rtt_s(rtr)

    @property
    def data_port(self) -> DataPort:
        """The source port of data."""
        if self._exchange.asks_from_data_port or (self.rtrs and self.dialect is Dialect.LISPERS):
            return DataPort.EPHEMERAL
        return self.relays.data_port if self.rtrs else DataPort.POOL

    @property
    def keepalive_s(self) -> float | None:
        """Seconds between packets that keep the binding; None: there is none to keep."""
        longest_s = TRAITS[self.dialect or Dialect.E19].longest_keepalive_s
        return interval_for(self.lifetime, self._config.keepalive_s, longest_s) if self.rtrs else None

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        probes = (self._trust, self._checksums, self.deafness, self.data_way)
        machines = (self._exchange, self.relays, self.punches, *probes)
        times = [self._ask_at, self._patience_ends_at, *(machine.wake_at() for machine in machines)]
        return min((at for at in times if at is not None), default=None)

    def on_up(self, now: float, remembered: Seen | None = None) -> list[UplinkEffect]:
        """The address has appeared. A private one need not wait if an answer to another uplink is `remembered`."""
        effects: list[UplinkEffect] = []
        if remembered is not None and self._may_guess(remembered):
            self.choice.on_offered(remembered.rtrs)
            effects += self._to(State.REGISTERING)
            # A NAT was seen from elsewhere, a translator only presumed.
            self._patience_ends_at = now + PATIENCE_S if self._needs_translator else None
        else:
            self._patience_ends_at = now + PATIENCE_S
            effects += self._to(State.PROBING)
        return effects + self._exchange.start(now)

    def on_down(self) -> None:
        """The address is gone. The RTR forgets it when the others register without it."""
        self._exchange.stop()
        self._leave_rtrs()
        self._ask_at = self._patience_ends_at = self._unanswered_since = None
        self._is_cut_off = False
        self._trust.forget()
        self.deafness.forget()
        self._to(State.IDLE)

    def on_timer(self, now: float) -> list[UplinkEffect]:
        """A deadline may have passed."""
        effects = self._asked(self._exchange.on_timer(now), now)
        if self._patience_ends_at is not None and now >= self._patience_ends_at:
            self._patience_ends_at = None
            effects += self._give_up_guess()
            self.is_unserved = self.state is State.PROBING
        if self._ask_at is not None and now >= self._ask_at:
            self._ask_at = None
            effects += self._asked(self._exchange.start(now), now)
        if self.relays.is_exhausted(now):
            return effects + self.fail_over(now)
        if self._trust.is_due(now):
            effects += self.on_stalled(now)
        effects += [*self.data_way.on_timer(now), *self._weigh_cut(now)]
        if self.data_way.wants_register and self.relays.rtr is not None:
            effects += self.relays.again(now)
        return [*effects, *self.relays.on_timer(now), *self._punch(now), *self._checksums.on_timer(now)]

    def on_info_reply(
        self, reply: InfoReply, raw: bytes, source: IpAddress, now: float, *, by_other_port: bool = False
    ) -> list[UplinkEffect] | None:
        """An Info-Reply came to this uplink; None when it answers no request of ours."""
        if self.punches.on_info_reply(reply, source, now):
            return []
        if (found := self.data_way.on_info_reply(reply, source, now)) is not None:
            if not self.data_way.is_shut:
                self._left_rtrs.clear()
            return [*found, *self._weigh_cut(now)]
        seen = self._exchange.on_info_reply(reply, raw, now, by_other_port=by_other_port)
        if isinstance(seen, Count):
            return None if seen.name == "rx_nonce" else [seen]
        return self._judge(seen, now)

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[UplinkEffect]:
        """A Data-Map-Notify came from the RTR in use."""
        effects = self.relays.on_map_notify(notify, raw, now)
        for effect in list(effects):
            if isinstance(effect, RelayConfirmed):
                self.choice.on_answered(effect.rtr, effect.rtt_s)
                self.deafness.on_confirmed()
                effects += self._on_return(now)
                effects += self.data_way.on_confirmed(effect.rtr, now, self._reserve())
                if self.relays.is_confirmed and self.state is State.REGISTERING:
                    effects += self._to(State.RELAYED)
                    effects += self._watch_checksums(effect.rtr, now)
                    effects += self._probes.probe(self._reserve(), now)
        return effects

    def on_plain_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[UplinkEffect] | None:
        """A Map-Notify came outside of any RTR; None when it answers no request of ours."""
        if not self._exchange.trial.expects(notify.nonce):
            return None
        return self._asked(self._exchange.on_map_notify(notify, raw, now), now)

    def on_map_reply(self, reply: MapReply, now: float) -> bool:
        """True when this answers a probe to an RTR."""
        if self._checksums.on_map_reply(reply):
            return True
        found = self._probes.on_map_reply(reply, now)
        if found is not None:
            self.choice.on_answered(*found)
        return found is not None

    def on_record(
        self, locators: tuple[Locator, ...], eid_records: EidRecords, map_version: int, now: float
    ) -> list[UplinkEffect]:
        """What our records say now; it is registered at once when it is something else, or through another RTR."""
        is_news = (locators, eid_records) != self._record
        self._record = locators, eid_records
        self.relays.map_version = map_version
        rtr = self.choice.current
        if self.state not in (State.REGISTERING, State.RELAYED) or self.dialect is Dialect.LISPERS or rtr is None:
            return self._exchange.on_record(locators, now)
        if not is_news and self.relays.rtr == rtr:
            return []
        self.relays.on_interval(self.keepalive_s or ASK_AGAIN_S)
        return self.relays.start(rtr, locators, eid_records, self.choice.rtt_s(rtr), now)

    def on_poked(self, now: float, *, is_about_data: bool = False) -> list[UplinkEffect]:
        """The RTR no longer knows us, or (`is_about_data`) not where it gets our data from."""
        if not self.rtrs or not self._pokes.take(now):
            return []
        # An RTR that restarts answers the register after this at once; the next try may be a second away.
        data_way = self.data_way.on_poked(now) if is_about_data else ()
        return [*self.relays.repeat(now), *self._again(now), *self._look_again(now), *data_way]

    def on_stalled(self, now: float) -> list[UplinkEffect]:
        """Our data is unanswered. The binding may be gone, or the peers are silent; repeated checks become rarer."""
        # The data of a hub comes as its confirmations do: the peers are silent, or the binding dies later.
        self.deafness.on_silence(now, may_be_sure=not self.relays.is_at_hub)
        again = self._again(now) if self.rtrs and self._trust.on_silence(now) else []
        return [*again, *(self.data_way.on_doubt(now) if self.rtrs else ())]

    def on_heard(self, now: float) -> list[UplinkEffect]:
        """Data came through the RTR."""
        self._trust.on_heard()
        was_deaf = self.deafness.on_heard(now)
        event = [Event("rtr-heard", {"rloc": str(self.locator.address)})] if was_deaf else []
        return [*self.data_way.on_heard(now), *event]

    @property
    def spare_rtrs(self) -> tuple[IpAddress, ...]:
        """In the open: the RTRs that are offered, and could take the data of this uplink."""
        is_open = self.state is State.DIRECT and self.dialect is Dialect.E19
        return self.seen.rtrs if is_open and self.seen is not None else ()

    def on_doubted_in_the_open(self, now: float, *, is_heard: bool = False) -> list[UplinkEffect]:
        """Data to a peer is unanswered; or (`is_heard`) data came from one, which says nothing about what we send."""
        ask = self.data_way.on_heard_in_the_open if is_heard else self.data_way.on_open
        return [*ask(self.spare_rtrs[0], now)] if self.spare_rtrs else []

    def on_unheard(self, now: float) -> list[UplinkEffect]:
        """A peer answers probes from here, and gets no data."""
        self.cut.on_unheard(now)
        return self._weigh_cut(now)

    def _weigh_cut(self, now: float) -> list[UplinkEffect]:
        way = self.data_way
        is_suspect = bool(self.spare_rtrs) and way.fault is Fault.FILTERED and not way.is_shut
        step = self.cut.weigh(now, is_suspect=is_suspect, is_refuted=self.state is State.RELAYED and way.fault is None)
        if step is Step.ASK_PEERS:
            return [DataSuspect(self.locator.address)]
        return self._judge(self.seen, now) if step is Step.CHANGED and self.seen is not None else []

    def on_life_sign(self, now: float) -> list[UplinkEffect]:
        """Something came from where nothing has come from lately: an RTR that had fallen silent may work again."""
        return self.relays.hurry(now) if self.has_failed and self._pokes.take(now) else []

    def on_witness_wanted(self, now: float) -> list[UplinkEffect]:
        """Check whether the RTR still answers, which shows that the network works."""
        return self._again(now) if self.rtrs else []

    def on_outside_doubted(self, now: float) -> list[UplinkEffect]:
        """Something that should come to our outside control port is missing."""
        return self._look_again(now) if self._doubts.take(now) else []

    def on_service_found(self, now: float) -> list[UplinkEffect]:
        """A Map-Server has answered an Info-Request: hold back no longer."""
        if self.seen is not None or self.state is State.IDLE:
            return []
        return self._asked(self._exchange.start(now), now)

    def on_doubted(self, now: float) -> list[UplinkEffect]:
        """The last Info-Reply is unauthenticated or may be stale: ask again, and use it meanwhile."""
        return self._asked(self._exchange.start(now), now)

    def on_alive(self, server: MapServerPeer, now: float, *, has_returned: bool) -> None:
        """A Map-Server answered something other than an Info-Request. `has_returned`: after an outage."""
        self._exchange.on_alive(server, now, has_returned=has_returned)
        if has_returned and self._unanswered_since is not None and self._ask_at is not None:
            self._unanswered_since, self._ask_at = None, now

    def on_filtered(self, is_filtered: bool, now: float) -> list[UplinkEffect]:
        """A firewall that admits only answers was found, or found absent."""
        if is_filtered == self.is_filtered:
            return []
        self.is_filtered = is_filtered
        return self._judge(self.seen, now) if self.seen is not None else []

    def on_lifetime(self, lifetime: Lifetime) -> None:
        """The measured lifetime of the NAT's bindings."""
        self.lifetime = lifetime
        if self.keepalive_s is not None:
            self.relays.on_interval(self.keepalive_s)

    def _punch(self, now: float) -> list[UplinkEffect]:
        """Keep the bindings; if an RTR falls silent, the others take over."""
        before = self.punches.alive
        effects = self.punches.on_timer(now)
        left = self.punches.alive
        for gone in before if left != before else ():
            if gone not in left:
                effects.append(Event("rtr-failed", {**self._fields(), "rtr": str(gone), "next": str(left[0])}))
        return effects

    def _again(self, now: float) -> list[UplinkEffect]:
        """Open the path again. lispers.net's RTRs confirm no registration, so the Map-Server is asked too."""
        doubts = self._checksums.on_doubt(now)
        if self.dialect is not Dialect.LISPERS:
            return [*self.relays.again(now), *doubts] if self.relays.rtr is not None else []
        return [*self.punches.again(now), *self._asked(self._exchange.start(now), now), *doubts]

    def _may_guess(self, remembered: Seen) -> bool:
        if remembered.dialect is not Dialect.E19 or not remembered.rtrs:
            return False
        if self._is_beyond(remembered):
            is_tried = self._needs_translator and not self._peers_answer(self.locator.address)
            return is_tried and self.locator.reach(remembered.server.address) is not None
        return is_private(self.locator.address)

    def _give_up_guess(self) -> list[UplinkEffect]:
        """No RTR has answered through the presumed translator: there may be none."""
        if self.state is not State.REGISTERING or self.seen is not None:
            return []
        self.relays.stop()
        return self._to(State.PROBING)

    def _is_beyond(self, seen: Seen) -> bool:
        return seen.server.address.version != self._family

    @property
    def _family(self) -> int:
        return self.locator.address.version

    def _watch_checksums(self, rtr: IpAddress, now: float) -> list[UplinkEffect]:
        """IPv6 forbids what is asked (RFC 8200, 8.1), on the way to a translator as well."""
        return [*self._checksums.on_rtr(rtr, now)] if self._family == 4 else []

    def _reserve(self) -> list[IpAddress]:
        return [rtr for rtr in self.choice.offered if rtr != self.choice.current]

    def _judge(self, seen: Seen, now: float) -> list[UplinkEffect]:
        before, self.seen, self.is_unserved = self.seen, seen, False
        self._patience_ends_at = self._unanswered_since = None
        wants_relay = self.reach is Reach.TRANSLATED or self.is_filtered or self.cut.is_on or self._config.prefers_rtr
        is_hidden = is_private(self.locator.address) or self.is_translated
        if self.reach is Reach.UNKNOWN:
            wants_relay = wants_relay or is_hidden
        self._ask_at = now + (LISPERS_ASK_S if wants_relay and seen.dialect is Dialect.LISPERS else seen.ttl_s)
        effects: list[UplinkEffect] = []
        if before is None or (before.address, before.port) != (seen.address, seen.port):
            effects.append(Event("natt", self._fields()))
        if wants_relay and not seen.rtrs and (self.reach is Reach.TRANSLATED or is_hidden):
            return effects + self._strand(now)
        wants_relay = wants_relay and bool(seen.rtrs)
        if not wants_relay:
            if self.state is not State.DIRECT:
                self._leave_rtrs()
            return effects + self._to(State.DIRECT)
        if seen.dialect is Dialect.LISPERS:
            self.relays.stop()
            self.data_way.stop()
            effects += self.punches.start(seen.rtrs, self._punch_interval_s(), now)
            return [*effects, *self._to(State.RELAYED), *self._watch_checksums(self.rtrs[0], now)]
        self.punches.stop()
        self.choice.on_offered(seen.rtrs)
        if self.state is not State.RELAYED or self.relays.rtr != self.choice.current:
            effects += [*self._to(State.REGISTERING), *self.on_life_sign(now)]
        elif before is not None and (before.address, before.port) != (seen.address, seen.port):
            effects += self._again(now)
        return effects

    def _leave_rtrs(self) -> None:
        self.relays.stop()
        self.punches.stop()
        self._checksums.stop()
        self.data_way.stop()

    def _punch_interval_s(self) -> float:
        longest = TRAITS[Dialect.LISPERS].longest_keepalive_s
        return interval_for(self.lifetime, self._config.keepalive_s, longest)

    def _strand(self, now: float) -> list[UplinkEffect]:
        assert self.seen is not None
        self._leave_rtrs()
        self._ask_at = now + ASK_AGAIN_S
        effects = self._to(State.STRANDED)
        why = "the Map-Server names no RTR that can be used from here"
        if self.seen.has_untrusted_rtrs:
            why = (
                "the RTRs of an unauthenticated Info-Reply are not trusted: name them in the configuration (natt: rtrs)"
            )
        return [*effects, Event("natt-stranded", {**self._fields(), "text": why})]

    def _asked(self, effects: list[UplinkEffect], now: float) -> list[UplinkEffect]:
        """Apply the result of the Info-Request."""
        if any(isinstance(effect, AskFailed) for effect in effects):
            # A working uplink stays as it is: only one without any result falls back.
            self.is_unserved = self.seen is None and self.state is State.PROBING
            self._ask_at = now + self._ask_pause_s(now)
        return effects

    def _ask_pause_s(self, now: float) -> float:
        if self.state is not State.PROBING or not self._exchange.is_silent:
            return ASK_AGAIN_S  # registers ask, or the server answers those
        if self._unanswered_since is None:
            self._unanswered_since = now
        return longest_wait_s(now - self._unanswered_since, ASK_BEYOND_S if self._needs_translator else ASK_AGAIN_S)

    def _on_return(self, now: float) -> list[UplinkEffect]:
        """The RTR answers. After an outage what is between us and the Internet may be something else."""
        was_failed, self.has_failed, self._is_cut_off = self.has_failed, False, False
        return self._look_again(now) if was_failed else []

    def _look_again(self, now: float) -> list[UplinkEffect]:
        """Ask how the Map-Server sees us now."""
        return [] if self._exchange.is_asking else self._asked(self._exchange.start(now), now)

    def rename(self) -> None:
        """The RTR in use sends to an outside place that we have lost: under another name it learns the current one.

        Open Overlay Router's RTR finds that place by xTR-ID and private address, and never changes it.
        """
        self.relays.rename()

    def on_shut(self, now: float) -> list[UplinkEffect]:
        """No other uplink can take the data that does not get to the RTR in use: another RTR may, each of them once."""
        rtr, untried = self.choice.current, set(self.choice.offered) - self._left_rtrs - {self.choice.current}
        if rtr is None or not untried:
            return []
        self._left_rtrs.add(rtr)
        return self.fail_over(now)

    def fail_over(self, now: float) -> list[UplinkEffect]:
        """The RTR in use does not work: use the next one."""
        self.deafness.forget()
        failed, self.has_failed = self.choice.current, True
        after = self.choice.on_failed()
        fields = {**self._fields(), "rtr": str(failed), "next": str(after) if after is not None else None}
        effects: list[UplinkEffect] = [] if self._is_cut_off else [Event("rtr-failed", fields)]
        if after is not None:
            return effects + self._to(State.REGISTERING)  # registered as soon as the record names the new one
        # All have failed, so the network may be the cause. A new list may name others; the old ones get another chance.
        self.choice.on_offered(self.choice.offered)
        # A NAT may translate this very flow to an address that is gone, for as long as we send: try another flow.
        other = DataPort.EPHEMERAL if self.relays.data_port is DataPort.FIXED else DataPort.FIXED
        self.relays.data_port = self.data_way.data_port = other
        effects += self.relays.on_timer(now)
        effects += self._to(State.REGISTERING)
        if not self._is_cut_off:
            self._is_cut_off = True
            effects += self._look_again(now)
        return effects

    def _fields(self) -> dict[str, str | int | float | bool | list[str] | None]:
        seen = self.seen
        return {
            "rloc": str(self.locator.address),
            "interface": self.locator.interface,
            "reach": self.reach.value,
            "seen_as": f"{seen.address} {seen.port}" if seen and seen.address else None,
            "dialect": seen.dialect.value if seen else None,
            "rtrs": [str(rtr) for rtr in seen.rtrs] if seen else [],
        }

    def _to(self, new: State) -> list[UplinkEffect]:
        if new is self.state:
            return []
        assert new in TRANSITIONS[self.state], (self.state, new)
        old, self.state = self.state, new
        rtr = None if self.choice.current is None else str(self.choice.current)
        fields = {"rloc": str(self.locator.address), "from": old.value, "to": new.value, "rtr": rtr}
        return [Event("natt-state", fields)]
