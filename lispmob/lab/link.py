"""Links, addresses and routes: batches for the tool `ip`, run at once or prepared for the moment of a move."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final, TypeAlias

from lispmob.errors import KernelRefused
from lispmob.lab.namespace import Namespace

_PATIENCE_S: Final = 10.0
_URGENCY: Final = 1  # the lowest real-time priority: above all ordinary processes
_START_S: Final = 0.03  # ours: the most that `ip` takes from its start until it reads

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpInterface: TypeAlias = IPv4Interface | IPv6Interface


def apply(namespace: Namespace, lines: Iterable[str]) -> None:
    """Run `lines` as one batch of `ip` in the namespace; stops at the first failure. Raises KernelRefused."""
    batch = Batch(namespace)
    batch.begin(list(lines))
    batch.end()


def veth(
    name: str,
    peer_namespace: Namespace,
    peer: str,
    *,
    mac: str = "",
    peer_mac: str = "",
    namespace: Namespace | None = None,
) -> str:
    """The line that makes a veth cable from here, or from `namespace`, into another namespace."""
    own = (f" address {mac}" if mac else "") + (f" netns {namespace.name}" if namespace else "")
    peer_address = f" address {peer_mac}" if peer_mac else ""
    return f"link add name {name}{own} type veth peer name {peer}{peer_address} netns {peer_namespace.name}"


def address(interface: str, value: IpInterface) -> str:
    """The line that adds an address; without duplicate address detection, so that it is usable at once."""
    return f"addr replace {value} dev {interface}{' nodad' if value.version == 6 else ''}"


def default_route(interface: str, gateway: IpAddress, metric: int) -> str:
    """The line that adds a default route by `gateway`, with `metric`."""
    return f"route replace default via {gateway} dev {interface} metric {metric}"


def no_default_route(interface: str, gateway: IpAddress, metric: int) -> str:
    return f"route del default via {gateway} dev {interface} metric {metric}"


@dataclass(frozen=True, slots=True)
class Moment:
    """When a batch ran: CLOCK_MONOTONIC seconds, which all namespaces share."""

    began_at: float
    ended_at: float


class Batch:
    """An `ip -batch` that is started before and waits for its lines: a change then takes about a millisecond."""

    def __init__(self, namespace: Namespace) -> None:
        self._what = namespace.word
        self._process = subprocess.Popen(
            ["ip", "-n", namespace.name, "-batch", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

        # On a busy machine `ip` could otherwise wait longer for a processor than the move takes.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(_URGENCY))

    def begin(self, lines: Sequence[str]) -> None:
        """Write the lines and return while `ip` executes them."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.close()
        self._process.stdin = None

    def end(self) -> None:
        """Wait until all lines are executed. Raises KernelRefused with the error of the line that failed."""
        try:
            _, complaint = self._process.communicate(timeout=_PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise KernelRefused(f"{self._what}: `ip` refused a change: {complaint.strip()}")


def run_in_turn(batches: Sequence[tuple[Batch, Sequence[str]]]) -> Moment:
    """Execute prepared batches one after the other; returns when the last ran. Raises KernelRefused if one fails."""
    time.sleep(_START_S)
    began_at = time.monotonic()
    for batch, lines in batches:
        began_at = time.monotonic()
        batch.begin(lines)
        batch.end()
    return Moment(began_at, time.monotonic())
