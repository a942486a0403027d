"""NAT traversal of a whole node: one machine per address of an interface, one plan for all of them. Pure.

Every `on_*` says what happened and returns effects in order; a changed plan comes first. The node follows the plan:
`direct` for its ordinary registrations, `record_locators` in every record, `uplinks` in the datapath.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from lispmob.control.map_version import OwnMapVersion
from lispmob.errors import MalformedMessage
from lispmob.natt.arrival import DataControl
from lispmob.natt.dialect import Dialect
from lispmob.natt.effect import (
    AskAgain,
    AskFailed,
    DataPort,
    NattEffect,
    PlanChanged,
    RelayConfirmed,
    ServiceFound,
    UplinkEffect,
)
from lispmob.natt.info_exchange import Seen
from lispmob.natt.keepalive import Lifetime
from lispmob.natt.machine import UplinkMachine
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.plan import NattPlan
from lispmob.natt.server_knowledge import ServerKnowledge
from lispmob.natt.shortcuts import Ground, Shortcuts
from lispmob.natt.state import State
from lispmob.natt.translation import Translation
from lispmob.natt.union import left, plan, record_for
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count, Event, EventValue, WayAnswered
from lispmob.protocol.locator_set import NEVER, LocalLocator, Place
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import ControlMessage, decode_control
from lispmob.wire.record import MappingRecord

REFUSED_EVENT_S: Final = 60.0  # ours: forged messages must not fill the log
MAX_KNOWN_NATS: Final = 16  # ours: public addresses whose binding lifetime is kept


class Traversal:
    """All uplinks of a node. `new_nonce` is unpredictable, `next_nonce` the node's counter for Map-Registers."""

    def __init__(
        self,
        config: NattConfig,
        *,
        new_nonce: Callable[[], int],
        next_nonce: Callable[[], int],
        asks: Callable[[LocalLocator], bool] = lambda _: True,
        next_version: Callable[[], int] | None = None,
        peers_answer: Callable[[IpAddress], bool] = lambda _: False,
    ) -> None:
        """`asks`: whether this locator, without an RTR, has had answers from the mapping system.

        `peers_answer`: whether this address, without an RTR, has had answers from peers.
        """
        self.config = config
        self.plan = NattPlan()
        self._new_nonce = new_nonce
        self._next_nonce = next_nonce
        self._asks = asks
        self._peers_answer = peers_answer
        self._version = OwnMapVersion(next_version)
        self._knowledge = ServerKnowledge(config.mode)
        self._machines: dict[Place, UplinkMachine] = {}
        self.translation = Translation()
        self._remembered: Seen | None = None
        self._lifetimes: dict[IpAddress, Lifetime] = {}  # by the public address of the NAT
        self._refused_events = TokenBucket(REFUSED_EVENT_S)
        self.shortcuts = Shortcuts(config, new_nonce=new_nonce)

    @property
    def machines(self) -> tuple[UplinkMachine, ...]:
        """One per place, most preferred first, for display."""
        return tuple(sorted(self._machines.values(), key=lambda one: (one.locator.priority, -one.locator.weight)))

    @property
    def outside(self) -> tuple[LocalLocator, Seen] | None:
        """The best uplink with an RTR, and our outside control port there; None without one."""
        working = (machine for machine in self.machines if machine.state is State.RELAYED)
        known = ((machine.locator, machine.seen) for machine in working)
        return next(((own, seen) for own, seen in known if seen is not None and seen.address is not None), None)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        times = [self.shortcuts.wake_at(), *(machine.wake_at() for machine in self._machines.values())]
        return min((at for at in times if at is not None), default=None)

    def on_locators(self, locators: Sequence[LocalLocator], now: float) -> list[NattEffect]:
        """Our addresses have changed. A machine lives as long as its address is on its interface."""
        wanted = {locator.place: locator for locator in locators}
        self.translation.on_locators(locators)
        effects: list[UplinkEffect] = []
        for place, machine in list(self._machines.items()):
            kept = wanted.get(place)
            is_given_up = kept is not None and kept.priority == NEVER and not machine.is_direct
            if kept is None or _is_another(kept, machine.locator) or is_given_up:
                machine.on_down()
                del self._machines[place]
            else:
                machine.locator = kept  # only its priority or weight may differ
        for locator in locators:
            machine = self._machines.get(locator.place) or self._make(locator)
            self._machines[locator.place] = machine
            if machine.state is State.IDLE and locator.priority < NEVER and self.config.mode != "off":
                effects += machine.on_up(now, self._remembered)
        return self._route(effects, now)

    def on_datagram(
        self, datagram: Datagram, now: float, message: ControlMessage | None = None
    ) -> list[NattEffect] | None:
        """A datagram on the control port; None when it is not about NAT traversal, and belongs to the node.

        `message`: the decoded message, if it was decoded already.
        """
        datagram, kind = self.translation.inward(datagram), datagram.payload[:1]
        if not kind or kind[0] >> 4 not in (2, 4, 7):
            return None
        try:
            message = message or decode_control(datagram.payload)
        except MalformedMessage as malformed:
            return self._route([Count(malformed.counter)], now) if kind[0] >> 4 == 7 else None
        if isinstance(message, InfoReply):
            local, port = self._machine_at(datagram.destination, datagram.ifindex), datagram.other_port
            return self._route(self._on_info_reply(message, datagram.payload, local, datagram.source, now, port), now)
        if isinstance(message, MapReply) and message.is_probe:
            is_ours = any(machine.on_map_reply(message, now) for machine in self._machines.values())
            return self._route([], now) if is_ours else None
        if isinstance(message, MapReply):
            found = self.shortcuts.on_map_reply(message, now)
            return None if found is None else self._route(found, now)
        if isinstance(message, MapNotify):
            for machine in self._machines.values():
                if (tried := machine.on_plain_map_notify(message, datagram.payload, now)) is not None:
                    return self._route(tried, now)
        if isinstance(message, MapNotify) and any(
            machine.relays.expects(message.nonce) for machine in self._machines.values()
        ):
            # Through an RTR it comes in a data packet; this one did not, and says nothing about the RTR.
            return self._route([Count("rx_policy")], now)
        return None

    def on_data_control(
        self, arrival: DataControl, now: float, message: ControlMessage | None = None
    ) -> list[NattEffect] | None:
        """A control message on the data port; None when it is the node's, such as a probe of an RTR."""
        arrival = self.translation.inward_data(arrival)
        try:
            message = message or decode_control(arrival.payload)
        except MalformedMessage as malformed:
            return self._route([Count(malformed.counter)], now)
        machine = self._machine_at(arrival.outer_destination, arrival.ifindex)
        if isinstance(message, InfoReply):
            source = arrival.outer_source
            return self._route(self._on_info_reply(message, arrival.payload, machine, source, now), now)
        is_from_rtr = machine is not None and arrival.outer_source in machine.rtrs
        if (
            isinstance(message, MapRequest)
            and message.is_probe
            and arrival.source_port == DATA_PORT
            and not is_from_rtr
        ):
            return self._route(self._on_probed(machine, message, arrival, now), now)  # an RTR may use this port too
        if isinstance(message, MapReply) and message.is_probe:
            found = self.shortcuts.on_probe_reply(message, arrival, now)
            if found is not None:
                return self._route(found, now)
        if machine is None or not is_from_rtr:
            return self._route(self._refuse(arrival, now), now)
        if isinstance(message, MapNotify):
            return self._route(self._on_data_map_notify(machine, message, arrival, now), now)
        if isinstance(message, MapRequest) and message.is_smr and not message.is_probe:
            is_about_data = arrival.outer_source_port == DATA_PORT
            return self._route(self._on_poke(machine, message, now, is_about_data=is_about_data), now)
        return None

    def on_published(self, record: MappingRecord, now: float) -> list[NattEffect]:
        """The Map-Server says where an EID-Prefix is now, without having been asked."""
        return self._route(self.shortcuts.on_moved(record, now), now)

    def on_timer(self, now: float) -> list[NattEffect]:
        """A deadline may have passed. Early and late calls are both harmless."""
        effects = [effect for uplink in self.machines for effect in uplink.on_timer(now)]
        for machine in self.machines:
            is_explained = machine.data_way.fault is not None  # nothing comes back because nothing gets there
            if machine.deafness.is_due(now) and machine.state is State.RELAYED and not is_explained:
                effects += self._on_deaf(machine, now)
            if machine.is_shut and machine not in left(self.machines):
                effects += machine.on_shut(now)
        return self._route([*effects, *self.shortcuts.on_timer(now)], now)

    def on_heard(self, pairs: Iterable[tuple[IpAddress, IpAddress]], now: float) -> list[NattEffect]:
        """Data came to these addresses of ours, each with its outer source."""
        heard, effects = list(self.translation.heard(pairs)), list[UplinkEffect]()
        self.shortcuts.on_heard(source for _, source in heard)
        for machine in self._machines.values():
            sources = {source for local, source in heard if local == machine.locator.address}
            if sources.intersection(machine.rtrs):
                effects += [*machine.on_heard(now), *machine.on_life_sign(now)]
            elif sources:
                effects += machine.on_doubted_in_the_open(now, is_heard=True)
        return self._route(effects, now)

    def on_destination(self, source: IpAddress, eid: EidPrefix, now: float) -> list[NattEffect]:
        """Packets to this host go through an RTR: look for a direct path."""
        return self._route(self.shortcuts.on_destination(source, eid, now), now)

    def on_map_server_alive(self, address: IpAddress, now: float, *, tries: int = 1) -> list[NattEffect]:
        """A Map-Server confirmed an ordinary registration, at this try."""
        effects: list[UplinkEffect] = []
        for server in self.config.map_servers:
            if server.address != address:
                continue
            has_returned = self._knowledge.was_long_silent(server)
            if self._knowledge.on_alive(server, now, is_clear=tries == 1):
                text = "this Map-Server knows no NAT traversal: registered in the ordinary way"
                effects.append(Event("natt-absent", {"map_server": str(address), "text": text}))
            for machine in self._machines.values():
                machine.on_alive(server, now, has_returned=has_returned)
        return self._route(effects, now)

    def on_witness_wanted(self, now: float) -> list[NattEffect]:
        """Uplinks without an RTR are silent: check whether the others still reach theirs."""
        relayed = [machine for machine in self.machines if machine.state is State.RELAYED]
        return self._route([effect for machine in relayed for effect in machine.on_witness_wanted(now)], now)

    def on_outside_doubted(self, now: float) -> list[NattEffect]:
        """An answer to our outside control port is missing: the NAT may have given it another place."""
        relayed = [machine for machine in self.machines if machine.state is State.RELAYED]
        return self._route([effect for machine in relayed for effect in machine.on_outside_doubted(now)], now)

    def on_refused_here(self, rtr: IpAddress, now: float) -> None:
        """This host's own firewall stopped what was meant for this RTR."""
        for machine in self._machines.values():
            if machine.relays.rtr == rtr:
                machine.relays.on_refused_here(now)

    def on_evidence(self, now: float) -> list[NattEffect]:
        """The result of `asks` has changed."""
        return self._route([], now)

    def on_stalled(self, address: IpAddress, now: float, ifindex: int = 0) -> list[NattEffect]:
        """Data on this uplink has been unanswered for longer than a round trip."""
        machine = self._machine_at(address, ifindex)
        stalled = machine.on_stalled(now) if machine is not None else []
        return self._route([*self.shortcuts.on_stalled(address, now), *stalled], now)

    def may_relay(self, address: IpAddress) -> bool:
        """True for an address in the open that an RTR could take data from."""
        machine = self._machine_at(address, 0)
        return machine is not None and bool(machine.spare_rtrs)

    def on_doubted_in_the_open(self, address: IpAddress, now: float) -> list[NattEffect]:
        """Data from this address, which has no RTR, is unanswered."""
        machine = self._machine_at(address, 0)
        return self._route(machine.on_doubted_in_the_open(now) if machine is not None else [], now)

    def on_unheard(self, address: IpAddress, now: float) -> list[NattEffect]:
        """A peer answers probes from this address, and gets no data from it."""
        machine = self._machine_at(address, 0)
        return self._route(machine.on_unheard(now) if machine is not None else [], now)

    def on_lifetime(self, place: Place, lifetime: Lifetime, now: float) -> list[NattEffect]:
        """The binding lifetime behind this uplink was measured; the NAT is recognised by its public address."""
        machine = self._machines.get(place)
        if machine is None:
            return []
        machine.on_lifetime(lifetime)
        if machine.seen is not None and machine.seen.address is not None:
            self._lifetimes[machine.seen.address] = lifetime
            while len(self._lifetimes) > MAX_KNOWN_NATS:
                del self._lifetimes[next(iter(self._lifetimes))]
        return self._route([], now)

    def on_filtered(self, place: Place, is_filtered: bool, now: float) -> list[NattEffect]:
        """The result of the firewall probe."""
        machine = self._machines.get(place)
        return self._route(machine.on_filtered(is_filtered, now) if machine is not None else [], now)

    def on_slept(self, now: float) -> list[NattEffect]:
        """The host was suspended: every binding may be gone, so every uplink starts over."""
        old = [machine.locator for machine in self.machines]
        for machine in self._machines.values():
            machine.on_down()
        self._machines.clear()
        return self.on_locators(old, now)

    def on_config(self, config: NattConfig, now: float) -> list[NattEffect]:
        """The configuration was reloaded; if anything changed, every uplink starts over."""
        if config == self.config:
            return []
        if config.mode != self.config.mode or config.map_servers != self.config.map_servers:
            self._knowledge = ServerKnowledge(config.mode)
            self._remembered = None
        self.config = config
        return self.on_slept(now)

    def on_shutdown(self, now: float) -> list[NattEffect]:
        """The node stops: withdraw registrations through RTRs; one uplink is enough."""
        relayed = [
            machine for machine in self.machines if machine.state is State.RELAYED and machine.relays.rtr is not None
        ]
        effects = [effect for uplink in relayed[:1] for effect in uplink.relays.withdraw(now)]
        for machine in self._machines.values():
            machine.on_down()
        self._machines.clear()
        return self._route(effects, now)

    def _make(self, locator: LocalLocator) -> UplinkMachine:
        return UplinkMachine(
            locator,
            self.config,
            self._knowledge,
            new_nonce=self._new_nonce,
            next_nonce=self._next_nonce,
            peers_answer=self._peers_answer,
        )

    def _machine_at(self, address: IpAddress, ifindex: int) -> UplinkMachine | None:
        """The machine of an address, on this interface if several have it."""
        exact = self._machines.get((address, ifindex))
        return exact or next(
            (machine for machine in self._machines.values() if machine.locator.address == address), None
        )

    def _on_info_reply(
        self, reply: InfoReply, raw: bytes, first: UplinkMachine | None, source: IpAddress, now: float, port: int = 0
    ) -> list[UplinkEffect]:
        """The uplink whose request it answers; by address first, because a host may have its own route back."""
        order = [first] if first is not None else []
        order += [machine for machine in self._machines.values() if machine is not first]
        for uplink in order:
            was_known = uplink.seen is not None
            effects = uplink.on_info_reply(reply, raw, source, now, by_other_port=port != 0)
            if effects is None:
                continue
            if uplink.seen is not None and not any(isinstance(effect, Count) for effect in effects):
                one, seen = uplink.locator, uplink.seen
                answered = WayAnswered(one.address, one.ifindex, seen.rtt_s, seen.server.address)
                effects = [answered, *self._learn(uplink, uplink.seen, now, is_first=not was_known), *effects]
            return effects
        return [Count("rx_nonce")]

    def _learn(self, one: UplinkMachine, seen: Seen, now: float, *, is_first: bool) -> list[UplinkEffect]:
        if seen.rtrs:
            self._remembered = seen
        if is_first and seen.address is not None and seen.address in self._lifetimes:
            one.on_lifetime(self._lifetimes[seen.address])
        is_news = self._knowledge.on_answered(seen.server, seen.dialect)
        effects: list[UplinkEffect] = [ServiceFound(seen.server.address)] if is_news else []
        return effects + one.on_doubted(now) if self._knowledge.wants_proof(seen.server) else effects

    def _on_data_map_notify(
        self, machine: UplinkMachine, notify: MapNotify, arrival: DataControl, now: float
    ) -> list[UplinkEffect]:
        """NAT-traversal draft, step 6: check all addresses before the contents."""
        servers = {server.address for server in self.config.map_servers}
        is_right = (
            arrival.outer_source == machine.relays.rtr
            and arrival.outer_source_port == CONTROL_PORT
            and (arrival.source_port, arrival.destination_port) == (CONTROL_PORT, CONTROL_PORT)
            and arrival.source in servers
            and arrival.destination == machine.name
        )
        return machine.on_map_notify(notify, arrival.payload, now) if is_right else self._refuse(arrival, now)

    def _on_poke(
        self, machine: UplinkMachine, request: MapRequest, now: float, *, is_about_data: bool
    ) -> list[UplinkEffect]:
        """The RTR received packets from us and does not know us, or not by this address: it requests a register."""
        asked = [prefix for record in request.records if (prefix := record.eid_prefix) is not None]
        if not any(eid.covers(prefix) for eid in self.config.eids for prefix in asked):
            return [Count("rx_policy")]
        # It asked one uplink, but may have lost another one.
        others = [uplink for uplink in self.machines if uplink is not machine and uplink.state is State.RELAYED]
        doubted = [effect for other in others for effect in other.on_witness_wanted(now)] if asked else []
        return [Count("rx_rtr_poke"), *machine.on_poked(now, is_about_data=is_about_data), *doubted]

    def _on_probed(
        self, machine: UplinkMachine | None, request: MapRequest, arrival: DataControl, now: float
    ) -> list[UplinkEffect]:
        """An answered peer may send data, so only an uplink that accepts it may answer."""
        if machine is None or (machine.rtrs and not (self.config.direct and machine.dialect is Dialect.E19)):
            return self._refuse(arrival, now)
        return self.shortcuts.on_probed(request, arrival, self.plan, now)

    def _on_deaf(self, one: UplinkMachine, now: float) -> list[UplinkEffect]:
        """Another RTR may work; with this one alone, or without certainty, the uplink takes another name."""
        rtr, has_others = one.choice.current, len(one.choice.offered) > 1
        if one.relays.is_at_hub:
            return one.relays.again(now)
        if not one.deafness.is_sure:
            one.rename()
            return []
        text = f"RTR {rtr} confirms our registers and passes nothing on: it may not take our new place behind the NAT"
        fields: dict[str, EventValue] = {"rloc": str(one.locator.address), "rtr": str(rtr), "text": text}
        if not has_others:
            one.rename()  # this changes the record, which is registered at once
        return [Event("rtr-deaf", fields), *(one.fail_over(now) if has_others else ())]

    def _ground(self) -> Ground | None:
        """The one uplink that sends all packets, if it is behind a NAT and direct paths are on."""
        if not self.config.direct or self.plan.asks_mapping_system:
            return None
        working = [
            machine for machine in self.machines if machine.state is State.RELAYED and machine.locator.priority < NEVER
        ]
        best = [machine for machine in working if machine.locator.priority == working[0].locator.priority]
        if len(best) != 1 or best[0].dialect is not Dialect.E19 or best[0].is_translated:
            return None
        if best[0].data_port is not DataPort.FIXED:  # peers are asked from port 4341
            return None
        one, seen = best[0], best[0].seen
        return Ground(one.locator, seen, one.rtrs) if seen is not None and seen.address is not None else None

    def _refuse(self, arrival: DataControl, now: float) -> list[UplinkEffect]:
        effects: list[UplinkEffect] = [Count("data_inner")]
        if self._refused_events.take(now):
            where = f"{arrival.outer_source}:{arrival.outer_source_port}"
            text = f"a control message in the data plane from {where}, which is not one of our RTRs"
            effects.append(Event("natt-refused", {"rloc": str(arrival.outer_destination), "text": text}))
        return effects

    def _route(self, effects: Iterable[UplinkEffect], now: float) -> list[NattEffect]:
        """Route effects for other machines to them, then compute the plan and register by it."""
        out: list[NattEffect] = []
        out += self._sort(effects, now)
        new = plan(self.machines, self.config, self._asks)
        new = replace(new, map_version=self._number(new, now))
        if new != self.plan:
            self.plan = new
            out.insert(0, PlanChanged(new))
        out += self._sort(self.shortcuts.on_ground(self._ground(), self.config), now)
        registers: list[UplinkEffect] = []
        for machine in self.machines:
            said = record_for(machine, self.machines, self.config)
            registers += machine.on_record(*said, new.map_version, now)
        return self.translation.outward(out + self._sort(registers, now))

    def _number(self, new: NattPlan, now: float) -> int:
        """The Map-Version Number of what our registers say: by an RTR they name more than the plan until it answers."""
        relayed = [machine for machine in self.machines if machine.state in (State.REGISTERING, State.RELAYED)]
        said = tuple(record_for(machine, self.machines, self.config) for machine in relayed)
        content = said or (new.record_locators, new.eid_records)
        if not said and not new.record_locators:
            return self._version.number
        config = self.config
        return self._version.on_records(content, config.record_ttl_min, now, is_wanted=config.map_versions)

    def _sort(self, effects: Iterable[UplinkEffect], now: float) -> list[NattEffect]:
        waiting = deque(effects)
        out: list[NattEffect] = []
        while waiting:
            match waiting.popleft():
                case ServiceFound():
                    for machine in self.machines:
                        waiting.extend(machine.on_service_found(now))
                case RelayConfirmed() as done:
                    fields: dict[str, EventValue] = {
                        "eid": str(done.eid),
                        "map_server": str(done.map_server),
                        "rtr": str(done.rtr),
                        "tries": done.tries,
                        "rtt_ms": round(done.rtt_s * 1000, 3),
                    }
                    if done.problem:
                        fields["shared"] = done.problem
                    out += [
                        WayAnswered(done.local.address, done.local.ifindex, done.rtt_s),
                        Event("registered", fields),
                    ]
                case AskAgain(address):
                    if (doubted := self._machine_at(address, 0)) is not None:
                        waiting.extend(doubted.on_doubted(now))
                case AskFailed():
                    pass
                case other:
                    out.append(other)
        return out


def _is_another(new: LocalLocator, old: LocalLocator) -> bool:
    """True when what stands between this address and the Internet, or what RTRs call it, is something else now."""
    return (new.alias, new.nat64) != (old.alias, old.nat64)
