"""A desktop whose uplinks a real NetworkManager manages: it roams by nmcli, meets portals, has a metered w2, sleeps."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lispmob.lab.process import Daemon
from tests.desktop.desktop_world import HUB, UPLINKS, DesktopWorld, Node, desktop_world
from tests.desktop.private_bus import PrivateBus, private_bus, wait_for
from tests.desktop.real_network_manager import RealNetworkManager

ROOT: Final = Path(__file__).resolve().parents[2]
SNIPPET: Final = ROOT / "packaging" / "networkmanager" / "lispmob.conf"
METERED: Final = 2
"""w2 is the tether of a phone: metered, and with the best metric."""
_CHECK: Final = f"[connectivity]\nuri=http://{HUB}/check\nresponse=free\ninterval=3600\n"
_PORTAL: Final = Path(__file__).with_name("portal.py")
_LOGIND: Final = ("org.freedesktop.login1", "/org/freedesktop/login1")


def tell_sleep(bus: PrivateBus, *, is_falling_asleep: bool) -> None:
    """Send what logind sends before and after a suspend, from a mock of it on this bus."""
    name, path = _LOGIND
    bus.gdbus(
        *("call", "--system", "--dest", name, "--object-path", path),
        *("--method", "org.freedesktop.DBus.Mock.EmitSignal"),
        *(f"{name}.Manager", "PrepareForSleep", "b", f"[<{str(is_falling_asleep).lower()}>]"),
    )


class ManagedDesktop:
    """The world, its bus, NetworkManager; and the actions of a user."""

    def __init__(self, world: DesktopWorld, bus: PrivateBus) -> None:
        self.world = world
        self.bus = bus
        self.captives = world.directory / "captives"
        self.captives.mkdir()
        command = [sys.executable, str(_PORTAL), HUB, "80", str(self.captives)]
        self.portal = Daemon("portal", world.core, command, world.directory / "portal.log")
        world.stack.callback(self.portal.stop)
        bus.mock("logind")
        self.manager = RealNetworkManager(bus, world.desk, SNIPPET.read_text("ascii") + _CHECK)
        self.manager.start()
        world.stack.callback(self.manager.stop)
        self.add_connections()

    def add_connections(self) -> None:
        """Add one connection for each uplink; none is up."""
        for number in range(UPLINKS):
            more = ("connection.metered", "yes", "ipv4.route-metric", "50") if number == METERED else ()
            self.manager.add_uplink(number, *more)

    def start(self, *first: int, more: str = "", program: str = "lispmob") -> tuple[Node, Node]:
        """Bring these uplinks up, and start the daemons."""
        for number in first:
            self.connect(number)
        return self.world.start(self.bus, more, program)

    def connect(self, number: int) -> None:
        self.manager.nmcli("con", "up", f"c{number}")

    def disconnect(self, number: int) -> None:
        self.manager.nmcli("dev", "disconnect", f"w{number}")

    def set_carrier(self, number: int, *, is_there: bool) -> None:
        """Remove or restore the carrier: NetworkManager waits some seconds before it reacts, the kernel does not."""
        self.world.core.run("ip", "link", "set", f"far{number}", "up" if is_there else "down")

    def set_portal(self, number: int, *, is_captive: bool) -> None:
        """Put a network behind its login page, or log the user in; NetworkManager checks then."""
        mark = self.captives / f"192.168.{90 + number}.2"
        if is_captive:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)
        self.check_connectivity()

    def set_internet(self, number: int, *, is_there: bool) -> None:
        """Let NetworkManager's check get through from this uplink, or not; LISP packets do in any case."""
        refuse = ("INPUT", "-s", f"192.168.{90 + number}.2", "-p", "tcp", "--dport", "80", "-j", "REJECT")
        self.world.core.run("iptables", "-D" if is_there else "-A", *refuse)
        self.check_connectivity()

    def check_connectivity(self) -> None:
        self.manager.nmcli("networking", "connectivity", "check")

    def tell_sleep(self, *, is_falling_asleep: bool) -> None:
        """Send logind's PrepareForSleep."""
        tell_sleep(self.bus, is_falling_asleep=is_falling_asleep)

    def restart(self) -> None:
        """Stop NetworkManager and start it again; it knows its connections."""
        self.manager.stop()
        self.manager.start()
        self.add_connections()


@contextlib.contextmanager
def managed_desktop(directory: Path) -> Iterator[ManagedDesktop]:
    """A desktop with NetworkManager running and no connection up."""
    with private_bus(directory) as bus, desktop_world(directory) as world:
        desktop = ManagedDesktop(world, bus)
        wait_for(lambda: "login1" in bus.gdbus(*_NAMES), "logind is there")
        yield desktop


_NAMES: Final = (
    *("call", "--system", "--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus"),
    *("--method", "org.freedesktop.DBus.ListNames"),
)
