"""Two hosts on a cable, and the paths between them to compare, which all exist at the same time."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, Protocol

from lispmob.closing import Closing
from lispmob.lab import link
from lispmob.lab.bench import tiers
from lispmob.lab.bench.paths import AUTO, NIC, NOSEG, cable_of, kind_of
from lispmob.lab.demo_service import Identity, Node
from lispmob.lab.link import IpAddress
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.ping import ping
from lispmob.lab.process import Daemon, ProcessFailed

CABLE: Final = "eth0"
TUNNEL_MTU: Final = 1440  # of every tunnel: they are compared with equal packets
PORTS: Final = {"vxlan": 4789, "tun-plain": 4351, "tun": 4341, "ebpf": 4341, AUTO: 4341}

_HOSTS: Final = ("a", "b")
_RLOCS: Final = (IPv4Address("198.18.0.1"), IPv4Address("198.18.0.2"))
_VXLAN: Final = (IPv4Address("10.98.0.1"), IPv4Address("10.98.0.2"))
_PLAIN: Final = (IPv4Address("10.99.0.1"), IPv4Address("10.99.0.2"))
_NODES: Final = (
    Identity("a", IPv4Address("10.1.0.1"), IPv6Address("2001:db8:e1d::1")),
    Identity("b", IPv4Address("10.1.0.2"), IPv6Address("2001:db8:e1d::2")),
)
_TUNNEL_OFFLOADS: Final = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-udp-segmentation")
_NIC: Final = {"gro": "on", **dict.fromkeys(_TUNNEL_OFFLOADS, "off")}
_PATIENCE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Way:
    """A path from a to b, by the addresses of its ends."""

    name: str
    near: IpAddress
    far: IpAddress

    @property
    def kind(self) -> str:
        return kind_of(self.name)


class Pair(Protocol):
    """Two hosts; the measured traffic goes from `a` to `b`."""

    @property
    def a(self) -> Namespace: ...
    @property
    def b(self) -> Namespace: ...


class Wire(Closing):
    """A cable with the nodes of one tier, and all references. Leaving the `with` block removes it."""

    def __init__(self, directory: Path, tier: str = "tun", *, has_references: bool = True) -> None:
        """`directory` is for configurations, sockets and logs. Raises KernelRefused, ProcessFailed, TierUnavailable."""
        self.nodes: list[Node] = []
        self.tier = tier
        self._is_nic = tier == AUTO  # from the start: a node checks the offloads of its interface
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open = contextlib.ExitStack()
        self._spaces = self._open.enter_context(NamespaceSet(f"{tier}-"))
        try:
            self.a, self.b = (self._spaces.make(f"bench-{host}") for host in _HOSTS)
            self._lay_cable()
            if self._is_nic:
                self._set_offloads(_NIC)
            if has_references:
                self._add_vxlan()
                self._add_plain()
            self._add_nodes()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything. Idempotent."""
        self._open.close()

    def path(self, name: str) -> Way:
        """A path by its name; wait for it with `settle`."""
        references = {"veth": _RLOCS, "vxlan": _VXLAN, "tun-plain": _PLAIN}
        return Way(name, *references.get(kind_of(name), (_NODES[0].eid4, _NODES[1].eid4)))

    def settle(self, path: Way) -> None:
        """Return when packets come back over the path. Raises ProcessFailed."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers(path):
            for node in self.nodes:
                node.daemon.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{path.name}: no answer from {path.far}\n{self.nodes[0].daemon.log_tail()}")

    def _answers(self, path: Way) -> bool:
        try:
            return not ping(self.a, path.far, path.near, count=1, timeout_s=0.3).lost
        except OSError:  # no address yet: the node is still starting
            time.sleep(0.05)
            return False

    @contextlib.contextmanager
    def offloads(self, path: Way) -> Iterator[None]:
        """Set the cable's offloads as the path's name says: all that veth supports, or fewer.

        -noseg: no segmentation of tunnels. -nic: as a laptop's network card, no segmentation of tunnels, and the
        receiver coalesces packets (GRO).
        """
        wanted = {NOSEG: dict.fromkeys(_TUNNEL_OFFLOADS, "off"), NIC: _NIC}.get(cable_of(path.name), {})
        if not wanted or self._is_nic:
            yield
            return
        self._set_offloads(wanted)
        try:
            yield
        finally:
            self._set_offloads({"gro": "off", **dict.fromkeys(_TUNNEL_OFFLOADS, "on")})

    def _set_offloads(self, wanted: dict[str, str]) -> None:
        for space in (self.a, self.b):
            space.run("ethtool", "-K", CABLE, *(word for feature in wanted.items() for word in feature))

    def _lay_cable(self) -> None:
        link.apply(self.a, [link.veth(CABLE, self.b, CABLE)])
        for space, own, other in ((self.a, *_RLOCS), (self.b, _RLOCS[1], _RLOCS[0])):
            lines = [f"link set {CABLE} up", f"addr add {own}/24 dev {CABLE}"]
            link.apply(space, [*lines, f"route add default via {other} dev {CABLE}"])

    def _add_vxlan(self) -> None:
        for space, number in ((self.a, 0), (self.b, 1)):
            ends = f"local {_RLOCS[number]} remote {_RLOCS[1 - number]}"
            link.apply(
                space,
                [
                    f"link add vx0 mtu {TUNNEL_MTU} type vxlan id 7 dstport {PORTS['vxlan']} {ends} dev {CABLE}",
                    f"addr add {_VXLAN[number]}/24 dev vx0",
                    "link set vx0 up",
                ],
            )

    def _add_plain(self) -> None:
        program = self._directory / "plain"
        source = Path(__file__).with_name("plain.c")
        command = ["gcc", "-O2", "-pthread", "-o", str(program), str(source)]
        built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if built.returncode:
            raise ProcessFailed(f"the plain TUN loop does not compile: {built.stderr.strip()}")
        for space, number in ((self.a, 0), (self.b, 1)):
            words = ["tp0", str(_RLOCS[number]), str(_RLOCS[1 - number]), str(PORTS["tun-plain"])]
            log = self._directory / f"plain-{number}.log"
            daemon = Daemon("plain", space, [str(program), *words], log)
            self._open.callback(daemon.stop)
            _wait_for_word(daemon, log)
            up = [f"addr add {_PLAIN[number]}/24 dev tp0", f"link set tp0 up mtu {TUNNEL_MTU}"]
            link.apply(space, up)

    def _add_nodes(self) -> None:
        for number, space in enumerate((self.a, self.b)):
            directory = self._directory / _HOSTS[number]
            text = _configuration(number, directory) + tiers.chosen(self.tier)
            node = Node(_NODES[number], space, text, directory)
            self._open.callback(node.daemon.stop)
            self.nodes.append(node)

    def require_tier(self) -> None:
        """Raise TierUnavailable when the nodes do not use the tier of this cable."""
        for node in self.nodes:
            tiers.require(node, self.tier)


def _wait_for_word(daemon: Daemon, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while "ready" not in log.read_text(encoding="utf-8"):
        daemon.check()
        if time.monotonic() > deadline:
            raise ProcessFailed(f"plain is not ready\n{daemon.log_tail()}")
        time.sleep(0.02)


def _configuration(number: int, directory: Path) -> str:
    """lispd.conf of a node with static mappings: only the datapath is measured."""
    own, other = _NODES[number], _NODES[1 - number]
    mappings = "".join(
        f'    - {{prefix: "{prefix}", locators: ["{_RLOCS[1 - number]}"]}}\n' for prefix in other.prefixes
    )
    return f"""\
eids: [{", ".join(f'"{prefix}"' for prefix in own.prefixes)}]
map-servers: []
map-cache:
  static:
{mappings}\
uplinks: [{{name: {CABLE}}}, {{name: "*", use: no}}]
routing: {{mode: split, overlay-prefixes: ["10.1.0.0/16", "2001:db8:e1d::/48"], fallback: drop}}
tun: {{mtu: {TUNNEL_MTU}}}
control: {{socket: {directory / "lispd.sock"}, group: root}}
state-dir: {directory / "state"}
"""


def whole_cpu_s() -> float:
    """Seconds that all processors together have been busy since boot (/proc/stat)."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = (int(field) for field in fields)
    return (user + nice + system + irq + softirq) / 100  # USER_HZ
