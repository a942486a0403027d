"""lisphub: the composition root of the hub. Owns the loop, the sockets, the signals and the order of start and stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from msgspec.structs import replace

from lispmob.api import sd_notify
from lispmob.config.static_key import answering_tools
from lispmob.control.itr_security import LispSecTools
from lispmob.control_port.port import ANY, ControlPort, Received
from lispmob.crypto.key_wrap import MISSING, key_wrap
from lispmob.errors import ConfigError, KernelRefused, LispError
from lispmob.garbage import GarbageRules
from lispmob.hub.asking import ask
from lispmob.hub.cli import commands
from lispmob.hub.cli.parser import build_parser
from lispmob.hub.config import SITES_DIRECTORY, HubFile, load_hub
from lispmob.hub.control import HubSocket
from lispmob.hub.dispatch import ControlPlane, Front
from lispmob.hub.inviting.desk import InvitationDesk
from lispmob.hub.inviting.site_directory import SiteDirectory
from lispmob.hub.ledger import Ledger
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.hub.operator import Operator
from lispmob.hub.public_address import PublicAddresses, unreachable_as_rtr
from lispmob.hub.registry import Registry
from lispmob.hub.rtr.rtr_effect import InData, UnregisteredData
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.rtr.way_doubts import AskWay
from lispmob.hub.sealing import HubSealing
from lispmob.hub.show import show
from lispmob.hub.store.embedded import EmbeddedRegistry
from lispmob.hub.workers import Carrier, Worker, Workers
from lispmob.joining.exchange import TYPE
from lispmob.logs import configure
from lispmob.protocol.effect import Event, EventValue, ForgetSession, InstallSession, SendControl
from lispmob.protocol.servers import LispSecMode
from lispmob.session_priority import use_niceness_among_sessions
from lispmob.short_slices import shorten_slices
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType
from lispmob.wire.lisp_sec_auth import OTK_OCTETS

if TYPE_CHECKING:
    from lispmob.datapath.model import Miss
    from lispmob.hub.forwarding import Forwarding

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 1
EXIT_NO_PERMISSION: Final = 77  # sysexits.h: EX_NOPERM
EXIT_CONFIG: Final = 78  # sysexits.h: EX_CONFIG
JOIN_TYPE: Final = TYPE.to_bytes(2)  # the first octets of a message that redeems an invitation
LOOPBACK_IFINDEX: Final = 1  # of lo, in every network namespace
# Logged at INFO: what a person would tell a friend. The rest is for debugging.
_TOLD: Final = frozenset(
    {
        "registered",
        "moved",
        "withdrawn",
        "expired",
        "auth-failed",
        "refused",
        "relay",
        "joined",
        "invited",
        "renumbered",
        "revoked",
    }
)
# It is not known which process has the request.
_FOR_WHO_ASKED: Final = frozenset({MessageType.MAP_NOTIFY_ACK, MessageType.MAP_REFERRAL})
_WARNED: Final = frozenset({"duplicate"})


def _turn(effect: PlaneEffect) -> int:
    """Forwarding is installed before the acknowledgement, since the node may get packets right after it; logs wait."""
    return 0 if isinstance(effect, RegistrationChanged) else 2 if isinstance(effect, Event) else 1


class Hub:
    """One running hub."""

    def __init__(self, path: Path, file: HubFile, worker: Worker | None = None) -> None:
        """`worker`: set for a process of a hub that is not its first."""
        self._path = path
        self.file = file if worker is None else worker_file(file)
        file = self.file
        self._worker = worker
        self._workers: Workers | None = None
        wrap = key_wrap()
        if wrap is None and file.security.lisp_sec != "off":
            log.warning("mappings are not proved genuine: %s", MISSING)
        self.started_at = time.time()
        self.ledger = Ledger()
        self._configured = file.to_sites()
        self._ddt = file.ddt.to_policy()
        self.plane = ControlPlane(
            self._configured,
            file.to_remotes(),
            traversal=file.to_traversal(),
            new_nonce=lambda: secrets.randbits(64),
            security=HubSecurity(cast(LispSecMode, file.security.lisp_sec), wrap),
            tools=None if wrap is None else LispSecTools(wrap, lambda: secrets.token_bytes(OTK_OCTETS)),
            ddt=self._ddt,
            sealing=_sealing(file),
        )
        self.plane.publisher.is_on = file.security.publish
        self._public = PublicAddresses(file.public_address)
        self.plane.on_addresses(self._public.on_addresses(file.listen))
        carries_data = file.proxy.enabled or file.rtr.enabled
        self._socket = ControlPort(
            self._on_received,
            addresses=file.listen or ANY,
            carries_data=carries_data,
            processes=file.workers,
            is_first=worker is None,
            shares_with_datapath=file.rtr.enabled,
        )
        self.registry: Registry | None = None
        self._forwarding: Forwarding | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()
        self._reloading: asyncio.Task[str | None] | None = None
        self.desk = InvitationDesk(file.sites_path, file.to_offer(), self._take_sites, self._report)
        self._taking_sites = asyncio.Lock()
        self._site_directory = SiteDirectory(path.parent / SITES_DIRECTORY, self._on_hangup)
        self._control = HubSocket(file.control_socket, Operator(self).answer)
        self._watchdog: asyncio.Task[None] | None = None
        self._garbage = GarbageRules()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises LispError when it cannot start; everything is undone at the end."""
        loop = asyncio.get_running_loop()
        try:
            self._socket.open()
            self.plane.map_resolver.on_families(self._socket.families)
            self.plane.map_server.is_watched = self.file.proxy.enabled or self.file.rtr.enabled
            self.desk.open(self._configured)
            await self._take_sites()  # before the registrations of invited sites are restored
            self.registry = self._made_registry()
            await self.registry.start()
            self.registry.on_sites()
            if self.file.proxy.enabled or self.file.rtr.enabled:
                # The datapath is compiled code: a hub that carries no data does not load it.
                from lispmob.hub.forwarding import Forwarding

                self._forwarding = Forwarding(
                    self.file.proxy,
                    self.file.proxied_eids,
                    is_rtr=self.file.rtr.enabled,
                    tier=self.file.rtr.tier,
                    asks_elsewhere=self.file.rtr.enabled and bool(self.file.rtr.map_servers),
                    socket_for=self._socket.fileno_for,
                    data_sockets=self._socket.data_sockets,
                    send=self._socket.send,
                    on_addresses=self._on_addresses,
                    on_unregistered=self._on_unregistered,
                    on_miss=self._on_miss,
                    on_data_control=self._on_data_control,
                    on_doubt=self._on_doubt,
                    public=self._public,
                    own_eids=self.file.own_eids,
                    prefers=self.file.listen,
                    peer_of=lambda prefix: 0 if self.plane.sealing is None else self.plane.sealing.peer_of(prefix),
                )
                await self._forwarding.start()
            self._hold_own_eids()
            if self._worker is None:
                await self._control.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stopped.set)
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
            loop.add_signal_handler(signal.SIGUSR1, self._log_counters)
            self._socket.start(loop)
            self._garbage.start()
            if self._worker is not None:
                self._worker.start(
                    self._on_received, self._on_hangup, self._on_carrier, self._stopped.set, self.counters
                )
            else:
                self._site_directory.start()
            if self._worker is None and self.file.workers > 1:
                self._workers = Workers(self._path, self.file.workers, self._keep_event)
                self._update_workers()
                self._workers.start()
            sealing = self.plane.sealing
            key = "" if sealing is None else f" public-key={sealing.public_key.hex()}"
            log.info("ready sites=%d%s", len(self.file.sites), key)
            if self._worker is None:
                sd_notify.ready(f"{len(self.file.sites)} sites")
            if self._worker is None and (every_s := sd_notify.watchdog_interval_s()) is not None:
                self._watchdog = loop.create_task(sd_notify.keep_alive(every_s))
            await self._stopped.wait()
            log.info("stopping")
            sd_notify.stopping()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._garbage.stop()
        if self._workers is not None:
            await self._workers.stop()
        if self._worker is not None:
            await self._worker.stop()
        self._site_directory.stop()
        await self._control.stop()
        await self.desk.close()
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.gather(self._reloading, return_exceptions=True)
        if self._forwarding is not None:
            await self._forwarding.stop()
        self._socket.close()  # after the datapath, which sends from it too
        if self.registry is not None:
            await self.registry.stop()

    def _made_registry(self) -> Registry:
        """The registry of the configuration."""
        section = self.file.registry
        if not section.is_shared:
            return EmbeddedRegistry(self.plane, self._feed, self.file.state_file, self.file.own_eids)
        from lispmob.hub.valkey.connection import Credentials, Server
        from lispmob.hub.valkey.registry import SharedRegistry

        password = section.password_file
        return SharedRegistry(
            self.plane,
            self._feed,
            hub=secrets.randbits(63),
            name=(section.name or socket.gethostname()) + (f"/{self._worker.number}" if self._worker else ""),
            seeds=tuple(Server(host, port) for host, port in section.places),
            credentials=Credentials(section.user, password.octets if password else None, section.tls, section.tls_ca),
            is_island_allowed=section.island,
            cache_limit=section.cache,
        )

    def _on_received(self, received: Received) -> bool:
        """A datagram came; True for an authenticated register of a node."""
        if self._forwarding is not None and self._forwarding.take_answer(received.payload):
            return True
        if received.payload[:2] == JOIN_TYPE:
            self.desk.on_question(received.payload, received.source, partial(self._answer_joining, received))
            return False
        if self._workers is not None and received.payload and received.payload[0] >> 4 in _FOR_WHO_ASKED:
            self._workers.hand(received)
        is_from_wire = received.ifindex != LOOPBACK_IFINDEX
        arrival = Arrival(
            received.payload, received.source, received.source_port, received.destination, is_from_wire=is_from_wire
        )
        arrival, is_proved = self._public.arrived(arrival), False

        def deliver() -> None:
            nonlocal is_proved
            effects = self.plane.on_datagram(arrival, asyncio.get_running_loop().time())
            is_proved = any(isinstance(effect, RegistrationChanged) for effect in effects)
            self._feed([*effects, *self.plane.traversal.take_complaints()])

        assert self.registry is not None
        return self.registry.before(arrival, deliver) or is_proved

    def _answer_joining(self, asked: Received, payload: bytes) -> None:
        self._socket.send(SendControl(payload, asked.source, asked.source_port, source=asked.destination))

    def _on_timer(self) -> None:
        self._timer = None
        self._feed(self.plane.on_timer(asyncio.get_running_loop().time()))

    def _on_addresses(self, own: Sequence[IpAddress]) -> None:
        """The datapath found our addresses; configured ones take precedence."""
        known = self._public.on_addresses(self.file.listen or own)
        self.plane.on_addresses(known)
        if self._forwarding is not None:
            self.plane.on_senders(self._forwarding.senders)
        self._update_workers()
        self._hold_own_eids()
        if self.file.rtr.enabled and (problem := unreachable_as_rtr(known)) is not None:
            log.warning("%s", problem)

    def _update_workers(self) -> None:
        """The other processes answer for this one, which alone carries data."""
        if self._workers is None:
            return
        sealing = self.plane.sealing
        key = None if sealing is None else sealing.public_key
        senders = {} if self._forwarding is None else self._forwarding.senders
        self._workers.tell(Carrier.of(Front(tuple(self.plane.addresses), self.file.rtr.enabled, key, senders)))

    def _on_carrier(self, carrier: Carrier) -> None:
        """What the first process says of itself."""
        self.plane.on_front(carrier.front)

    def _hold_own_eids(self) -> None:
        self._feed(self.plane.on_own_eids(self.file.own_eids, asyncio.get_running_loop().time()))

    def _on_doubt(self, doubt: AskWay) -> None:
        self._feed(self.plane.traversal.rtr.ask(doubt.prefix, doubt.locator))

    def _on_unregistered(self, stranger: UnregisteredData) -> None:
        self._feed(self.plane.traversal.on_unregistered(stranger, asyncio.get_running_loop().time()))

    def _on_data_control(self, packet: InData) -> None:
        self._feed(self.plane.on_data_control(packet, asyncio.get_running_loop().time()))

    def _on_miss(self, miss: Miss) -> None:
        now = asyncio.get_running_loop().time()
        self._feed(self.plane.traversal.on_miss(miss.source, miss.destination, miss.instance_id, now))

    def _feed(self, effects: Iterable[PlaneEffect]) -> None:
        for effect in sorted(effects, key=_turn):
            if isinstance(effect, SendControl):
                self._socket.send(self._public.to_send(effect))
            elif isinstance(effect, Event):
                self._log_event(effect)
            elif isinstance(effect, RegistrationChanged):
                self._on_changed(effect)
            elif isinstance(effect, InstallSession | ForgetSession):
                if self._forwarding is not None:
                    self._forwarding.on_session(effect)
            elif self._forwarding is not None:
                self._forwarding.on_relay(effect)
        if self.registry is not None:
            self.registry.on_turn()
        at = self.plane.wake_at()
        if self._timer is not None and at != self._timer.when():
            self._timer.cancel()
            self._timer = None
        if self._timer is None and at is not None:
            self._timer = asyncio.get_running_loop().call_at(at, self._on_timer)

    def _on_changed(self, change: RegistrationChanged) -> None:
        if self.registry is not None:
            self.registry.on_changed(change)
        if self._forwarding is not None and not change.is_refresh:
            self._forwarding.on_registration(change)

    def _report(self, kind: str, fields: dict[str, object]) -> None:
        self._log_event(Event(kind, cast(dict[str, EventValue], fields)))

    def _keep_event(self, event: Event) -> None:
        """An event that another process of this hub has logged."""
        self.ledger.on_event(event, time.time())

    def _log_event(self, event: Event) -> None:
        self._keep_event(event)
        if self._worker is not None:
            self._worker.happened(event)
        level = logging.WARNING if event.kind in _WARNED else logging.INFO if event.kind in _TOLD else logging.DEBUG
        if log.isEnabledFor(level):
            tail = (f"{key}={','.join(v) if isinstance(v, list) else v}" for key, v in event.fields.items())
            log.log(level, "%s %s", event.kind, " ".join(tail))

    def counters(self) -> dict[str, int]:
        """All nonzero counters, of all parts."""
        forwarding = self._forwarding.counters() if self._forwarding is not None else {}
        found = {**self.plane.counters, **self._socket.counters, **forwarding, "kernel_dropped": self._socket.dropped}
        found |= self.registry.counters if self.registry is not None else {}
        if self._workers is not None:
            found = {**(Counter(found) + self._workers.counters())}
        found |= {f"join_{name}": count for name, count in self.desk.counters.items()}
        return {name: count for name, count in sorted(found.items()) if count}

    def _log_counters(self) -> None:
        """On SIGUSR1."""
        log.info("counters %s", " ".join(f"{name}={count}" for name, count in self.counters().items()))

    def _on_hangup(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())

    async def reload(self) -> str | None:
        """Read the configuration again; returns its error, or None."""
        self._on_hangup()
        assert self._reloading is not None
        return await asyncio.shield(self._reloading)

    async def settle(self) -> None:
        """Wait until the stored state is loaded, and pending changes are written."""
        if self.registry is not None:
            await self.registry.settle()

    def slices(self, count: int) -> AsyncIterator[list[Registration]]:
        """All registrations, some at a time; the hub serves meanwhile."""
        assert self.registry is not None
        return self.registry.slices(count)

    @property
    def store_problem(self) -> str | None:
        """Why registrations cannot be saved."""
        return self.registry.problem if self.registry is not None else None

    async def _take_sites(self) -> None:
        """Use the present sites: those of the files and the invited ones."""
        async with self._taking_sites:
            file, sites = self.file, (*self._configured, *self.desk.sites())
            table = await asyncio.to_thread(SiteTable, sites)
            now = asyncio.get_running_loop().time()
            self._feed(self.plane.on_sites(table, file.to_remotes(), file.to_traversal(), self._ddt, now=now))
            if self.registry is not None:
                self.registry.on_sites()
            if self._workers is not None:
                self._workers.reload()

    async def _reload(self) -> str | None:
        """Read the configuration again; if it has errors the old one stays, and they are returned."""
        try:
            file, sites = await asyncio.to_thread(_load, self._path)
        except ConfigError as error:
            log.error("the configuration stays as it was")
            for line in str(error).splitlines():
                log.error("%s", line)
            return str(error)
        old, self.file, self._configured, self._ddt = self.file, file, sites, file.ddt.to_policy()
        configure(file.log.level)
        self.plane.security.on_mode(cast(LispSecMode, file.security.lisp_sec))
        self.plane.publisher.is_on = file.security.publish
        if self._worker is not None:
            self.file = file = worker_file(file)
            self.desk.read_again(sites)
        self.desk.on_configured(file.to_offer(), sites)
        await self._take_sites()
        if self._forwarding is not None and old.proxied_eids != file.proxied_eids and file.proxy.enabled:
            try:
                await self._forwarding.on_routes(file.proxied_eids)
            except LispError as error:
                log.error("the routes of the proxy could not be set: %s", error)
        if _set_at_start(old) != _set_at_start(file):
            log.warning(
                "changes of listen, public-address, own-eids, state-file, registry, workers, sites-file, proxy, "
                "rtr.enabled and rtr.tier need a restart"
            )
        log.info("reloaded sites=%d", len(file.sites))
        return None


