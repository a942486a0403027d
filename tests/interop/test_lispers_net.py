"""Our nodes behind NATs with the Map-Server, Map-Resolver and RTR of lispers.net.

Runs where it is installed: the directory of its programs in the environment variable LISPERS_NET, and its Python in
LISPERS_NET_PYTHON when that is not python3. It is slow, so timeouts are long. Where it differs from its drafts, the
part of our code that copes with it says so.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.nat import Mapping, Nat, NatGateway
from lispmob.lab.ping import ping
from lispmob.lab.process import Daemon, module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink
from tests.interop import lispers_net, traffic
from tests.interop.lispers_net import BEARABLE_MBIT_S, KEY, NEEDS_IT, OVERLAY

pytestmark = NEEDS_IT

PAUSE_S = 125.0  # once a minute it removes entries that have not been used for a minute

EIDS = {"ours": ip_address("10.1.0.1"), "other": ip_address("10.1.0.2")}
TOPOLOGY = Topology(
    networks=(
        AccessNetwork("rack", IPv4Network("198.51.100.0/24")),
        AccessNetwork("home", IPv4Network("192.168.31.0/24")),
        AccessNetwork("office", IPv4Network("192.168.32.0/24")),
    ),
    hosts=(
        Host("server", (Uplink("eth0", "rack", 10),)),
        Host("rtr", (Uplink("eth0", "rack", 11),)),
        Host("ours", (Uplink("eth0", "home"),)),
        Host("other", (Uplink("eth0", "office"),)),
    ),
)
SERVER, RTR = (TOPOLOGY.address(name, "eth0") for name in ("server", "rtr"))
NATS = {  # public addresses that it also takes for public
    "home": Nat(IPv4Address("203.0.113.31")),
    "office": Nat(IPv4Address("203.0.113.32"), Mapping.ADDRESS_AND_PORT_DEPENDENT),
}


def our_node(eid: object, mode: str, directory: Path) -> str:
    return f"""
eids: [{eid}/32]
map-servers:
  - {{address: {SERVER}, key: {KEY}, algorithm: hmac-sha-256-128}}
