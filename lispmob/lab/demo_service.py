"""The services of the demonstration, started as a user starts them: lisphub, lispd, and lispctl to look at them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from lispmob.lab.link import IpAddress
from lispmob.lab.namespace import Namespace
from lispmob.lab.process import Daemon, ProcessFailed, module

CONTROL_PORT: Final = 4342
_SECRET: Final = "only-for-the-demonstration"  # noqa: S105 -- both ends live in namespaces of this machine
_LISPCTL_TIMEOUT_S: Final = 5.0
AS_A_SERVICE: Final = ("nice", "-n", "-5")  # as packaging/systemd/ has them run

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node is called in the overlay."""

    name: str
    eid4: IpAddress
    eid6: IpAddress

    @property
    def prefixes(self) -> tuple[str, str]:
        return f"{self.eid4}/32", f"{self.eid6}/128"


def node_configuration(
    identity: Identity, map_server: IpAddress, overlay: Sequence[str], directory: Path, *others: IpAddress
) -> str:
    """The text of lispd.conf for a node of the demonstration; `others` are more Map-Servers, with the same key."""
    addresses = (map_server, *others)
    servers = "".join(
        f"""\
  - address: "{address}"
    key: {_SECRET}
    algorithm: hmac-sha-256-128
"""
        for address in addresses
    )
    return f"""\
eids: [{", ".join(f'"{prefix}"' for prefix in identity.prefixes)}]
map-servers:
{servers}\
map-resolvers: [{", ".join(f'"{address}"' for address in addresses)}]
routing:
  mode: split
  overlay-prefixes: [{", ".join(f'"{prefix}"' for prefix in overlay)}]
control:
  socket: {directory / "lispd.sock"}
  group: root
dbus: no  # what the host's NetworkManager says of its wlan0 is not about ours
log:
  level: info
state-dir: {directory / "state"}
"""


def hub_configuration(identities: Sequence[Identity], addresses: Sequence[IpAddress], directory: Path) -> str:
    """The text of hub.conf: one site for each node."""
    sites = "".join(
        f"""\
  - name: {identity.name}
    eids: [{", ".join(f'"{prefix}"' for prefix in identity.prefixes)}]
    key: {_SECRET}
    algorithms: [hmac-sha-256-128]
"""
        for identity in identities
    )
    return f"""\
listen: [{", ".join(f'"{address}"' for address in addresses)}]
sites:
{sites}\
state-file: {directory / "hub.sqlite"}
control-socket: {directory / "lisphub.sock"}
"""


_ANSWERED: Final = (0, 4, 5)
"""What lispctl ends with when it has an answer: fine, degraded, not working (lispmob/problems/problem.py)."""


class Hub:
    """lisphub in its namespace."""

    def __init__(self, namespace: Namespace, configuration: str, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = _write(directory / "hub.conf", configuration)
        command = module("lispmob.hub.daemon", "-c", str(path))
        self.daemon = Daemon("lisphub", namespace, [*AS_A_SERVICE, *command], directory / "lisphub.log")

    def wait_until_listening(self, timeout_s: float) -> None:
        """Return once it has its control port. Raises ProcessFailed."""
        deadline = time.monotonic() + timeout_s
        while not _has_udp_port(self.daemon.pid, CONTROL_PORT):
            self.daemon.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"lisphub does not listen after {timeout_s} s\n{self.daemon.log_tail()}")
            time.sleep(0.02)


class Node:
    """lispd in its namespace, and lispctl to ask it.

    `program`: the module, and its first arguments. `behind`: a command that changes its surroundings, and starts it.
    """

    def __init__(
        self,
        identity: Identity,
        namespace: Namespace,
        configuration: str,
        directory: Path,
        program: Sequence[str] = ("lispmob",),
        behind: Sequence[str] = (),
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "state").mkdir(mode=0o700, exist_ok=True)
        self.identity = identity
        self.namespace = namespace
        self._socket = directory / "lispd.sock"
        self._path = _write(directory / "lispd.conf", configuration)
        command = [*AS_A_SERVICE, *behind, *module(*program, "-c", str(self._path))]
        self.daemon = Daemon(f"lispd {identity.name}", namespace, command, directory / "lispd.log")

    @property
    def socket(self) -> Path:
        """Where lispctl speaks to it."""
        return self._socket

    def lispctl(self, *command: str) -> Json | None:
        """The JSON answer of one lispctl command; None while the daemon is not up yet, or busy beyond patience."""
        line = module("lispmob.lispctl.main", "--socket", str(self._socket), *command, "--json")
        try:
            done = subprocess.run(
                self.namespace.argv(*line), capture_output=True, text=True, timeout=_LISPCTL_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode not in _ANSWERED:
            return None
        answer = json.loads(done.stdout)
        return answer if isinstance(answer, dict) else {"entries": answer}

    def reconfigure(self, configuration: str) -> None:
        """Write another configuration, and have it read. Raises ProcessFailed."""
        _write(self._path, configuration)
        if self.lispctl("reload") is None:
            raise ProcessFailed(f"{self.daemon.name}: did not take its new configuration\n{self.daemon.log_tail()}")

    def is_registered(self) -> bool:
        """True once every EID-Prefix is registered at every Map-Server."""
        status = self.lispctl("status")
        return status is not None and status.get("state") == "registered"

    def cached_prefixes(self) -> set[str]:
        """The EID-Prefixes of the map-cache."""
        cache = self.lispctl("map-cache") or {}
        return {str(entry["prefix"]) for entry in cache.get("entries", ())}


def _write(path: Path, text: str) -> Path:
    path.touch(mode=0o600)  # it holds a key
    path.write_text(text, encoding="utf-8")
    return path


def _has_udp_port(pid: int, port: int) -> bool:
    """True when a UDP socket of the process's namespace has `port`, in either family."""
    wanted = f":{port:04X}"
    for table in (Path(f"/proc/{pid}/net/udp"), Path(f"/proc/{pid}/net/udp6")):
        if table.exists() and any(line.split()[1].endswith(wanted) for line in table.read_text().splitlines()[1:]):
            return True
    return False
