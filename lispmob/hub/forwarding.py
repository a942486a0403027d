"""The proxy's data plane: the datapath's engine, its device and routes, kept in line with the policy (adapter)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from msgspec.structs import replace

from lispmob.control.path_mtu.paths import MtuEffect
from lispmob.datapath.engine import (
    ControlPacket,
    Disposition,
    Engine,
    EngineConfig,
    ForwardingEntry,
    ForwardingLocator,
    Miss,
    MtuLearned,
    UnregisteredSource,
    Uplink,
)
from lispmob.datapath.model import LargeSent, PathMtu
from lispmob.errors import LispError
from lispmob.hub import sealed_sessions
from lispmob.hub.config import ProxySection
from lispmob.hub.map_server.effect import RegistrationChanged
from lispmob.hub.proxy import Proxy, ProxyEffect
from lispmob.hub.public_address import PublicAddresses
from lispmob.hub.routes import (
    Carrier,
    add_addresses,
    carriers,
    missing_forwarding,
    own_networks,
    preferring,
    senders_of,
    set_routes,
)
from lispmob.hub.rtr.relay_sizes import RelaySizes
from lispmob.hub.rtr.rtr_effect import (
    InData,
    InstallRelay,
    Learned,
    RemoveRelay,
    SendFromRelayPort,
    UnregisteredData,
    WayAlive,
)
from lispmob.hub.rtr.way_doubts import AskWay
from lispmob.hub.sealing import SealEffect
from lispmob.protocol.effect import (
    CONTROL_PORT,
    DropPending,
    InstallMapping,
    InstallSession,
    SendControl,
    UsableLocator,
    UsePathMtu,
)
from lispmob.wire.address import EidPrefix, IpAddress

log = logging.getLogger(__name__)

RelayEffect: TypeAlias = InstallRelay | RemoveRelay | SendFromRelayPort | Learned | DropPending | WayAlive
"""Effects of an RTR for the datapath."""

LOOK_AGAIN_S: Final = 15.0  # ours: a server's addresses rarely change, but some come up after the hub
COUNT_S: Final = 0.5  # ours: how often an RTR checks which paths of a node carry packets, while it has several
UPLINK_PRIORITY: Final = 1
UPLINK_WEIGHT: Final = 100


class Forwarding:
    """Owns the engine. All of it runs in the event loop; the packets never do."""

    def __init__(
        self,
        section: ProxySection,
        eids: Iterable[EidPrefix],
        *,
        is_rtr: bool = False,
        tier: str = "auto",
        asks_elsewhere: bool = False,
        socket_for: Callable[[IpAddress], int | None] = lambda _: None,
        data_sockets: Iterable[int] = (),
        send: Callable[[SendControl], bool] = lambda _: False,
        on_addresses: Callable[[Sequence[IpAddress]], None] = lambda _: None,
        on_unregistered: Callable[[UnregisteredData], None] = lambda _: None,
        on_miss: Callable[[Miss], None] = lambda _: None,
        on_data_control: Callable[[InData], None] = lambda _: None,
        public: PublicAddresses | None = None,
        own_eids: Iterable[EidPrefix] = (),
        prefers: Sequence[IpAddress] = (),
        on_doubt: Callable[[AskWay], None] = lambda _: None,
        peer_of: Callable[[EidPrefix], int] = lambda _: 0,
    ) -> None:
        """`socket_for` returns the descriptor of the control socket for a local address, `send` sends. `data_sockets`
        receive the data that an RTR's nodes send to its control port.

        `tier` is the RTR's tier, `on_doubt` gets paths of nodes without return traffic. `peer_of`: the peer whose
        session seals for an EID-Prefix. `prefers`: the addresses to send from, where an interface has others besides.
        """
        self._prefers = tuple(prefers)
        self._public = public or PublicAddresses()
        self._own_eids = tuple(own_eids)
        self._section = section
        # Our own EIDs may be in a denied network.
        allowed = (*section.allow, *self._own_eids)
        self._policy = Proxy(eids, asks_elsewhere=asks_elsewhere, denied=section.denied_networks, allowed=allowed)
        self._is_rtr = is_rtr
        self._tier = tier
        self._socket_for = socket_for
        self._data_sockets = tuple(data_sockets)
        self._on_addresses = on_addresses
        self._on_unregistered = on_unregistered
        self._on_miss = on_miss
        self._on_data_control = on_data_control
        self._on_doubt = on_doubt
        self._peer_of = peer_of
        self._send = send
        self._sizes = RelaySizes(self._policy.served, new_nonce=lambda: secrets.randbits(64))
        self._sizes_timer: asyncio.TimerHandle | None = None
        self._engine: Engine | None = None
        self._carriers: tuple[Carrier, ...] = ()
        self._watch: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._counting: asyncio.TimerHandle | None = None
        self._is_reading = False

    @property
    def senders(self) -> dict[IpAddress, IpAddress]:
        """By each of our addresses, as others know them, the one that data leaves from by the same interface."""
        known = self._public.known
        return {known(address): known(sender) for address, sender in senders_of(self._carriers).items()}

    async def start(self) -> None:
        """Create the device, its routes and the forwarding threads. Raises KernelRefused."""
        self._engine = engine = Engine(
            EngineConfig(self._section.tun, role="proxy", tun_mtu_bytes=self._section.mtu, is_rtr=self._is_rtr)
        )
        engine.open()
        self._listen(engine)
        engine.liveness.report_large(True)
        asyncio.get_running_loop().add_reader(engine.fileno(), self._drain)
        self._is_reading = True
        self._perform(self._policy.on_start())
        await self._look()
        await add_addresses(engine.ifindex, (eid.address for eid in self._own_eids))
        await set_routes(engine.ifindex, self._policy.routes)
        engine.start()
        if self._is_rtr:  # a proxy's packets go through its TUN device: the BPF programs cannot help
            self._loading = asyncio.create_task(engine.tiers.switch(self._tier))
        self._watch = asyncio.create_task(self._look_again())
        families = {prefix.family for prefix in self._policy.routes}
        for sysctl in missing_forwarding(families) if self._section.enabled else ():
            log.warning(
                "this machine does not forward packets, so the proxy reaches no host: run: sysctl -w %s=1", sysctl
            )

    async def stop(self) -> None:
        """Stop forwarding; the device and its routes go away. May be called after a failed start."""
        if self._sizes_timer is not None:
            self._sizes_timer.cancel()
        if self._counting is not None:
            self._counting.cancel()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._loading is not None:  # it runs in a thread, which cannot be stopped
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._engine is not None:
            if self._is_reading:
                asyncio.get_running_loop().remove_reader(self._engine.fileno())
            self._engine.stop()
            self._engine = None

    def on_registration(self, change: RegistrationChanged) -> None:
        """A node registered, moved or left: the next packet already takes the new path."""
        self._perform(self._policy.on_registration(change))

    def on_session(self, effect: SealEffect) -> None:
        """A node has a new session with us, or lost one; it seals the data for its EID-Prefixes."""
        if self._engine is None:
            return
        sealed_sessions.perform(self._engine, effect)
        if isinstance(effect, InstallSession):
            self._perform(self._policy.installed(effect.sources))

    def on_relay(self, effect: RelayEffect) -> None:
        """The RTR's knowledge about a node behind a NAT has changed; or it has a message for it."""
        if isinstance(effect, SendFromRelayPort):
            if self._engine is not None:
                self._send_in_data(self._engine, self._public.to_send_in_data(effect))
        elif isinstance(effect, InstallRelay):
            self._perform(self._policy.on_relay(effect.prefix, effect.bindings))
        elif isinstance(effect, WayAlive):
            now = asyncio.get_running_loop().time()
            self._perform(self._policy.on_alive(effect.prefix, effect.address, effect.port, now))
        elif isinstance(effect, Learned):
            self._perform(self._policy.on_learned(effect.prefix, effect.record))
        elif isinstance(effect, DropPending):
            if self._engine is not None:
                self._engine.table.drop_pending(effect.prefix)
        else:
            self._perform(self._policy.on_relay(effect.prefix, ()))

    def _listen(self, engine: Engine) -> None:
        """Receive data at the control port too. Without it only nodes whose network spoils port 4341 are worse off."""
        for descriptor in self._data_sockets:
            try:
                engine.data_port.listen(descriptor)
            except OSError as error:
                log.warning("data sent to UDP port %d is not received at some addresses: %s", CONTROL_PORT, error)
                return

    def _send_in_data(self, engine: Engine, sent: SendFromRelayPort) -> None:
        if sent.is_from_control_port:
            self._send(SendControl(sent.payload, sent.destination, sent.port, source=sent.source))
        else:
            engine.data_port.send_control(sent.payload, sent.destination, sent.port, sent.source)

    def _watch_traffic(self) -> None:
        """Check the traffic of the nodes' paths, while some have several."""
        if self._is_rtr and self._counting is None and self._engine is not None and self._policy.watches:
            self._counting = asyncio.get_running_loop().call_later(COUNT_S, self._count)

    def _count(self) -> None:
        self._counting = None
        if self._engine is not None:
            heard = {heard.source for heard in self._engine.liveness.heard()}
            now = asyncio.get_running_loop().time()
            self._perform(self._policy.on_traffic(self._engine.table.used(), heard, now))
            self._watch_traffic()

    async def on_routes(self, eids: Iterable[EidPrefix]) -> None:
        """The configured prefixes have changed."""
        self._perform(self._policy.on_routes(eids))
        await self._settle_rest()
        if self._engine is not None:
            await set_routes(self._engine.ifindex, self._policy.routes)

    async def _settle_rest(self) -> None:
        """Finish a change of all entries, while the loop serves."""
        while self._policy.has_unsettled:
            await asyncio.sleep(0)
            self._perform(self._policy.settle_some())

    def counters(self) -> dict[str, int]:
        """The engine's counters, and those of path MTUs."""
        return {**self._engine.counters(), **self._sizes.counters} if self._engine else {}

    def take_answer(self, payload: bytes) -> bool:
        """True for the answer to a path MTU probe, from the control port or in data."""
        if not self._sizes.is_answer(payload):
            return False
        self._measure(self._sizes.on_answer(payload, asyncio.get_running_loop().time()))
        return True

    def _on_sizes_due(self) -> None:
        self._measure(self._sizes.on_timer(asyncio.get_running_loop().time()))

    def _measure(self, effects: Iterable[MtuEffect]) -> None:
        """Apply the effects of the path MTU search, and set its timer."""
        for effect in effects:
            if isinstance(effect, SendControl):
                self._send(effect)
            elif isinstance(effect, UsePathMtu) and self._engine is not None:
                self._engine.liveness.set_path_mtu(PathMtu(effect.local, effect.remote, effect.port, effect.mtu_bytes))
        if self._sizes_timer is not None:
            self._sizes_timer.cancel()
            self._sizes_timer = None
        if self._engine is not None and (at := self._sizes.wake_at()) is not None:
            self._sizes_timer = asyncio.get_running_loop().call_at(at, self._on_sizes_due)

    def _on_size(self, punt: LargeSent | MtuLearned) -> None:
        now, way = asyncio.get_running_loop().time(), (punt.local, punt.locator, punt.port)
        if isinstance(punt, LargeSent):
            self._measure(self._sizes.on_large(*way, now))
        else:
            self._measure(self._sizes.on_too_big(*way, punt.mtu_bytes, punt.source, now))

    def _perform(self, effects: Iterable[ProxyEffect]) -> None:
        if self._engine is None:
            return
        for effect in effects:
            if isinstance(effect, InstallMapping):
                locators = tuple(self._locator(self._engine, locator) for locator in effect.locators)
                peer = self._peer_of(effect.prefix)
                entry = ForwardingEntry(effect.prefix, Disposition[effect.disposition], locators, peer)
                self._engine.table.install(entry)
            elif isinstance(effect, AskWay):
                self._on_doubt(effect)
            else:
                self._engine.table.remove(effect.prefix)
        self._watch_traffic()

    def _locator(self, engine: Engine, locator: UsableLocator) -> ForwardingLocator:
        plain = ForwardingLocator(locator.address, locator.priority, locator.weight, locator.port)
        if locator.source is None:
            return plain
        source, is_control = self._public.own(locator.source), locator.source_port == CONTROL_PORT
        found = self._socket_for(source) if is_control else engine.data_port.socket(source.version)
        return replace(plain, source=source, socket=found) if found is not None and found >= 0 else plain

    def _drain(self) -> None:
        """Misses: an RTR may ask another Map-Server; a proxy drops the waiting packets."""
        assert self._engine is not None
        for punt in self._engine.drain():
            if isinstance(punt, Miss):
                if self._is_rtr:
                    self._on_miss(punt)
                else:
                    self._engine.table.drop_pending(EidPrefix.host(punt.destination, punt.instance_id))
            elif isinstance(punt, LargeSent | MtuLearned):
                self._on_size(punt)
            elif isinstance(punt, ControlPacket) and self.take_answer(punt.payload):
                continue
            elif isinstance(punt, ControlPacket) and self._is_rtr:
                where = punt.outer_source, punt.outer_source_port, punt.outer_destination
                packet = InData(punt.payload, *where, punt.source, punt.source_port, punt.is_at_control_port)
                self._on_data_control(self._public.arrived_in_data(packet))
            elif isinstance(punt, UnregisteredSource):
                seen = UnregisteredData(
                    punt.source,
                    punt.instance_id,
                    punt.outer_source,
                    punt.outer_source_port,
                    punt.outer_destination,
                    is_registered=punt.is_registered,
                    inner_destination=punt.destination,
                    is_at_control_port=punt.is_at_control_port,
                )
                self._on_unregistered(self._public.arrived_unregistered(seen))

    async def _look(self) -> None:
        if self._section.denies_own:
            self._perform(self._policy.on_networks(await own_networks(self._section.tun)))
        found = preferring(self._prefers, await carriers(self._section.interfaces, self._section.tun))
        if found == self._carriers or self._engine is None:
            return
        own = [address for carrier in found for address in carrier.addresses]
        refused = self._engine.set_uplinks(
            [
                Uplink(
                    ifindex=carrier.ifindex,
                    interface=carrier.interface,
                    addresses=carrier.addresses,
                    priority=UPLINK_PRIORITY,
                    weight=UPLINK_WEIGHT,
                    mtu_bytes=carrier.mtu_bytes,
                )
                for carrier in found
            ]
        )
        # An address that was not ready is tried again at the next look.
        self._carriers = () if refused else found
        links = {address: carrier.mtu_bytes for carrier in found for address in carrier.addresses}
        self._measure(self._sizes.on_links(links))
        self._on_addresses(own)
        known = dict.fromkeys([*own, *map(self._public.known, own)])
        self._engine.addresses.set_guard(known)
        self._perform(self._policy.on_addresses(known))
        await self._settle_rest()
        log.info("proxy uses interfaces=%s", ",".join(carrier.interface for carrier in found) or "none")

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                await self._look()
            except (LispError, OSError) as error:
                log.debug("looking at the interfaces failed why=%s", error)
