"""Our nodes behind NATs with the Map-Server, Map-Resolver and RTR of lispers.net.

Runs where it is installed: the directory of its programs in the environment variable LISPERS_NET, and its Python in
LISPERS_NET_PYTHON when that is not python3. It is slow, so patience is long. What it does differently from its drafts
is said where our code deals with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.nat import Mapping, Nat, NatGateway
from lispmob.lab.ping import ping
from lispmob.lab.process import Daemon, module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

INSTALLED = Path(os.environ.get("LISPERS_NET", "/nonexistent"))
PYTHON = os.environ.get("LISPERS_NET_PYTHON", "python3")
SUFFIX = next((one for one in (".py", ".pyc", ".pyo") if (INSTALLED / f"lisp-core{one}").exists()), "")
KEY = "interop-key"
EIDS = {"ours": ip_address("10.1.0.1"), "other": ip_address("10.1.0.2")}

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not SUFFIX, reason="lispers.net is not installed: put its directory in LISPERS_NET"),
]

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
NATS = {  # public addresses that are public for it, too
    "home": Nat(ip_address("203.0.113.31")),  # type: ignore[arg-type]
    "office": Nat(ip_address("203.0.113.32"), Mapping.ADDRESS_AND_PORT_DEPENDENT),  # type: ignore[arg-type]
}

_RULE = "#" + 77 * "-"
_PARTS = ("itr", "etr", "rtr", "map-resolver", "map-server", "ddt-node")
MAP_SERVER = f"""
lisp rtr-list {{
    address = {RTR}
}}
lisp site {{
    site-name = both
    authentication-key = {KEY}
    allowed-prefix {{
        instance-id = 0
        eid-prefix = 10.1.0.0/16
        accept-more-specifics = yes
        force-proxy-reply = yes
        force-nat-proxy-reply = yes
    }}
}}
"""
RE_ENCAPSULATOR = f"""
lisp xtr-parameters {{
    rloc-probing = yes
    nat-traversal = no
    nonce-echoing = no
    data-plane-security = no
    data-plane-logging = no
    flow-logging = no
}}
lisp map-resolver {{
    address = {SERVER}
}}
lisp map-cache {{
    prefix {{
        instance-id = 0
        eid-prefix = 10.1.0.0/16
        send-map-request = yes
    }}
}}
"""


def their_configuration(commands: str, *enabled: str) -> str:
    switches = "".join(f"    {part} = {'yes' if part in enabled else 'no'}\n" for part in _PARTS)
    account = "lisp user-account {\n    username = root\n    password = lab\n    super-user = yes\n}\n"
    head = "# lispers.net lisp.config file, last changed: never\n"
    return f"{head}{_RULE}\nlisp enable {{\n{switches}}}\n{account}{commands}{_RULE}#\n"


def our_node(eid: object, mode: str, directory: Path) -> str:
    return f"""
eids: [{eid}/32]
map-servers:
  - {{address: {SERVER}, key: {KEY}, algorithm: hmac-sha-256-128}}
natt: {{mode: {mode}, rtrs: [{RTR}], host-name: {directory.name}}}
routing: {{overlay-prefixes: [10.1.0.0/16], fallback: drop}}
control: {{socket: {directory}/lispd.sock, group: root}}
state-dir: {directory}
dbus: no
"""


class Meeting:
    """Their servers and our nodes, each in its namespace."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.directory = directory
        self.opened = opened
        self.running: list[Daemon] = []
        self.lab = opened.enter_context(Lab(TOPOLOGY))
        for network, nat in NATS.items():
            NatGateway(self.lab, network, nat)
        self.start_theirs(
            "server",
            their_configuration(MAP_SERVER, "map-server", "map-resolver"),
            ("lisp-core", "lisp-ms", "lisp-mr"),
        )
        self.start_theirs("rtr", their_configuration(RE_ENCAPSULATOR, "rtr"), ("lisp-core", "lisp-rtr"))
        time.sleep(3)  # it hands its configuration out once a second

    def start_theirs(self, host: str, configuration: str, programs: tuple[str, ...]) -> None:
        """Each in a copy of its own: it writes into the directory that it runs in."""
        home = self.directory / host
        shutil.copytree(INSTALLED, home)
        (home / "logs").mkdir(exist_ok=True)
        (home / "lisp.config").write_text(configuration)
        environment = ("LISP_ADDR_SELECT=eth0", "LISP_NO_IPTABLES=1", "LISP_PCAP_THREADS=1", "LISP_WORKER_THREADS=0")
        for program in programs:
            command = ["env", "-C", str(home), *environment, PYTHON, "-O", program + SUFFIX]
            self._start(f"their-{program}-{host}", host, [*command, "-8080"] if program == "lisp-core" else command)
            time.sleep(1)

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
            for daemon in self.running:
                daemon.check()
            with contextlib.suppress(OSError):  # the EID is no address of the host yet
                if ping(self.lab[host], EIDS[other], EIDS[host], count=3).lost == 0:
                    return True
            time.sleep(0.3)
        return False

    def speaks_lispers(self, host: str, patience_s: float = 40.0) -> bool:
        """True as soon as it is registered in this dialect: the RTR remembers for minutes who was not there."""
        line = module("lispmob.lispctl.main", "--socket", str(self.directory / host / "lispd.sock"), "netcheck")
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            done = subprocess.run(self.lab[host].argv(*line), capture_output=True, text=True, timeout=10, check=False)
            if "lispers" in done.stdout:
                time.sleep(1)  # the Map-Register left with the answer; it takes 0.1 s
                return True
            time.sleep(0.3)
        return False

    def _start(self, name: str, host: str, command: list[str]) -> None:
        self.running.append(Daemon(name, self.lab[host], command, self.directory / f"{name}.log"))
        self.opened.callback(self.running[-1].stop)


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Meeting]:
    with ExitStack() as opened:
        yield Meeting(tmp_path, opened)


def test_two_nodes_behind_nats_reach_each_other_through_their_rtr(meeting: Meeting) -> None:
    meeting.start_ours("ours", "lispers-net")
    meeting.start_ours("other", "auto")
    assert meeting.speaks_lispers("ours")
    assert meeting.speaks_lispers("other")

    assert meeting.reaches("ours", "other")
    assert meeting.reaches("other", "ours")

    time.sleep(25)  # two rounds of its RLOC-probes: it gives up who does not answer them in the data plane
    assert meeting.reaches("ours", "other", patience_s=10.0)
