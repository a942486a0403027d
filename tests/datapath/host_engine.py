"""What a test tells the engine of a host: each method is a command of engine_process.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lispmob.datapath import _lispdp
from lispmob.datapath.ask import Question
from lispmob.datapath.device.lanes import CopyingLane
from lispmob.datapath.dialects import DialectKey
from lispmob.datapath.engine import (
    Disposition,
    Engine,
    EngineConfig,
    ForwardingEntry,
    ForwardingLocator,
    Traversal,
    Uplink,
)
from lispmob.datapath.model import Announced, Near, PathMtu, SealedSession
from lispmob.wire.address import EidPrefix

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3  # <linux/in.h>


class HostEngine:
    """One engine, and the sockets of its bindings behind NATs."""

    def __init__(self) -> None:
        self._engine: Engine
        self._bindings: dict[str, socket.socket] = {}

    def open(self, *, eids: list[str], tier: Any = "tun", allows_tcx: bool = True, **options: Any) -> None:
        self._engine = Engine(EngineConfig(eids=tuple(EidPrefix.parse(eid) for eid in eids), **options))
        self._engine.open()
        self._engine.start()
        chosen = self._engine.tiers.use(tier, allows_tcx=allows_tcx)
        assert chosen.name == tier, chosen.why

    def tier(self, *, wish: Any) -> list[str]:
        """Ask for a tier; returns the tier in use, and why."""
        chosen = self._engine.tiers.use(wish)
        return [chosen.name, chosen.why]

    def tier_now(self) -> list[str]:
        return [self._engine.tiers.now.name, self._engine.tiers.now.why]

    def uplinks(self, *, uplinks: list[list[Any]], summed: Sequence[str] = ()) -> list[str]:
        """`summed`: the addresses that need UDP checksums."""
        sums = {ip_address(address): Traversal(needs_sums=True) for address in summed}
        wanted = [
            Uplink(socket.if_nametoindex(name), name, tuple(ip_address(a) for a in addresses), priority, 100, mtu, sums)
            for name, addresses, priority, mtu in uplinks
        ]
        return self._use(wanted)

    def relay(self, *, uplink: list[Any], data_port: Any, relays: list[str], **traits: bool) -> list[str]:
        """Use one uplink, with a NAT on its path."""
        name, addresses, priority, mtu = uplink
        remotes = tuple(ForwardingLocator(ip_address(relay)) for relay in relays)
        own = tuple(ip_address(address) for address in addresses)
        traversal = dict.fromkeys(own, Traversal(data_port, remotes, **traits))
        made = Uplink(socket.if_nametoindex(name), name, own, priority, 100, mtu, traversal)
        return self._use([made])

    def _use(self, wanted: list[Uplink]) -> list[str]:
        refused = self._engine.set_uplinks(wanted)
        self._engine.tiers.settle()
        return [str(refusal) for refusal in refused]

    def install(self, *, prefix: str, locators: list[str], disposition: str = "ENCAPSULATE", **more: Any) -> None:
        traits: dict[str, Any] = {key: ip_address(value) if key == "source" else value for key, value in more.items()}
        never: list[str] = traits.pop("never", [])
        seal = {key: traits.pop(key) for key in ("peer", "must_seal", "map_version") if key in traits}
        rlocs = tuple(ForwardingLocator(ip_address(a), priority, **traits) for priority, a in enumerate(locators, 1))
        rlocs += tuple(ForwardingLocator(ip_address(a), 255, 0) for a in never)
        self._engine.table.install(ForwardingEntry(EidPrefix.parse(prefix), Disposition[disposition], rlocs, **seal))

    def session(self, *, keys: list[str], sources: list[str], aead: Any = "aes-128-gcm", **more: Any) -> None:
        """Install a session with peer 1, unless `more` names another. `keys`: for sending, for receiving."""
        wanted = {"peer": 1, "instance_id": 0, "is_confirmed": True, **more}
        send, receive = (bytes.fromhex(key) for key in keys)
        prefixes = tuple(EidPrefix.parse(source) for source in sources)
        self._engine.sessions.install(
            SealedSession(send_key=send, receive_key=receive, aead=aead, sources=prefixes, **wanted)
        )

    def sources(self, *, local_index: int, sources: list[str]) -> bool:
        return self._engine.sessions.set_sources(local_index, map(EidPrefix.parse, sources))

    def dialect(self, *, address: str, dialect: Any, seals: bool, key: str, **more: Any) -> None:
        """Install a key of RFC 8061 or lispers.net for packets to a locator, or from it."""
        octets, key_id = bytes.fromhex(key), more.pop("key_id", 1)
        wanted = DialectKey(ip_address(address), dialect, key_id, seals, octets, integrity=octets[::-1], **more)
        self._engine.sessions.use_dialect(wanted)

    def forget_dialect(self, *, address: str, seals: bool) -> None:
        self._engine.sessions.forget_dialect(ip_address(address), seals=seals)

    def dialect_use(self, *, address: str) -> list[Any]:
        use = self._engine.sessions.dialect_use(ip_address(address))
        return [use.dialect_out, use.dialect_in, use.sent_packets, use.opened_packets]

    def use_map_version(self, *, version: int) -> None:
        self._engine.sessions.use_map_version(version)

    def rest(self) -> None:
        self._engine.rest()

    def resident_kb(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def sessions(self) -> dict[str, list[int]]:
        """The numbers of sent and opened packets of peer 1, by session."""
        return {use.slot: [use.sent_packets, use.opened_packets] for use in self._engine.sessions.all()}

    def wear(self, *, local_index: int, age_s: float = 0.0, sent: int = 0) -> None:
        """Make a session older, and let it have sent more."""
        engine = self._engine._handle.c
        assert _lispdp.lib.lm_engine_wear_session(engine, local_index, int(age_s * 1e9), sent)

    def forget_peer(self, *, peer: int = 1) -> None:
        self._engine.sessions.forget_peer(peer)

    def keepalive(self, *, peer: int = 1) -> bool:
        return self._engine.sessions.send_keepalive(peer)

    def say(self, *, payload: str, peer: int = 1) -> bool:
        """Send a sealed control message to a peer."""
        return self._engine.sessions.say(peer, bytes.fromhex(payload))

    def refuse_clear(self, *, prefixes: list[str]) -> None:
        self._engine.sessions.set_clear_refused(map(EidPrefix.parse, prefixes))

    def install_bound(self, *, prefix: str, address: str, port: int, source: str, source_port: int) -> None:
        """Install a locator behind a NAT: packets to it leave from this port of ours."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        name = f"{source} {source_port}"
        if name not in self._bindings:
            sock = self._bindings[name] = socket.socket(family, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            sock.bind((source, source_port))
        place = ForwardingLocator(
            ip_address(address), port=port, source=ip_address(source), socket=self._bindings[name].fileno()
        )
        self._engine.table.install(ForwardingEntry(EidPrefix.parse(prefix), Disposition.ENCAPSULATE, (place,)))

    def install_range(self, *, first: str, count: int, locator: str, ways: int = 1) -> None:
        """Install consecutive hosts with one locator. `ways`: with so many locator sets in turn, by weights."""
        start, rloc = ip_address(first), ip_address(locator)
        sets = [
            (ForwardingLocator(rloc, 1 + way % 250, way // 250 % 256), ForwardingLocator(rloc, 251, way // 64000))
            for way in range(ways)
        ]
        hosts = (EidPrefix.host(start + number) for number in range(count))
        entries = [ForwardingEntry(e, Disposition.ENCAPSULATE, sets[i % ways]) for i, e in enumerate(hosts)]
        self._engine.table.install_many(entries)

    def remove(self, *, prefix: str) -> bool:
        return self._engine.table.remove(EidPrefix.parse(prefix))

    def drop_pending(self, *, prefix: str) -> int:
        return self._engine.table.drop_pending(EidPrefix.parse(prefix))

    def patience(self, *, locator: str, seconds: float, one_sided: float = 0.0, head: str | None = None) -> None:
        self._engine.liveness.set_patience(
            ip_address(locator), seconds, one_sided, None if head is None else ip_address(head)
        )

    def status_bits(self, *, accepts: bool = False, bits: int | None = None) -> None:
        self._engine.liveness.use_status_bits(accepts=accepts, bits=bits)

    def near(self, *, own: list[str] = [], links: list[str] = [], proxies: list[str] = []) -> None:  # noqa: B006
        addresses = (frozenset(map(ip_address, these)) for these in (own, proxies))
        mine, theirs = addresses
        self._engine.addresses.set_near(Near(mine, frozenset(map(EidPrefix.parse, links)), theirs))

    def check_sources(self, *, check: Any) -> None:
        self._engine.addresses.check_sources(check)

    def echo_nonce(self, *, echoes: bool) -> None:
        self._engine.liveness.use_echo_nonce(echoes)

    def ask_echo(self, *, locator: str, nonce: int | None) -> bool:
        return self._engine.liveness.ask_echo(ip_address(locator), nonce)

    def repeat_last(self) -> None:
        self._engine.liveness.repeat_last()

    def mark_move(self) -> None:
        self._engine.liveness.mark_move()

    def eids(self, *, eids: list[str]) -> None:
        self._engine.addresses.set_eids(EidPrefix.parse(eid) for eid in eids)

    def guard(self, *, addresses: list[str]) -> None:
        self._engine.addresses.set_guard(ip_address(a) for a in addresses)

    def counters(self) -> dict[str, int]:
        """The counters, once they no longer change: a packet is counted after it was sent, and may arrive before."""
        now = self._engine.counters()
        for _ in range(20):
            time.sleep(0.01)
            before, now = now, self._engine.counters()
            if now == before:
                break
        return {name: value for name, value in now.items() if value}

    def wait_for_counter(self, *, name: str, value: int, timeout_s: float = 3.0) -> None:
        """Return once a counter has this value, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        while self._engine.counters()[name] < value and time.monotonic() < deadline:
            time.sleep(0.005)

    def words(self, *, count: int) -> list[list[Any]]:
        """Peer, source and payload of the sealed control messages of peers, once there are `count`."""
        found: list[list[Any]] = []
        deadline = time.monotonic() + 5.0
        while True:
            drained = self._engine.drain()
            found += [[p.peer, str(p.source), p.payload.hex()] for p in drained if isinstance(p, Announced)]
            if len(found) >= count or time.monotonic() >= deadline:
                return found
            time.sleep(0.01)

    def drain(self) -> list[str]:
        return [str(punt) for punt in self._engine.drain()]

    def used(self) -> list[str]:
        return [str(prefix) for prefix in self._engine.table.used()]

    def heard(self) -> list[str]:
        return [str(heard.source) for heard in self._engine.liveness.heard()]

    def heard_strangers(self) -> list[str]:
        """As `heard`, but only locators without proof."""
        return [str(heard.source) for heard in self._engine.liveness.heard() if not heard.is_proven]

    def path_mtus(self) -> dict[str, int]:
        return {str(address): mtu for address, mtu in self._engine.liveness.path_mtus().items()}

    def traffic(self) -> dict[str, tuple[int, int, int, int]]:
        """For each locator the packets and octets sent, then those received."""
        return {
            str(address): (one.sent, one.sent_octets, one.received, one.received_octets)
            for address, one in self._engine.liveness.traffic().items()
        }

    def path_mtu(self, *, local: str, locator: str, mtu_bytes: int) -> None:
        self._engine.liveness.set_path_mtu(PathMtu(ip_address(local), ip_address(locator), 4341, mtu_bytes))

    def report_large(self, *, reports: bool) -> None:
        self._engine.liveness.report_large(reports)

    def context_switches(self) -> int:
        """Context switches of the datapath's threads: all threads that are not Python's. An idle datapath has none."""
        others = {str(thread.native_id) for thread in threading.enumerate()}
        own = [task for task in Path("/proc/self/task").iterdir() if task.name not in others]
        lines = [line for task in own for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split(":")[1]) for line in lines if "ctxt_switches" in line)

    def lanes(self, *, names: list[str], drops_unusable: bool = False, copying: int = 0) -> list[int]:
        """Make a lane for each uplink; its mark is the ifindex. Packets with mark `copying` leave by the first two."""
        indexes = [socket.if_nametoindex(name) for name in names]
        pairs = [CopyingLane(copying, copying, indexes[0], (*indexes, 0)[1])] if copying else []
        marks = [(ifindex, ifindex) for ifindex in indexes]
        self._engine.set_lanes(marks, copying=pairs, drops_unusable=drops_unusable)
        return indexes

    def ask(self, *, source: str, destination: str, ports: list[int], lane: int = 0) -> list[str | None]:
        """The disposition of a UDP packet, and its locators."""
        question = Question(ip_address(source), ip_address(destination), 17, (ports[0], ports[1]), lane)
        answer = self._engine.dry_run.ask(question)
        return [answer.verdict.name, *(None if one is None else str(one) for one in (answer.local, answer.remote))]
