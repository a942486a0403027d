"""A real NetworkManager on a private bus, in a network namespace: it manages w0 and w1, with far ends far0 and far1."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lispmob.lab.namespace import Namespace, NamespaceSet, why_unavailable
from tests.desktop.private_bus import PrivateBus, end, private_bus, wait_for, why_no_bus

UPLINKS = ("w0", "w1")

_CONFIG = """[main]
plugins=keyfile
dhcp=internal
dns={dns}
rc-manager=unmanaged
auth-polkit=false
no-auto-default=*
[device-lab]
match-device=interface-name:w*
managed=1
{more}
"""

# NetworkManager waits for udev for ever where /sys is writable, and must not touch the host's own files.
_START = """mount -o remount,bind,ro /sys
mount -t tmpfs none /run/NetworkManager
mount -t tmpfs none /etc/NetworkManager/system-connections
{mounts}
exec NetworkManager --debug --config={config} --config-dir={nowhere} --system-config-dir={nowhere} \
  --intern-config={intern} --state-file={state} --pid-file={pid}
"""


def why_no_network_manager() -> str | None:
    """What is missing, with the remedy; None: nothing."""
    if reason := why_unavailable() or why_no_bus():
        return reason
    for tool in ("NetworkManager", "nmcli"):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install the Debian package network-manager"
    return None


class RealNetworkManager:
    """NetworkManager, its bus, and the namespace that it manages."""

    def __init__(
        self, bus: PrivateBus, namespace: Namespace, more: str = "", *, dns: str = "none", mounts: str = ""
    ) -> None:
        """`mounts`: shell lines that run in its mount namespace before it starts."""
        self.bus = bus
        self.namespace = namespace
        self._mounts = mounts
        self._service: subprocess.Popen[bytes] | None = None
        nowhere = bus.directory / "nowhere"
        nowhere.mkdir(exist_ok=True)
        for directory in ("/run/NetworkManager", "/etc/NetworkManager/system-connections"):
            Path(directory).mkdir(parents=True, exist_ok=True)
        self._config = bus.directory / "NM.conf"
        self._config.write_text(_CONFIG.format(more=more, dns=dns), encoding="ascii")

    def start(self) -> None:
        """Start it; returns when it answers."""
        directory = self.bus.directory
        script = _START.format(
            config=self._config,
            nowhere=directory / "nowhere",
            intern=directory / "intern.conf",
            state=directory / "state",
            pid=directory / "nm.pid",
            mounts=self._mounts,
        )
        self._service = self.bus.run(
            self.namespace.argv("unshare", "-m", "sh", "-ec", script), log="network-manager.log"
        )
        wait_for(lambda: self.nmcli("-t", "-f", "RUNNING", "general", must=False).strip() == "running", "it runs")

    def stop(self) -> None:
        """Stop it; returns when it is gone. It leaves the interfaces as they are."""
        if self._service is not None:
            end(self._service)
            self._service = None

    @property
    def pid(self) -> int:
        """Its process, whose mount namespace is its own."""
        assert self._service is not None
        return self._service.pid

    def nmcli(self, *arguments: str, must: bool = True) -> str:
        """The output of its command line tool."""
        done = subprocess.run(
            self.namespace.argv("nmcli", *arguments),
            env={**self.bus.environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert not must or done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def add_uplink(self, number: int, *more: str) -> str:
        """Add a connection for w<number> with an address and a gateway, not up yet; returns its name."""
        name = f"c{number}"
        settings = f"ipv4.method manual ipv4.addresses 192.168.{90 + number}.2/24 ipv4.gateway 192.168.{90 + number}.1"
        self.nmcli(
            *("con", "add", "type", "ethernet", "ifname", f"w{number}", "con-name", name),
            *settings.split(),
            *("ipv6.method", "disabled", "connection.autoconnect", "no", *more),
        )
        return name


@contextlib.contextmanager
def real_network_manager(
    directory: Path, more: str = "", *, dns: str = "none", mounts: str = ""
) -> Iterator[RealNetworkManager]:
    """A running NetworkManager."""
    with NamespaceSet() as namespaces, private_bus(directory) as bus:
        namespace = namespaces.make("desktop")
        for name in UPLINKS:
            far = name.replace("w", "far")
            namespace.run("ip", "link", "add", name, "type", "veth", "peer", "name", far)
            namespace.run("ip", "link", "set", far, "up")
        manager = RealNetworkManager(bus, namespace, more, dns=dns, mounts=mounts)
        manager.start()
        try:
            yield manager
        finally:
            manager.stop()
