"""Which packets a steering rule selects, and why a given flow is or is not among them; pure."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import Final

import msgspec

from lispmob.mh.app_unit import is_within_app
from lispmob.wire.address import IpAddress, IpNetwork

PROTOCOLS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmpv6": 58, "sctp": 132, "udplite": 136}
ICMP: Final = frozenset({1, 58})
# The protocols of iptables' multiport: TCP, UDP, DCCP, SCTP, UDP-Lite.
WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})
PORT_MAX: Final = 65535
DSCP_MAX: Final = 63
PORTS_PER_MATCH: Final = 15  # xt_multiport; a range counts twice
COMBINATIONS_MAX: Final = 4096  # ours: more is a mistake
ID_MAX: Final = (1 << 32) - 2  # uid_t; the last value means "no user"

# iptables accepts a name, or a prefix of one; so do we, and the kernel compares.
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,15}|[A-Za-z0-9_.@-]{0,14}\*")
_APP: Final = re.compile(r"[A-Za-z0-9_.@:+*?\[\]!-]{1,255}")
_CGROUP: Final = re.compile(r"[A-Za-z0-9_.@:+=/\\-]{1,512}")


class Span(msgspec.Struct, frozen=True):
    """Numbers from `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Flow(msgspec.Struct, frozen=True):
    """One flow to be explained. Unknown parts are None; a rule that needs one does not match.

    `came_in_by`, `kept_by`: the ifindex in its connection mark: of the uplink by which the other end began it, or that
    a rule with weights gave it. `flow_name` (in lower case), `flow_class`: of a flow to a name.
    """

    source: IpAddress
    destination: IpAddress
    protocol: int = 6
    source_port: int | None = None
    destination_port: int | None = None
    dscp: int = 0
    uid: int | None = None
    gid: int | None = None
    cgroup: str | None = None
    from_interface: str | None = None
    mark: int = 0
    came_in_by: int = 0
    kept_by: int = 0
    flow_name: str | None = None
    flow_class: str | None = None

    @property
    def is_forwarded(self) -> bool:
        """True for a forwarded packet, which came in by an interface."""
        return self.from_interface is not None


class Selector(msgspec.Struct, frozen=True):
    """Every given part has to match; of a tuple, one member. An empty selector matches everything.

    `users` and `groups` are numeric ids. `cgroup` is a path below the root of the unified hierarchy and includes all
    groups below it. `app` is a program or desktop file, by name or shell pattern, and stands for the control groups of
    the desktop for it (app_unit.py). `from_interface` is a name, or a prefix of one and `*`; it selects forwarded
    packets only, as `users`, `groups`, `cgroup` and `app` select packets of this host only. `flow_name` (a shell
    pattern) and `flow_classes` select flows to names: lispd marks those, because the kernel has no names.
    """

    destinations: tuple[IpNetwork, ...] = ()
    sources: tuple[IpNetwork, ...] = ()
    protocols: tuple[int, ...] = ()
    destination_ports: tuple[Span, ...] = ()
    source_ports: tuple[Span, ...] = ()
    dscp: tuple[int, ...] = ()
    users: tuple[Span, ...] = ()
    groups: tuple[Span, ...] = ()
    cgroup: str | None = None
    from_interface: str | None = None
    flow_name: str | None = None
    flow_classes: tuple[str, ...] = ()
    app: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an impossible selector, or one that iptables cannot express."""
        if any(not 0 <= number <= 255 for number in self.protocols):
            raise ValueError("a protocol is a number from 0 to 255")
        if self.has_ports and not (self.protocols and set(self.protocols) <= WITH_PORTS):
            raise ValueError("ports need a protocol that has them: tcp, udp, sctp, dccp (33) or udplite")
        for spans, most in ((self.destination_ports + self.source_ports, PORT_MAX), (self.users + self.groups, ID_MAX)):
            if any(not 0 <= span.first <= span.last <= most for span in spans):
                raise ValueError(f"a range goes upwards, from 0 to {most} at most")
        if any(not 0 <= value <= DSCP_MAX for value in self.dscp):
            raise ValueError(f"a DSCP is a number from 0 to {DSCP_MAX}")
        if self.from_interface is not None and not _INTERFACE.fullmatch(self.from_interface):
            raise ValueError(f"{self.from_interface}: an interface name, or the beginning of one and a final *")
        if self.cgroup is not None and (not _CGROUP.fullmatch(self.cgroup) or ".." in self.cgroup.split("/")):
            raise ValueError(f"{self.cgroup}: a path of a control group, such as user.slice/backup.service")
        if self.app is not None and not _APP.fullmatch(self.app):
            raise ValueError(f"{self.app}: the name of a program or desktop file, such as firefox")
        if self.app is not None and self.cgroup is not None:
            raise ValueError("'app' and 'cgroup' both say which processes; one of them")
        if self.combinations > COMBINATIONS_MAX:
            raise ValueError(f"the lists come to {self.combinations} combinations: {COMBINATIONS_MAX} at most")
        if self.from_interface is not None and self.is_local_only:
            raise ValueError("packets from an interface have no user, group, cgroup or app: they come from other hosts")
        if self.from_interface is not None and self.is_of_flows:
            raise ValueError("packets from an interface belong to no flow of this host")

    @property
    def has_ports(self) -> bool:
        """True when ports are given."""
        return bool(self.destination_ports or self.source_ports)

    @property
    def is_local_only(self) -> bool:
        """True when only packets of this host's own processes can match."""
        return bool(self.users or self.groups or self.cgroup is not None or self.app is not None)

    @property
    def is_of_flows(self) -> bool:
        """True when only flows to names can match: not a rule for the kernel."""
        return self.flow_name is not None or bool(self.flow_classes)

    @property
    def combinations(self) -> int:
        """The largest number of comparisons in the kernel: the product of the lists."""
        lists = (self.destinations, self.sources, self.protocols, self.dscp, self.users, self.groups)
        batches = (-(-2 * len(ports) // PORTS_PER_MATCH) for ports in (self.destination_ports, self.source_ports))
        return prod(max(1, count) for count in (*map(len, lists), *batches))

    def families(self) -> tuple[int, ...]:
        """The IP versions in which this can match."""
        return tuple(
            family
            for family in (4, 6)
            if all(
                not networks or any(network.version == family for network in networks)
                for networks in (self.destinations, self.sources)
            )
            and (not self.protocols or any(number not in ICMP or _icmp(family) == number for number in self.protocols))
        )

    def mismatch(self, flow: Flow) -> str | None:
        """The first part that does not match, in words; None when all match."""
        return next((check.why for check in self._checks(flow) if not check.fits), None)

    def _checks(self, flow: Flow) -> list[_Check]:
        ours = not flow.is_forwarded
        return [
            _Check(_within(flow.destination, self.destinations), f"goes to {flow.destination}"),
            _Check(_within(flow.source, self.sources), f"comes from {flow.source}"),
            _Check(not self.protocols or flow.protocol in self.protocols, f"is protocol {flow.protocol}"),
            _Check(_one_of(flow.destination_port, self.destination_ports), f"goes to port {flow.destination_port}"),
            _Check(_one_of(flow.source_port, self.source_ports), f"comes from port {flow.source_port}"),
            _Check(not self.dscp or flow.dscp in self.dscp, f"has DSCP {flow.dscp}"),
            _Check(not self.users or (ours and _one_of(flow.uid, self.users)), f"is of user {flow.uid}"),
            _Check(not self.groups or (ours and _one_of(flow.gid, self.groups)), f"is of group {flow.gid}"),
            _Check(self.cgroup is None or (ours and _below(flow.cgroup, self.cgroup)), f"is of cgroup {flow.cgroup}"),
            _Check(
                self.app is None or (ours and flow.cgroup is not None and is_within_app(flow.cgroup, self.app)),
                f"is of no program {self.app}",
            ),
            _Check(
                self.from_interface is None or fnmatchcase(flow.from_interface or "", self.from_interface),
                f"comes in by {flow.from_interface}" if flow.from_interface else "is of this host",
            ),
            _Check(not self.is_of_flows or flow.flow_name is not None, "is no flow to a name"),
            _Check(_is_named(flow.flow_name, self.flow_name), f"is one to {flow.flow_name}"),
            _Check(not self.flow_classes or flow.flow_class in self.flow_classes, f"is of class {flow.flow_class}"),
        ]


EVERYTHING: Final = Selector()


@dataclass(frozen=True, slots=True)
class _Check:
    fits: bool
    why: str = dataclasses.field(compare=False)


def _icmp(family: int) -> int:
    return 1 if family == 4 else 58


def _within(address: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    return not networks or any(address in network for network in networks)


def _one_of(number: int | None, spans: tuple[Span, ...]) -> bool:
    return not spans or (number is not None and any(number in span for span in spans))


def _is_named(name: str | None, pattern: str | None) -> bool:
    return pattern is None or (name is not None and fnmatchcase(name, pattern))


def _below(path: str | None, root: str) -> bool:
    if path is None:
        return False
    have, want = path.strip("/"), root.strip("/")
    return not want or have == want or have.startswith(f"{want}/")