def _sealing(file: HubFile) -> HubSealing | None:
    """Sealing of data between nodes and the proxy; None without a proxy or libcrypto, or if it is off."""
    if file.security.seal == "off" or not (file.proxy.enabled or file.rtr.enabled):
        return None
    tools = answering_tools(None if file.state_file is None else file.state_file.parent)
    return None if tools is None else HubSealing(tools)


def worker_file(file: HubFile) -> HubFile:
    """The configuration of a process other than the first: it carries no data."""
    proxy, rtr = replace(file.proxy, enabled=False), replace(file.rtr, enabled=False)
    return replace(file, proxy=proxy, rtr=rtr)


def _load(path: Path) -> tuple[HubFile, tuple[Site, ...]]:
    """The configuration and its sites. Raises ConfigError."""
    file = load_hub(path)
    return file, file.to_sites()


def _set_at_start(file: HubFile) -> tuple[object, ...]:
    return (
        file.listen,
        file.public_address,
        file.own_eids,
        file.state_file,
        file.registry,
        file.workers,
        file.sites_path,
        file.proxy,
        file.rtr.enabled,
        file.rtr.tier,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run lisphub; the exit code."""
    arguments = build_parser().parse_args(argv)
    configure("info")
    if arguments.command is not None:
        return commands.run(arguments)
    try:
        file = load_hub(arguments.config)
        if arguments.check:
            if not file.sites:
                text = "note: there is no site, so no node can register; lisphub invite NAME makes one"
                sys.stdout.write(f"{arguments.config}: {text}\n")
            sys.stdout.write(f"{arguments.config}: good\n")
            return 0
        if arguments.show:
            return show(file)
        if arguments.reload:
            return _ask_to_reload(file)
        configure(file.log.level)
        use_niceness_among_sessions()
        shorten_slices()
        asyncio.run(_run(arguments.config, file, Worker(arguments.worker) if arguments.worker else None))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a list of places in a file, for the person at the terminal
        return EXIT_CONFIG
    except KernelRefused as error:
        log.error("%s", error)
        return EXIT_NO_PERMISSION
    except LispError as error:
        log.error("%s", error)
        return EXIT_FAILED
    return 0


def _ask_to_reload(file: HubFile) -> int:
    """Make the running hub read its configuration; the exit code says whether it did. Raises LispError."""
    error = ask(file.control_socket, "reload")["error"]
    if error is None:
        return 0
    sys.stderr.write(f"the configuration stays as it was:\n{error}\n")
    return EXIT_CONFIG


async def _run(path: Path, file: HubFile, worker: Worker | None) -> None:
    await Hub(path, file, worker).run()


if __name__ == "__main__":
    sys.exit(main())
