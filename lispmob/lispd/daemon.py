"""lispd: the composition root of the mobile node. Builds the parts, owns the loop and the signals; decides nothing.

Three things drive it:

- The network changes: the monitor reports the difference between two states to `_on_change`. `handover.py` makes steps
  of it, and `_take` carries them out in the same turn of the event loop: new uplinks for the datapath, Map-Registers
  and SMRs, then marks and the kernel's tables.
- A control message arrives: `_on_received` passes it to the core (`node/node.py`).
- The datapath reports a packet without a mapping, a silent locator or the like: `_on_punt` passes that to the core.

The core answers with effects, such as a message to send or a mapping to install; `_perform` carries them out.
`_on_time` runs the core's timers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lispmob import logs
from lispmob.api import sd_notify
from lispmob.api.schema import Reloaded
from lispmob.api.server import ControlServer
from lispmob.config.node import NodeFile
from lispmob.control.node_config import NodeConfig
from lispmob.control.nonce_doubt import NonceDoubt
from lispmob.control_port.icmp_errors import Unreachable
from lispmob.control_port.own_firewall import OwnFirewall
from lispmob.control_port.port import ControlPort, Received
from lispmob.datapath import model
from lispmob.datapath.engine import Engine
from lispmob.datapath.sealing import can_seal
from lispmob.errors import ConfigError, LispError
from lispmob.garbage import GarbageRules
from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.gateway_trials import Gateway, gateways_of
from lispmob.iface_monitor.monitor import Monitor
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy
from lispmob.lispd import assembly, handover, reloading
from lispmob.lispd.alarm import Alarm
from lispmob.lispd.device_mtu import device_mtu
from lispmob.lispd.flows.flows import Flows
from lispmob.lispd.gateway_addresses import GatewayAddresses, names_gateways
from lispmob.lispd.identity import Identity
from lispmob.lispd.lingering import Lingering
from lispmob.lispd.lisp_sec import lisp_sec_problems, lisp_sec_tools
from lispmob.lispd.local_mappings import LocalMappings
from lispmob.lispd.marks import with_mask
from lispmob.lispd.native_routes import NativeRoutes
from lispmob.lispd.near import near
from lispmob.lispd.node_maker import make_node
from lispmob.lispd.preparing import prepared
from lispmob.lispd.punts import hand_over
from lispmob.lispd.register_nonces import RegisterNonces
from lispmob.lispd.report.control_cost import ControlCost
from lispmob.lispd.report.evidence import is_relayed
from lispmob.lispd.report.handovers import Direction, HandoverJournal
from lispmob.lispd.report.problem_watch import ProblemWatch
from lispmob.lispd.report.publisher import Publisher
from lispmob.lispd.resolving import Resolving
from lispmob.lispd.sealing import session_keys
from lispmob.lispd.sealing.seal_state import has_static_key, replace_static_key, seal_tools
from lispmob.lispd.sending import sending_uplinks
from lispmob.lispd.tasks.desired_kernel import kernel_state, mark_routing
from lispmob.lispd.tasks.desktop import Desktop, start_monitor
from lispmob.lispd.tasks.gateway_checks import GatewayChecks
from lispmob.lispd.tasks.kernel_task import KernelTask
from lispmob.lispd.tasks.measuring import Measuring
from lispmob.lispd.tasks.naming import Naming
from lispmob.lispd.tasks.refreshing import Refreshing
from lispmob.lispd.tasks.runs import Runs
from lispmob.lispd.tasks.steering import Steering
from lispmob.lispd.translators import Translators
from lispmob.lispd.views.believing import Believing
from lispmob.lispd.views.mapping_feed import MappingFeed
from lispmob.lispd.views.views import Views
from lispmob.lispd.warm_up import rehearse_entries, warm_up
from lispmob.mh.kernel import cgroups
from lispmob.mh.kernel.chain_watch import ChainWatch
from lispmob.mh.plan import KernelState
from lispmob.natt.effect import NattEffect, PlanChanged, SendFromDataPort
from lispmob.node.node import NodeEffect
from lispmob.node.sealed_node import SealedNode
from lispmob.problems.problem import Problem
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    AskForEcho,
    DropPending,
    Event,
    InstallMapping,
    MappingChanged,
    MappingWanted,
    NameResolved,
    PreparedSent,
    RemoveMapping,
    SendControl,
    UplinkChanged,
    UplinksRanked,
    UsePathMtu,
    UsePrepared,
    UseStatusBits,
    WatchForSilence,
)
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import CONTROL_PORT

REST_S: Final = 5.0  # ours: between checks whether buffers are needed, whenever another event wakes us
WITHDRAWAL_S: Final = 0.3  # ours: how long a stop waits for the Map-Notify of the withdrawal

log = logging.getLogger("lispd")


class Daemon:
    """One running node. `await run()` returns after stop(). Its configuration has a mask (marks.py)."""

    def __init__(self, path: Path, file: NodeFile) -> None:
        self.path = path
        self.file = file
        self.started_wall = time.time()
        self.journal = HandoverJournal()
        self.state_refusals: list[str] = []
        self._reader = reloading.Reader()
        self.reload = reloading.Seldom(self._reload)
        self.reload_on_signal = reloading.OnSignal(self.reload)
        self.uplinks: tuple[Uplink, ...] = ()
        self.network = NetworkState()
        self.is_starting = True
        self.is_stopping = False
        self.names = Resolving(file, on_change=self._on_servers, on_problems=self._on_problems)
        self.translators = Translators(self._update_locators)
        self._loop = asyncio.get_running_loop()
        self.now: Final = self._loop.time  # monotonic seconds, the core's clock
        self._rests_at = 0.0
        self._stop = asyncio.Event()
        self._failure = ""
        self._alarm = Alarm(self._on_time)
        self._identity = Identity(file.register.xtr_id, file.state_dir, self.state_refusals.append)
        self._lisp_sec = None if file.log.record else lisp_sec_tools(file.state_dir)  # a recording contains no keys
        self._has_used_key = has_static_key(file.state_dir)
        is_sealing = can_seal() and not file.log.record
        self._seal = seal_tools(file.state_dir, self.state_refusals.append) if is_sealing else None
        if file.security.seal == "require" and self._seal is None:
            raise ConfigError(
                f"{path}: security.seal: 'require' cannot be kept: the datapath of this build cannot seal"
            )
        nonces = self._nonces = RegisterNonces(file.state_dir)
        self._nonce_doubt = NonceDoubt()
        self.node, self.tape = make_node(
            self._node_config(), nonces, is_recorded=file.log.record, lisp_sec=self._lisp_sec, seal=self._seal
        )
        self.engine = Engine(assembly.engine_config(file))
        self.steering = Steering(self.engine, file.steering.to_policy(), on_problems=self._on_problems)
        self.runs = Runs(self.steering)
        self.flows = Flows(self.steering, self.node, self._ask_name)
        self.naming = Naming(self.node, self.flows.names)
        self.desktop = Desktop(self, Views(self), has_bus=file.dbus, clients=(self.naming.resolved,))
        self.own_firewall = OwnFirewall()
        self.problems = ProblemWatch(self, self.desktop.touch)
        self.believing = Believing()
        self._garbage = GarbageRules()
        self.cost = ControlCost(lambda: self.uplinks, self._loop.time())
        self.control = ControlPort(
            self._on_received,
            on_unreachable=self._on_unreachable,
            is_noise=self._is_noise,
            on_sent=self._on_sent,
        )
        self.monitor: Monitor | None = None
        self.local_mappings = LocalMappings()
        server = self.server = ControlServer(Views(self), file.control.socket, group=file.control.group)
        self._mapping_feed = MappingFeed(self, server.publish_mapping, lambda: server.has_mapping_readers)
        refreshing = Refreshing(file.control.socket.parent, self._loop.time)
        self._gateway_checks = GatewayChecks(self._present_gateways)
        faces = (self.server.publish, self.desktop.publish, refreshing.on_event, self._gateway_checks.on_event)
        self._publisher = Publisher(self.journal, self.problems, faces)
        self._kernel = KernelTask(self._kernel_state, self._on_problems, self._on_device_gone)
        self._chains = ChainWatch(self._repair, self._kernel.on_marks, lambda: self._kernel.has_mark_conflict)
        self._natives = NativeRoutes()
        self._lingering = Lingering(self._kernel.touch_after_move)
        self._gateways = GatewayAddresses(self._on_gateways)
        self.measuring = Measuring(self.node.traversal, self.control.send, self._on_measured, self._kernel.touch)
        self._has_looked = False
        self._engine_uplinks: tuple[model.Uplink, ...] | None = None
        self._near: model.Near | None = None
        # Of the move under way: the uplinks before it, what could not be sent so far, when packets left by the new ones
        self._left: tuple[str, ...] = ()
        self._unsent = 0
        self._moved_at = 0.0

    @property
    def policy(self) -> UplinkPolicy:
        """Which interfaces may be uplinks."""
        return assembly.uplink_policy(self.file, self.nm_state, self.desktop.outlasted)

    @property
    def nm_state(self) -> ManagerState:
        """NetworkManager's view, and the gateways in the kernel."""
        return self._gateways.onto(self.desktop.nm_state)

    @property
    def tun_mtu_bytes(self) -> int:
        """The MTU of our device for the current uplinks."""
        return device_mtu(self.file, self.uplinks, self.node.plan)

    def replace_static_key(self) -> None:
        """Replace our static key: register it with the Map-Servers first, then inform peers."""
        assert self._seal is not None
        self._seal = replace_static_key(self.file.state_dir, self._seal)
        now = self._loop.time()
        self.perform(self.node.on_config(self._node_config(), now))
        if isinstance(self.node, SealedNode):
            self.perform(self.node.on_static_key(self._seal.static, now))

    @property
    def host_problems(self) -> tuple[Problem, ...]:
        """What this host does not allow in its kernel."""
        return (*self._kernel.problems, *self.steering.problems, *self.naming.problems, *lisp_sec_problems(self))

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def run(self) -> None:
        """Serve until stopped. Raises LispError when it cannot start, or not go on; the host is then as before."""
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self.is_starting = False
            self.problems.touch()
            # Objects that live until the end need no garbage collection in the middle of a move.
            self._garbage.start(is_quick=True)
            stack.callback(self._garbage.stop)
            sd_notify.ready(self.summary())
            rehearsed = warm_up(self._lisp_sec)
            await self.engine.tiers.switch(self.file.security.tier(self.file.datapath.tier))
            rehearse_entries(self.engine, rehearsed)
            self._on_punt()
            await self._stop.wait()
            self.is_stopping = True
            sd_notify.stopping()
            await self._withdraw()
        if self._failure:
            raise LispError(self._failure)
        log.info("stopped; the host's routes are as they were")

    def stop(self) -> None:
        """End run()."""
        self._stop.set()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        await self.server.start()
        stack.push_async_callback(self.server.close)
        stack.callback(self.problems.close)
        self.control.open()
        stack.callback(self.control.close)
        self.engine.open()
        stack.callback(self.engine.close)
        self.engine.addresses.set_guard(assembly.guarded(self.file))
        self.engine.liveness.use_echo_nonce(self.file.probing.echo_nonce)
        self.engine.liveness.report_large(True)
        self.engine.start()
        self._loop.add_reader(self.engine.fileno(), self._on_punt)
        stack.callback(self._loop.remove_reader, self.engine.fileno())
        self.control.start(self._loop)
        self.names.start()
        stack.callback(self.names.stop)
        stack.callback(self.translators.stop)
        stack.callback(self._alarm.cancel)
        stack.callback(self.measuring.close)
        # Reports the present state at once: the first Map-Register leaves in this call. A program that changes routing
        # rules may have changed ours too: `touch` checks, and repairs.
        self.monitor = await start_monitor(self.policy, self._on_change, self._kernel.touch)
        stack.callback(self._gateways.stop)
        stack.callback(self._gateway_checks.stop)
        stack.push_async_callback(self.monitor.stop)
        await self.desktop.start()
        stack.push_async_callback(self.desktop.stop)
        stack.push_async_callback(self._stop_kernel)
        await self._kernel.start()
        stack.push_async_callback(self.steering.stop)
        stack.push_async_callback(self.runs.stop)
        cgroups.remove_leftovers()
        await self.steering.start()
        self.flows.start(self.file)
        stack.callback(self.flows.stop)
        await self.naming.start(self.file)
        stack.push_async_callback(self.naming.stop)
        self._chains.start()
        stack.callback(self._chains.stop)
        if (every_s := sd_notify.watchdog_interval_s()) is not None:
            stack.callback(self._loop.create_task(sd_notify.keep_alive(every_s)).cancel)

    async def _withdraw(self) -> None:
        """Withdraw from the mapping system; best effort, for a short time."""
        effects = self.node.on_shutdown(self._loop.time())
        self._perform(effects)
        if any(isinstance(effect, SendControl | SendFromDataPort) for effect in effects):
            await asyncio.sleep(WITHDRAWAL_S)

    # --- inputs

    def _on_change(self, state: NetworkState, delta: NetworkDelta, since: float) -> None:
        self.desktop.check_clocks()
        self.network = state
        self._gateways.look(state, is_wanted=names_gateways(self.file))
        is_first, self._has_looked = not self._has_looked, True
        for step in handover.steps_of(delta, is_first=is_first):
            self._take(step, since)

    def _take(self, step: handover.Step, since: float) -> None:
        match step:
            case handover.ReportChanges(texts):
                self._publisher.say_first(texts)
            case handover.BeginMove():
                self._left, self._unsent = handover.ways(self.uplinks), self.engine.drops("out_")
                self.engine.liveness.mark_move()
            case handover.UseUplinks(uplinks):
                self.uplinks = uplinks
                self._use_uplinks()
            case handover.RefreshUplinks():
                self._use_uplinks()
                self._update_locators()
            case handover.EndMove():
                self._moved_at = self.now()
            case handover.UpdateNode():
                self._move()
                self.engine.liveness.repeat_last()
            case handover.NoteMove(reasons):
                began_wall = time.time() - (self.now() - since)
                self.journal.on_change(reasons, since, began_wall, self._left, self._unsent)
                self.journal.on_moved(self._moved_at, handover.ways(self.uplinks))
            case handover.Steer():
                self._steer()
            case handover.Linger(former):
                self._lingering.on_network(former, self.policy, self.network)
            case handover.KeepKernel():
                self._kernel.touch_after_move()
            case handover.UpdateDesktop():
                self.desktop.touch()
                self.names.on_uplinks()

    def on_nm_state(self, reasons: list[str], since: float) -> None:
        """NetworkManager's view has changed: evaluate the uplinks again, which can move before a link is gone."""
        assert self.monitor is not None, "the bus is listened to after the monitor has started"
        if self.policy != self.monitor.policy:
            self.monitor.set_policy(self.policy, reasons or ("NetworkManager sees the uplinks differently",), since)
        else:
            for reason in reasons:
                self._publisher.say(reason)
        self._update_locators()  # a metered uplink has another cost
        self._steer()

    def _present_gateways(self) -> frozenset[Gateway]:
        return frozenset().union(*gateways_of(self.network, self.uplinks).values())

    def _on_gateways(self) -> None:
        """A gateway has changed: interfaces may be in another network."""
        if self.monitor is not None:
            self.on_nm_state([], self._loop.time())

    def on_awake(self) -> None:
        """The machine was suspended: register again, trust nothing, and read the network again."""
        self._perform(self.node.on_slept(self._loop.time()))
        self.look_again()

    def look_again(self) -> None:
        """The network may have changed."""
        self._repair()
        self.names.on_uplinks()
        if self.monitor is not None:
            self._loop.call_soon(self.monitor.nudge)

    def _repair(self) -> None:
        """Our state in the kernel may have been flushed."""
        self._kernel.suspect()
        self.steering.repair()

    def _update_locators(self) -> None:
        self.problems.touch()
        self._perform(self.node.on_locators(self._locators(), self.now()))

    def _move(self) -> None:
        """The same for a move: what others wait for leaves before the traffic so far is reported, which SMRs need."""
        self._perform(self.node.on_move(self._locators(), self.now()))
        self.problems.touch()
        used, heard = self.engine.table.used(), self.engine.liveness.heard()
        pairs = [(pair.local, pair.source) for pair in heard]
        self._perform(self.node.on_move_told(used, pairs, self.now(), _strangers(heard)))
        self._on_traffic(used, heard)

    def _locators(self) -> tuple[LocalLocator, ...]:
        self.translators.look(self.file, self.network, self.uplinks)
        return assembly.local_locators(self.uplinks, self.file, self.nm_state, self.translators.prefixes)

    def nudge(self) -> bool:
        """For the control socket: read the network again, now (True) or shortly."""
        return self.desktop.nudge()

    def _use_uplinks(self) -> None:
        """Send by the current uplinks; by silent ones only if there is no other."""
        if (around := near(self.file, self.network, self.uplinks, self.node.plan)) != self._near:
            self.engine.addresses.set_near(around)
            self._near = around
        wanted = sending_uplinks(self.file, self.uplinks, self.node)
        if wanted == self._engine_uplinks:
            return
        refused = self.engine.set_uplinks(wanted)
        for known in self.node.path_mtus.in_use:  # the uplinks changed, so the datapath has lost its limits
            self.engine.liveness.set_path_mtu(assembly.path_mtu(known))
        self._engine_uplinks = wanted if not refused else ()
        for refusal in refused:
            log.warning("%s: cannot send from %s yet (errno %d)", refusal.interface, refusal.address, refusal.errno)

    def _steer(self) -> None:
        """Lead marks to the current uplinks."""
        self.steering.on_uplinks(assembly.steering_uplinks(self.file, self.uplinks, self.nm_state))
        self.flows.on_uplinks()

    def _on_unreachable(self, error: Unreachable) -> None:
        self.problems.on_unreachable(error)
        if error.reason == "refused-here" and error.port == CONTROL_PORT:
            self._on_refused(error.destination)

    def _on_refused(self, server: IpAddress) -> None:
        """Later, because the machine whose message this was has not finished."""
        self.own_firewall.on_refused(server, self.now())
        self._loop.call_soon(lambda: self._perform(self.node.on_refused_here(server, self.now())))

    def _on_sent(self, sent: SendControl | SendFromDataPort) -> None:
        self.cost.on_sent(sent, self._loop.time())
        if self.own_firewall.on_sent(sent.destination, self.now()):
            log.info("this host lets us send to %s again", sent.destination)
            self._loop.call_soon(lambda: self._perform(self.node.on_slept(self.now())))

    def _is_noise(self, payload: bytes) -> bool:
        """Unsolicited answers, and messages for others: ignored, at little cost."""
        why = self.node.gate.is_noise(payload)
        if why is not None and self.engine.has_reports():
            self._on_punt()  # the report of the Map-Request that this may answer
            why = self.node.gate.is_noise(payload)
        asked = self.measuring.nonces, self.problems.nonces, self.believing.nonces
        if why is None or any(nonces.knows(payload[4:12]) for nonces in asked):
            return False
        self.node.counters[why] += 1
        return True

    def _on_received(self, one: Received) -> None:
        self.cost.on_received(one.payload, one.destination, one.ifindex, self._loop.time())
        if self.measuring.on_datagram(one.payload) or self.problems.on_datagram(one.payload):
            return
        if self.believing.on_datagram(one.payload, one.destination):
            return
        where = one.source, one.source_port, one.destination, one.ifindex
        datagram = Datagram(one.payload, *where, other_port=one.other_port)
        self._perform(self.node.on_datagram(datagram, self._loop.time()))

    def _ask_name(self, name: bytes) -> None:
        self._perform(self.node.on_name_wanted(name, self._loop.time()))

    def _on_measured(self, effects: Iterable[NattEffect]) -> None:
        self._perform(self.node.on_traversal(effects, self._loop.time()))

    def _on_punt(self) -> None:
        now = self._loop.time()
        for punt in self.engine.drain():
            match punt:
                case model.ControlPacket():
                    self.cost.on_received(punt.payload, punt.outer_destination, punt.ifindex, now)
                # Data received before the silence must not count as received during it.
                case model.Silent() | model.Stalled() | model.Refuted():
                    self._report_traffic()
                case model.TrafficResumed(is_outbound, at, last_before):
                    self.journal.on_packet(Direction.OUT if is_outbound else Direction.IN, at, last_before)
                    self.journal.on_unsent(self.engine.drops("out_"), now)
            if not self.problems.on_punt(punt):
                self._perform(hand_over(punt, self.node, now))

    @property
    def _is_registered(self) -> bool:
        return any(
            registration.is_confirmed or is_relayed(registration, self) for registration in self.node.registrations
        )

    def _on_servers(self) -> None:
        """The addresses of servers with names have changed."""
        self._use(self.names.onto(self.file))
        self._kernel.touch()

    def _on_problems(self) -> None:
        self.problems.touch()

    def _on_time(self) -> None:
        self.desktop.check_clocks()
        self._report_traffic()
        self._perform(self.node.on_timer(self._loop.time()))
        self._nonces.keep_ahead()
        if self._seal is not None:
            self._seal.reserve()
        if self._loop.time() >= self._rests_at:
            self._rests_at = self._loop.time() + REST_S
            self.engine.rest()

    def _report_traffic(self) -> None:
        """Report to the core which mappings carry traffic: read only when it matters, so that an idle node sleeps."""
        self._on_traffic(self.engine.table.used(), self.engine.liveness.heard())

    def _on_traffic(self, used: Sequence[EidPrefix], heard: Sequence[model.Heard]) -> None:
        now = self._loop.time()
        self._perform(self.node.on_used(used, now))
        pairs = [(pair.local, pair.source) for pair in heard]
        self.problems.on_heard(pairs)
        self._perform(self.node.on_heard(pairs, now, _strangers(heard)))

    # --- outputs

    def _perform(self, effects: Iterable[NodeEffect]) -> None:
        """Do what the core has decided; what is only told comes last, after the messages and packets."""
        news: list[Event | MappingWanted | MappingChanged] = []
        for effect in effects:
            match effect:
                case SendControl():
                    self._send(effect)
                case SendFromDataPort(payload, destination, port, source, ifindex, data_port):
                    is_sent = self.engine.data_port.send_control(
                        payload, destination, port, source, ifindex=ifindex, data_port=data_port.value
                    )
                    if is_sent:
                        self._on_sent(effect)
                    else:
                        self._on_refused(destination)
                case UsePrepared():
                    if effect.replaces:
                        self.engine.asking.clear()
                    self.engine.asking.add(prepared(effect, self._socket_for_datapath))
                case PreparedSent(message):
                    self.node.source_ports.on_control_port_used(message.source, message.destination, self._loop.time())
                    self.control.note_sent(message)
                case PlanChanged():
                    self._use_uplinks()
                    self._kernel.touch()
                case InstallMapping():
                    self.engine.table.install(assembly.forwarding_entry(effect))
                    if self._natives.on_installed(effect):
                        self._kernel.touch()
                case RemoveMapping(prefix):
                    self.engine.table.remove(prefix)
                    if self._natives.on_removed(prefix):
                        self._kernel.touch()
                case DropPending(prefix):
                    self.engine.table.drop_pending(prefix)
                case WatchForSilence(remote, patience_s, one_sided_s, head):
                    self.engine.liveness.set_patience(remote, patience_s, one_sided_s, head)
                case AskForEcho(remote, nonce):
                    self.engine.liveness.ask_echo(remote, nonce)
                case UsePathMtu():
                    self.engine.liveness.set_path_mtu(assembly.path_mtu(effect))
                case UseStatusBits(accepts, bits):
                    self.engine.liveness.use_status_bits(accepts=accepts, bits=bits)
                case UplinkChanged() | UplinksRanked():
                    self._use_uplinks()
                case NameResolved():
                    self.flows.names.on_resolved(effect)
                    self.naming.on_resolved()
                case Event() | MappingWanted() | MappingChanged():
                    news.append(effect)
                case _:  # SealEffect
                    session_keys.perform(self.engine, effect)
        for item in news:
            self._report(item)
        self._alarm.set(None if self.is_stopping else self.node.wake_at())

    def _send(self, message: SendControl) -> None:
        ports = self.node.source_ports
        message, port = ports.on_send(message, self._loop.time())
        self.control.keep_other_ports(ports.open_ports)
        self.control.send(message, other_port=port)

    def _socket_for_datapath(self, source: IpAddress) -> int | None:
        """The socket for Map-Requests that the datapath sends; None: we send them, from the port that is answered."""
        return None if self.node.source_ports.is_away(source) else self.control.fileno_for(source)

    def _report(self, item: Event | MappingWanted | MappingChanged) -> None:
        match item:
            case MappingWanted():
                self._mapping_feed.on_wanted(item)
            case MappingChanged():
                self._mapping_feed.on_changed(item)
            case Event():
                self._on_event(item)

    def _on_event(self, event: Event) -> None:
        self._publisher.publish(event, self._loop.time())
        self._mapping_feed.on_event(event)
        self.names.on_event(event)
        if self._identity.on_event(event, is_registered=self._is_registered):
            self._loop.call_soon(lambda: self._use(self.file))
        if self._nonce_doubt.on_event(event, self._loop.time()):
            self._nonces.catch_up()
        if event.kind in ("natt", "natt-state"):
            self.measuring.look(self._loop.time())

    # --- the rest

    async def _reload(self) -> Reloaded:
        """Read the configuration again. Raises ConfigError and changes nothing if it has errors."""
        sd_notify.reloading()
        try:
            old = self.local_mappings.without(self.file)
            file = await with_mask(await self._reader.read(self.path), self.file.steering.mask)
            for key, wish in (("lisp-sec", file.security.lisp_sec), ("seal", file.security.seal)):
                if self.tape is not None and wish == "require":
                    raise ConfigError(f"{self.path}: security.{key}: 'require' needs a restart while lispd records")
            file = self.names.use(file)
            changed, needs_restart = reloading.compare(old, file)
            logs.configure(file.log.level)
            self._use(self.local_mappings.onto(reloading.merge(old, file)))
            await self.engine.tiers.switch(self.file.security.tier(self.file.datapath.tier))
            await self.naming.on_config(self.file)
            self._repair()
            self.desktop.touch()
        finally:
            sd_notify.ready(self.summary())
        log.info("configuration read again: %s", ", ".join(changed) or "nothing changed")
        return Reloaded(changed=changed, needs_restart=needs_restart)

    def _use(self, file: NodeFile) -> None:
        """Use this configuration from now on."""
        self._has_used_key = self._has_used_key or self.file.security.seal != "off"
        self.file = file
        self._gateways.look(self.network, is_wanted=names_gateways(file))
        self.engine.addresses.set_eids(file.eids)
        self.flows.on_config(file)
        self.engine.addresses.set_guard(assembly.guarded(file))
        self.engine.addresses.check_sources(assembly.source_check(file))
        self.engine.liveness.use_echo_nonce(file.probing.echo_nonce)
        self._perform(self.node.on_config(self._node_config(), self._loop.time()))
        self.steering.on_policy(file.steering.to_policy())
        self._update_locators()
        self._steer()
        self._use_uplinks()
        if self.monitor is not None:
            self.monitor.set_policy(self.policy)

    def use_local_mappings(self) -> None:
        """For the control socket: a local mapping was added or removed. Raises FieldError if that is impossible."""
        self._use(self.local_mappings.onto(self.local_mappings.without(self.file)))
        self._kernel.touch()
        self._mapping_feed.look()

    def perform(self, effects: Iterable[NodeEffect]) -> None:
        """For the control socket: a client changed the map-cache."""
        self._perform(effects)

    def _node_config(self) -> NodeConfig:
        has_key_wrap, host_name = self._lisp_sec is not None, socket.gethostname()
        static_key = None if self._seal is None else self._seal.static.public
        return assembly.node_config(
            self.file,
            self._identity.xtr_id,
            host_name,
            has_key_wrap=has_key_wrap,
            static_key=static_key,
            has_used_key=self._has_used_key,
        )

    def _kernel_state(self) -> KernelState:
        engine, mask, plan = self.engine, self.steering.policy.mask, self.node.plan
        marks = mark_routing(self.file, mask, engine.marks_way, engine.lanes)
        lost, natives, asked = self._lingering.lost, self._natives, self.names.nameservers()
        spare = self.measuring.ports
        return kernel_state(self.file, self.uplinks, self.network, lost, natives, plan, marks, asked, spare)

    def _on_device_gone(self) -> None:
        """Nothing goes into the overlay without the device; only a new start makes another."""
        self._failure = f"{self.file.tun.name} is gone: another program removed or renamed it; start lispd again"
        self.stop()

    async def _stop_kernel(self) -> None:
        is_guarded = self.file.routing.when_stopped == "unreachable" or bool(self._failure)
        await self._kernel.stop(leaves_guard=is_guarded)

    def summary(self) -> str:
        """One line for `systemctl status`."""
        return self.problems.summary


def _strangers(heard: Sequence[model.Heard]) -> set[IpAddress]:
    """The outer sources of which no delivery was proven."""
    return {pair.source for pair in heard} - {pair.source for pair in heard if pair.is_proven}
