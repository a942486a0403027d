"""The cost of a hub: of its control plane alone, and of a real hub that nodes register with (RFC 9301, section 8).

    core      the control plane in a process of its own, without sockets: processor time for each message
    none      a hub without a state file
    file      a hub with a state file
    rtr       a hub that is the RTR of nodes behind NATs, with a state file
    workers-N a hub of N processes, with a server for what they share
    hubs, N   what several hubs share (`lab/cluster/measure.py`)

The model of a node: it registers two EIDs once a minute, moves every ten minutes, and has four peers, each of which
asks for both EIDs every ten minutes and after each move. Behind NATs it registers both every 20 s.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab import link
from lispmob.lab.bench.hub_nodes import HUB, KEY, Nodes
from lispmob.lab.bench.results import Results
from lispmob.lab.cluster.measure import measure_hubs, measure_size
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Daemon, ProcessFailed, module
from lispmob.lab.valkey import ValkeyServer, program

CASES: Final = ("core", "rate", "latency", "start", "rtr", "workers", "cluster", "registry")
KNOWN: Final = 20_000  # existing registrations while rates and latencies are measured
BURST: Final = 20_000  # messages of a rate
WINDOW: Final = 64
PACE: Final = 1000  # registers a second while latencies are measured
PACED_S: Final = 8.0
STARTS: Final = (100_000, 1_000_000)
IN_CORE: Final = (10_000, 100_000)  # existing registrations: for processor time, for memory
SERVER: Final = ("127.0.0.1", 7300)
WORKERS: Final = (1, 2)
SHARED: Final = 100_000  # registrations in servers that hubs share
_PATIENCE_S: Final = 900.0  # a limit; on a quiet machine it takes 15 s
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")
_REGISTERS_S: Final = 2 / 60 + 2 / 600
_REQUESTS_S: Final = 4 * 2 * 2 / 600
_NAT_REGISTERS_S: Final = 2 / 20


class HubRun:
    """Measures into `results`. `trees` are the checkouts to measure, by name: one of them is this one, named ""."""

    def __init__(self, results: Results, directory: Path, trees: dict[str, Path | None]) -> None:
        self._results = results
        self._directory = directory
        self._trees = trees
        self.failed: dict[str, str] = {}

    def measure(
        self, cases: list[str], rounds: int, starts: tuple[int, ...] = STARTS, minutes: float = math.inf
    ) -> None:
        """Measure these cases for all trees in turn. A case that fails is added to `failed`, and the others continue.

        A round that would end after `minutes` is not started, except for the first.
        """
        began_at = time.monotonic()
        for number in range(rounds):
            if number and (time.monotonic() - began_at) * (number + 1) / number > 60 * minutes:
                self._results.warnings.append(f"{number} of {rounds} rounds: there was no time for more")
                return
            for case in cases:
                for name, tree in self._trees.items():
                    print(f"round {number + 1}/{rounds}: {case} {name}".rstrip(), flush=True)
                    try:
                        self._case(case, f" {name}" if name else "", tree, number, starts)
                    except (LispError, subprocess.SubprocessError) as error:
                        self.failed[case] = str(error)
                        print(f"{case}: {error}", flush=True)

    def _case(self, case: str, suffix: str, tree: Path | None, number: int, starts: tuple[int, ...]) -> None:
        if case == "core":
            self._core(suffix, tree)
        elif case in ("rate", "latency"):
            for has_file in (False, True):
                self._serve(case, suffix, tree, has_file=has_file)
        elif case == "rtr":
            self._serve(case, suffix, tree, has_file=True)
        elif case in ("workers", "cluster", "registry"):
            if tree is None:
                self._share(case, number)
        elif tree is None:  # state files of other versions may differ
            for count in starts:
                self._start(count)

    def _share(self, case: str, number: int) -> None:
        """The cases that need servers. They are skipped, with a message, if the program is not installed."""
        if program() is None:
            self._results.skipped[case] = "no Valkey or Redis server: apt-get install redis-tools"
        elif case == "cluster":
            measure_hubs(self._results, self._directory / f"hubs-{number}")
        elif case == "registry":
            measure_size(self._results, self._directory / f"size-{number}", SHARED, has_replicas=True, seconds=5.0)
        else:
            for processes in WORKERS:
                self._work(processes)

    def _work(self, processes: int) -> None:
        """Refreshes a second of a hub of `processes`, each with a connection to one server."""
        with self._hub(None, None, processes=processes) as (daemon, nodes):
            self._phase(daemon, nodes, nodes.registers(range(KNOWN)))
            refresh = self._phase(daemon, nodes, nodes.registers(range(BURST)))
            self._add("refresh-rate", f"workers-{processes}", refresh[0], "1/s")
            self._add("refresh-process", f"workers-{processes}", refresh[1], "us")

    def _add(self, case: str, path: str, value: float, unit: str) -> None:
        self._results.add(f"hub-{case}", path.strip(), value, unit)

    def _core(self, suffix: str, tree: Path | None) -> None:
        few, many = (_measured_core(tree, count) for count in IN_CORE)
        for case in ("refresh", "new", "reply", "hole", "relayed"):
            self._add(f"{case}-cpu", f"core{suffix}", few[case], "us")
        self._add("octets-per-registration", f"core{suffix}", many["octets-per-registration"], "octets")

    def _serve(self, case: str, suffix: str, tree: Path | None, *, has_file: bool) -> None:
        path = ("rtr" if case == "rtr" else "file" if has_file else "none") + suffix
        state = self._directory / "rates.sqlite" if has_file else None
        for left in self._directory.glob("rates.sqlite*"):
            left.unlink()
        with self._hub(tree, state, is_rtr=case == "rtr") as (daemon, nodes):
            new = self._phase(daemon, nodes, nodes.registers(range(KNOWN), is_relayed=case == "rtr"))
            if case == "latency":
                time.sleep(3.0)  # all state has been written to the disk
                numbers = [number % KNOWN for number in range(int(PACE * PACED_S))]
                phase = nodes.run(nodes.registers(numbers), window=PACE, per_s=PACE)
                self._add("register-p50", path, sorted(phase.round_trips_ms)[phase.answered // 2], "ms")
                self._add("register-p99", path, phase.p99_ms, "ms")
                return
            refresh = self._phase(daemon, nodes, nodes.registers(range(BURST), is_relayed=case == "rtr"))
            self._add("refresh-rate", path, refresh[0], "1/s")
            self._add("refresh-process", path, refresh[1], "us")
            if case == "rtr":
                self._add("nodes-behind-nats", path, 1e6 / (_NAT_REGISTERS_S * refresh[1]), "nodes")
                return
            nodes.introduce()
            reply = self._phase(daemon, nodes, nodes.requests(range(6_000)))  # the hub's limit for eight requesters
            self._add("new-rate", path, new[0], "1/s")
            self._add("new-process", path, new[1], "us")
            self._add("reply-rate", path, reply[0], "1/s")
            self._add("reply-process", path, reply[1], "us")
            self._add("nodes", path, 1e6 / (_REGISTERS_S * refresh[1] + _REQUESTS_S * reply[1]), "nodes")

    def _phase(self, daemon: Daemon, nodes: Nodes, messages: list[bytes]) -> tuple[float, float]:
        """Answers a second, and microseconds of the hub's processor time for each. Raises ProcessFailed."""
        before = _family_busy_s(daemon.pid)
        phase = nodes.run(messages, window=WINDOW)
        time.sleep(1.5)  # the hub writes its state afterwards; that time counts
        if phase.answered < 0.9 * phase.sent:
            raise ProcessFailed(f"{phase.sent - phase.answered} of {phase.sent} messages were not answered")
        return phase.per_s, (_family_busy_s(daemon.pid) - before) / phase.answered * 1e6

    def _start(self, count: int) -> None:
        state = self._directory / "start.sqlite"
        for left in self._directory.glob("start.sqlite*"):
            left.unlink()
        subprocess.run(
            module("lispmob.hub.bench.measure_state", str(state), str(count)), check=True, timeout=_PATIENCE_S
        )
        began_at = time.monotonic()
        with self._hub(None, state, is_ready=False) as (daemon, nodes):
            while not nodes.ask_once(count // 2, 0.05):
                _check(daemon, began_at)
            self._add("start-answers", str(count), time.monotonic() - began_at, "s")
            while not (done := re.search(r"restored registrations=(\d+)", daemon.log_text())):
                _check(daemon, began_at)
                time.sleep(0.1)
            self._add("start-complete", str(count), time.monotonic() - began_at, "s")
            if int(done[1]) != count:
                raise ProcessFailed(f"{done[1]} of {count} registrations were restored")
            self._add("start-cpu", str(count), _busy_s(daemon.pid), "s")
            self._add("start-memory", str(count), daemon.resident_bytes() / 1e6, "MB")

    @contextlib.contextmanager
    def _hub(
        self,
        tree: Path | None,
        state: Path | None,
        *,
        is_rtr: bool = False,
        is_ready: bool = True,
        processes: int = 0,
    ) -> Iterator[tuple[Daemon, Nodes]]:
        """`processes`: that many, with a server for what they share; 0: one, without a server."""
        with NamespaceSet("hub-") as spaces, contextlib.ExitStack() as stack:
            space = spaces.make("hub")
            link.apply(space, ["link set lo up"])
            config, log = self._directory / "hub.conf", self._directory / "hub.log"
            config.touch(mode=0o600)
            config.write_text(_configuration(self._directory, state, is_rtr=is_rtr) + _shared(processes))
            if processes:
                server = ValkeyServer(self._directory / "server", *SERVER, (), space).start()
                stack.callback(server.kill)
                server.wait()
            log.unlink(missing_ok=True)
            command = [*_in_tree(tree), *module("lispmob.hub.daemon", "-c", str(config))]
            daemon = stack.enter_context(Daemon("hub", space, command, log))
            nodes = Nodes(space)
            stack.callback(nodes.close)
            if is_ready:
                _wait_until_ready(space, daemon, max(1, processes))
            yield daemon, nodes


def _wait_until_ready(space: Namespace, daemon: Daemon, processes: int) -> None:
    began_at = time.monotonic()
    while daemon.log_text().count("ready sites") < processes or not space.run("ss", "-lunH", "sport = :4342").strip():
        _check(daemon, began_at)
        time.sleep(0.05)


def _check(daemon: Daemon, began_at: float) -> None:
    daemon.check()
    if time.monotonic() > began_at + _PATIENCE_S:
        raise ProcessFailed(f"the hub does not get ready\n{daemon.log_tail()}")


def _in_tree(tree: Path | None) -> list[str]:
    """The command prefix that makes a command use another checkout."""
    return [] if tree is None else ["env", "-C", str(tree), f"PYTHONPATH={tree}"]


def _measured_core(tree: Path | None, registrations: int) -> dict[str, float]:
    command = [*_in_tree(tree), *module("lispmob.hub.bench.measure_core", "--registrations", str(registrations))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    if done.returncode:
        raise ProcessFailed(f"the control plane was not measured: {done.stderr.strip()[-500:]}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _busy_s(pid: int) -> float:
    """Processor seconds of all threads (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def _family_busy_s(pid: int) -> float:
    """Processor seconds of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return sum(map(_busy_s, (pid, *map(int, children))))


def _shared(processes: int) -> str:
    address, port = SERVER
    return f"registry: {{valkey: ['{address}:{port}']}}\nworkers: {processes}\n" if processes else ""


def _configuration(directory: Path, state: Path | None, *, is_rtr: bool) -> str:
    return f"""\
sites:
  - name: all
    eids: [10.0.0.0/8]
    key: {KEY.secret.decode()}
    accept-more-specifics: yes
    max-prefixes: 1000000
    algorithms: [hmac-sha-256-128]
listen: [{HUB}]
state-file: {state or "none"}
control-socket: {directory}/hub.sock
rtr: {{enabled: {"yes" if is_rtr else "no"}}}
log: {{level: info}}
"""