natt: {{mode: {mode}, rtrs: [{RTR}], host-name: {directory.name}}}
routing: {{overlay-prefixes: [{OVERLAY}], fallback: drop}}
control: {{socket: {directory}/lispd.sock, group: root}}
state-dir: {directory}
dbus: no
"""


class Meeting:
    """Their servers and our nodes, each in its namespace."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.directory = directory
        self.running: dict[str, Daemon] = {}
        self.lab = opened.enter_context(Lab(TOPOLOGY))
        self.nats = {network: NatGateway(self.lab, network, nat) for network, nat in NATS.items()}
        opened.callback(self.close)
        lispers_net.install(directory / "server", lispers_net.map_server(IPv4Address(str(RTR))))
        lispers_net.install(directory / "rtr", lispers_net.re_encapsulator(IPv4Address(str(SERVER))))
        self.start_theirs("server", "lisp-ms", "lisp-mr")
        self.start_theirs("rtr", "lisp-rtr")

    def start_theirs(self, host: str, *programs: str) -> None:
        lispers_net.start(
            lambda program, line: self._start(f"{program}-{host}", host, line), self.directory / host, *programs
        )

    def stop_theirs(self, host: str) -> None:
        for name in [name for name in self.running if name.startswith("lisp-") and name.endswith(host)][::-1]:
            self.running.pop(name).stop()

    def start_ours(self, host: str, mode: str) -> None:
        directory = self.directory / host
        directory.mkdir()
        path = directory / "lispd.conf"
        path.touch(mode=0o600)
        path.write_text(our_node(EIDS[host], mode, directory))
        self._start(host, host, module("lispmob", "-c", str(path)))

    def reaches(self, host: str, other: str, patience_s: float = 60.0) -> bool:
        """True as soon as three pings in a row are answered."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(OSError):  # the EID is no address of the host yet
                if ping(self.lab[host], EIDS[other], EIDS[host], count=3).lost == 0:
                    return True
            time.sleep(0.3)
        return False

    def reach_each_other(self, patience_s: float = 60.0) -> bool:
        return self.reaches("ours", "other", patience_s) and self.reaches("other", "ours", patience_s)

    def speaks_lispers(self, host: str, patience_s: float = 40.0) -> bool:
        """True once it is registered in this dialect: the RTR remembers for minutes that a node was not registered."""
        line = module("lispmob.lispctl.main", "--socket", str(self.directory / host / "lispd.sock"), "netcheck")
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            done = subprocess.run(self.lab[host].argv(*line), capture_output=True, text=True, timeout=10, check=False)
            if "lispers" in done.stdout:
                time.sleep(1)  # the Map-Register left with the answer, which takes 0.1 s
                return True
            time.sleep(0.3)
        return False

    def check(self) -> None:
        for program in self.running.values():
            program.check()

    def close(self) -> None:
        for program in reversed(self.running.values()):
            program.stop()

    def _start(self, name: str, host: str, command: list[str]) -> None:
        self.running[name] = Daemon(name, self.lab[host], command, self.directory / f"{name}.log")


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Meeting]:
    with ExitStack() as opened:
        made = Meeting(tmp_path, opened)
        made.start_ours("ours", "lispers-net")
        made.start_ours("other", "auto")
        assert made.speaks_lispers("ours")
        assert made.speaks_lispers("other")
        assert made.reach_each_other()
        yield made


def test_two_nodes_behind_nats_talk_through_their_rtr_and_stay_reachable(
    meeting: Meeting, record_property: Callable[[str, object], None]
) -> None:
    ours, other = meeting.lab["ours"], meeting.lab["other"]
    own, theirs = (str(EIDS[host]) for host in ("ours", "other"))
    with traffic.answering(ours, own), traffic.answering(other, theirs):
        assert traffic.answered(ours, own, theirs) == traffic.QUESTIONS
        assert traffic.answered(other, theirs, own) == traffic.QUESTIONS
    speeds = traffic.mbit_s(ours, other, theirs, own, 2), traffic.mbit_s(other, ours, own, theirs, 2)
    record_property("Mbit/s", speeds)
    assert min(speeds) > BEARABLE_MBIT_S

    time.sleep(25)  # two rounds of its RLOC-probes: it stops using locators that do not answer in the data plane
    assert meeting.reaches("ours", "other", patience_s=10.0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["nat forgets", "nat is renumbered", "map-server", "rtr"])
def test_two_nodes_behind_nats_reach_each_other_again_when_this_happens(
    meeting: Meeting, what: str, record_property: Callable[[str, object], None]
) -> None:
    match what:
        case "nat forgets":
            meeting.nats["home"].reboot()
        case "nat is renumbered":
            meeting.nats["home"].renumber(IPv4Address("203.0.113.41"))
        case "map-server":
            meeting.stop_theirs("server")
            meeting.start_theirs("server", "lisp-ms", "lisp-mr")
        case "rtr":
            meeting.stop_theirs("rtr")
            meeting.start_theirs("rtr", "lisp-rtr")
    began_at = time.monotonic()

    assert meeting.reach_each_other(90.0)
    record_property("back after s", round(time.monotonic() - began_at, 1))


@pytest.mark.timeout(400)
def test_when_both_of_theirs_were_restarted_our_nodes_reach_each_other_again_after_a_pause(
    meeting: Meeting, record_property: Callable[[str, object], None]
) -> None:
    """Its RTR asks before they have registered again, and caches the negative answer while packets go there."""
    meeting.stop_theirs("rtr")
    meeting.stop_theirs("server")
    meeting.start_theirs("server", "lisp-ms", "lisp-mr")
    meeting.start_theirs("rtr", "lisp-rtr")
    is_there_at_once = meeting.reaches("ours", "other", 5.0) and meeting.reaches("other", "ours", 5.0)

    if not is_there_at_once:
        time.sleep(PAUSE_S)
    began_at = time.monotonic()

    assert meeting.reach_each_other(30.0)
    record_property("at once", is_there_at_once)
    record_property("after the pause s", round(time.monotonic() - began_at, 1))
