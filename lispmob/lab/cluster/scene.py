"""The demonstration: faults of servers and hubs, and the claims about them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from lispmob.lab import link
from lispmob.lab.cluster.fleet import KEY, Fleet, Node
from lispmob.lab.demo_service import AS_A_SERVICE
from lispmob.lab.namespace import NamespaceSet
from lispmob.lab.process import Daemon, ProcessFailed, module
from lispmob.lab.report import Report, fact, figure
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer

HUBS: Final = ("127.0.0.21", "127.0.0.22", "127.0.0.23")
SERVERS: Final = tuple((f"127.0.0.{number}", 7100) for number in range(11, 17))
NODES: Final = 300
PER_S: Final = 300.0
VISIBLE_MS: Final = 5.0
WITHOUT_S: Final = 4.0
HEALED_S: Final = 10.0
CUT_S: Final = 6.0
MOVING_S: Final = 1.0
ISLAND_S: Final = 9.0
CLAIMS: Final = (
    "cluster.started",
    "cluster.visible-p50",
    "cluster.visible-p99",
    "cluster.replay-elsewhere-refused",
    "cluster.hub-killed.lost",
    "cluster.hub-killed.wait",
    "cluster.primary-killed.without",
    "cluster.primary-killed.others-without",
    "cluster.primary-killed.lost",
    "cluster.primary-cut.lost",
    "cluster.island.acknowledged",
    "cluster.island.brought-home",
)
_PATIENCE_S: Final = 60.0
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")


class Scene:
    """Six servers, three hubs, and a fleet of nodes, in one namespace."""

    def __init__(self, directory: Path, report: Report) -> None:
        self._directory, self._report = directory, report
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Scene:
        began_at = time.monotonic()
        try:
            space = self._space = self._stack.enter_context(NamespaceSet("cluster-")).make("cell")
            link.apply(space, ["link set lo up"])
            self.cluster = self._stack.enter_context(ValkeyCluster(self._directory / "servers", SERVERS, (), space))
            self._hubs = {address: self._stack.enter_context(self._hub(address)) for address in HUBS}
            for daemon in self._hubs.values():
                self._wait_until_ready(daemon)
            self.fleet = Fleet(space, HUBS, NODES)
            self._stack.callback(self.fleet.close)
            for node in self.fleet.nodes:
                self.fleet.register(node)
            if not self.fleet.settle(_PATIENCE_S):
                raise ProcessFailed(f"not all nodes are registered\n{self._hubs[HUBS[0]].log_tail()}")
        except BaseException:
            self._stack.close()
            raise
        self._report.check(fact("cluster.started", ok=True, value=round(time.monotonic() - began_at, 2), unit="s"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def visible(self, count: int = 200) -> list[float]:
        """Register moves at a hub until another hub answers with the new locator; returns the sorted milliseconds."""
        fleet, node = self.fleet, self.fleet.nodes[0]
        times_ms: list[float] = []
        for turn in range(count):
            node.hub = turn % len(HUBS)
            other = HUBS[(turn + 1) % len(HUBS)]
            fleet.where(node, other)
            began_at = time.monotonic()
            fleet.register(node, move=True)
            while fleet.ask(node, other, 0.5) != node.rloc:
                if time.monotonic() > began_at + 5:
                    raise ProcessFailed("a move is not visible at another hub after 5 s")
            times_ms.append(1000 * (time.monotonic() - began_at))
            fleet.settle(5.0)
        times_ms.sort()
        self._report.check(figure("cluster.visible-p50", times_ms[count // 2], "ms", VISIBLE_MS))
        self._report.check(figure("cluster.visible-p99", times_ms[count * 99 // 100], "ms", 10 * VISIBLE_MS))
        return times_ms

    def rate(self, count: int, window: int = 64) -> float:
        """Acknowledgements a second, of refreshes and moves in turn, with `window` of them outstanding."""
        fleet, began_at, done = self.fleet, time.monotonic(), 0
        fleet.acknowledgements.clear()
        while len(fleet.acknowledgements) < count:
            for node in fleet.nodes:
                outstanding = done - len(fleet.acknowledgements)
                if outstanding >= window:
                    break
                if node.waiting_since is None:
                    fleet.register(node, move=done % 10 == 0)
                    done += 1
            fleet.step(0.001)
            if time.monotonic() > began_at + _PATIENCE_S:
                raise ProcessFailed(f"{len(fleet.acknowledgements)} of {count} registers were acknowledged")
        took_s = time.monotonic() - began_at
        fleet.settle(5.0)
        return count / took_s

    def processors_s(self) -> tuple[float, float]:
        """Processor seconds of the hubs and of the servers so far."""
        hubs = sum(busy_s(daemon.pid) for daemon in self._hubs.values())
        return hubs, sum(busy_s(server.pid) for server in self.cluster.servers)

    def replay(self) -> None:
        """A hub that never heard of a node refuses the node's recorded register."""
        fleet, node = self.fleet, self.fleet.nodes[1]
        recorded = fleet.message(node, time.time_ns() - 10**12)
        fleet.register(node, move=True)
        fleet.settle(5.0)
        for hub in HUBS:
            fleet.send_again(recorded, hub)
        fleet.run(0.5, 0.0)
        places = {fleet.where(node, hub) for hub in HUBS}
        self._report.check(fact("cluster.replay-elsewhere-refused", ok=places == {node.rloc}))

    def kill_a_hub(self) -> None:
        """A hub is killed while nodes move: the other hubs answer with all acknowledged registrations."""
        self._forget_waits()
        self.fleet.run(1.0, PER_S)
        self._event("hub killed")
        self._hubs[HUBS[0]].kill()
        self.fleet.run(3.0, PER_S)
        is_settled = self.fleet.settle(20.0)
        wait_s = max(node.longest_wait_s for node in self.fleet.nodes)
        self._report.check(figure("cluster.hub-killed.wait", wait_s if is_settled else None, "s", 2.0))
        self._lost("cluster.hub-killed.lost", HUBS[1:])
        self._hubs[HUBS[0]] = self._stack.enter_context(self._hub(HUBS[0]))
        self._wait_until_ready(self._hubs[HUBS[0]])

    def kill_a_primary(self) -> None:
        """A primary is killed: how long the nodes of its slots get no acknowledgements."""
        victim = self.cluster.owner_of(self.fleet.nodes[2].bucket)
        theirs = {node.number for node in self.fleet.nodes if self.cluster.owner_of(node.bucket) is victim}
        self._forget_waits()
        self.fleet.run(1.0, PER_S)
        self._event("primary killed", server=str(victim))
        killed_at = time.monotonic()
        victim.kill()
        self.fleet.run(6.0, PER_S)
        ended_at = time.monotonic()
        self.fleet.settle(20.0)
        after = [(at, node.number) for at, node in self.fleet.acknowledgements if killed_at < at < ended_at]
        without_s = longest_gap_s([at for at, number in after if number in theirs], killed_at, ended_at)
        others_s = longest_gap_s([at for at, number in after if number not in theirs], killed_at, ended_at)
        self._report.check(figure("cluster.primary-killed.without", without_s, "s", WITHOUT_S))
        self._report.check(figure("cluster.primary-killed.others-without", others_s, "s", 1.0))
        self._lost("cluster.primary-killed.lost", HUBS)
        victim.start().wait()
        self._wait_for_replicas()

    def cut_a_primary(self) -> None:
        """A primary is cut off from the other servers, while the hubs still reach all of them."""
        victim = self.cluster.owner_of(self.fleet.nodes[3].bucket)
        self.fleet.run(1.0, PER_S)
        self._event("primary cut off", server=str(victim))
        with self._cut(victim):
            # Then no node moves: a registration that only the old primary accepted is not repeated by its node
            self.fleet.run(MOVING_S, PER_S)
            self.fleet.run(CUT_S - MOVING_S, 0.0)
        self._event("healed")
        healed_at = time.monotonic()
        self.fleet.settle(HEALED_S)
        while time.monotonic() < healed_at + HEALED_S:
            self.fleet.step(0.05)
        self._lost("cluster.primary-cut.lost", HUBS)
        self._wait_for_replicas()

    def make_islands(self) -> None:
        """All servers are stopped: the hubs serve from memory, and update the servers afterwards."""
        some = self.fleet.nodes[:30]
        self._event("servers stand still")
        for server in self.cluster.servers:
            server.freeze()
        try:
            self.fleet.run(ISLAND_S, 30.0, some)
            self.fleet.settle(10.0)
        finally:
            for server in self.cluster.servers:
                server.thaw()
        self._event("servers go on")
        taken = sum(node.acknowledged == node.rloc for node in some)
        self._report.check(fact("cluster.island.acknowledged", ok=taken == len(some), value=taken, unit="nodes"))
        until = time.monotonic() + 30.0
        missing = len(some)
        while missing and time.monotonic() < until:
            self.fleet.run(0.5, 0.0)
            missing = sum(any(self.fleet.where(node, hub) != node.acknowledged for hub in HUBS) for node in some)
        self._report.check(fact("cluster.island.brought-home", ok=not missing, value=missing, unit="missing", goal=0))

    def _forget_waits(self) -> None:
        self.fleet.acknowledgements.clear()
        for node in self.fleet.nodes:
            node.longest_wait_s = 0.0

    def _lost(self, name: str, hubs: tuple[str, ...]) -> None:
        """How many nodes have a mapping that differs from their last acknowledged registration."""
        missing = sum(self._is_lost(node, hubs) for node in self.fleet.nodes)
        self._report.check(fact(name, ok=not missing, value=missing, unit="registrations", goal=0))

    def _is_lost(self, node: Node, hubs: tuple[str, ...]) -> bool:
        return self.fleet.where(node, hubs[node.number % len(hubs)]) != node.acknowledged

    @contextlib.contextmanager
    def _cut(self, victim: ValkeyServer) -> Iterator[None]:
        others = [server for server in self.cluster.servers if server is not victim]
        pairs = [pair for other in others for pair in ((victim, other), (other, victim))]
        for source, destination in pairs:
            self._iptables("-A", source, destination)
        try:
            yield
        finally:
            for source, destination in pairs:
                self._iptables("-D", source, destination)

    def _iptables(self, what: str, source: ValkeyServer, destination: ValkeyServer) -> None:
        place = ("-s", source.address, "-d", destination.address)
        self._space.run("iptables", "-w", what, "INPUT", *place, "-j", "DROP")

    def _wait_for_replicas(self) -> None:
        """Wait until every primary has its replica again, so that the next fault starts from a complete cluster."""
        until = time.monotonic() + _PATIENCE_S
        for server in self.cluster.servers:
            while b"cluster_state:ok" not in server.ask("CLUSTER", "INFO") or (
                b"role:slave" in (told := server.ask("INFO", "replication")) and b"master_link_status:up" not in told
            ):
                if time.monotonic() > until:
                    raise ProcessFailed(f"the server {server} does not follow its primary again")
                self.fleet.step(0.1)

    @contextlib.contextmanager
    def _hub(self, address: str) -> Iterator[Daemon]:
        config = self._directory / f"hub-{address}.conf"
        config.touch(mode=0o600)
        config.write_text(_configuration(self._directory, address))
        log = self._directory / f"hub-{address}.log"
        log.unlink(missing_ok=True)
        command = [*AS_A_SERVICE, *module("lispmob.hub.daemon", "-c", str(config))]
        with Daemon(address, self._space, command, log) as daemon:
            yield daemon

    def _wait_until_ready(self, daemon: Daemon) -> None:
        until = time.monotonic() + _PATIENCE_S
        while "ready" not in daemon.log_text():
            daemon.check()
            if time.monotonic() > until:
                raise ProcessFailed(f"the hub {daemon.name} does not get ready\n{daemon.log_tail()}")
            time.sleep(0.05)

    def _event(self, kind: str, **fields: object) -> None:
        self._report.event(kind, time.monotonic(), **fields)
        print(f"  {kind} {' '.join(map(str, fields.values()))}".rstrip(), flush=True)


def _configuration(directory: Path, address: str) -> str:
    servers = ", ".join(f"{host}:{port}" for host, port in SERVERS[:3])
    return f"""\
sites:
  - name: all
    eids: [10.0.0.0/8]
    key: {KEY.secret.decode()}
    accept-more-specifics: yes
    algorithms: [hmac-sha-256-128]
listen: [{address}]
state-file: none
registry: {{valkey: [{servers}], name: {address}}}
control-socket: {directory}/hub-{address}.sock
log: {{level: info}}
"""


def longest_gap_s(times: Sequence[float], first: float, last: float) -> float:
    """The longest time between consecutive `times`, from `first` to `last`."""
    return max(later - earlier for earlier, later in pairwise([first, *times, last]))


def busy_s(pid: int) -> float:
    """Processor seconds of all threads of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S
