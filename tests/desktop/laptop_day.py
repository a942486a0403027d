"""A day of a laptop, compressed: a seeded list of its user's actions, and what must be true between them."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from lispmob.errors import KernelRefused
from tests.desktop.desktop_world import UPLINKS, Node, used
from tests.desktop.managed_desktop import ManagedDesktop

_LOOK_EVERY: Final = 10
_OFFLINE_S: Final = 0.4
"""How long the laptop has no network at most: TCP waits for seconds, and its timers double."""


class LaptopDay:
    """Does one thing after the other; knows which uplinks there should be."""

    def __init__(self, desktop: ManagedDesktop, desk: Node, seed: int) -> None:
        self._desktop = desktop
        self._desk = desk
        self._random = random.Random(seed)
        self._connected = {0, 1}
        self._captive: set[int] = set()
        self._has_vpn = False
        self._has_docker = False
        self.done: Counter[str] = Counter()
        self.resident: list[int] = []
        self._deeds: tuple[tuple[int, Callable[[], None]], ...] = (
            (30, self._roam),
            (12, self._tether),
            (15, self._wander_out_of_reach),
            (10, self._portal),
            (8, self._sleep),
            (8, self._vpn),
            (5, self._docker),
            (5, self._flush_of_rules),
            (2, self._airplane_mode),
            (2, self._restart_of_network_manager),
        )

    @property
    def expected(self) -> set[str]:
        """The uplinks that must be in use."""
        return {f"w{number}" for number in self._connected - self._captive}

    def live(self, moves: int) -> None:
        """Do so many things."""
        weights = [weight for weight, _ in self._deeds]
        for number in range(moves):
            (_, deed), *_ = self._random.choices(self._deeds, weights)
            deed()
            self.done[deed.__name__.strip("_").replace("_", " ")] += 1
            time.sleep(self._random.uniform(0.0, 0.15))
            if number % _LOOK_EVERY == _LOOK_EVERY - 1:
                self.look()

    def look(self) -> None:
        """Check what must be true between any two actions, a moment after each."""
        self._desk.wait_until(
            lambda status: set(used(status)) == self.expected and status["state"] == "registered",
            f"registered with {self.expected}",
        )
        self.resident.append(self._desk.daemon.resident_bytes())

    def come_home(self) -> None:
        """Return to the state of the morning."""
        for number in sorted(self._captive):
            self._log_in(number)
        if self._has_vpn:
            self._vpn()
        if self._has_docker:
            self._docker()
        for number in (0, 1):
            self._connect(number)
        if 2 in self._connected:
            self._disconnect(2)
        self.look()

    # --- what its user does

    def _roam(self) -> None:
        """Roam from one Wi-Fi to the other; sometimes both are there for a while."""
        number = self._random.choice((0, 1))
        if number not in self._connected:
            self._connect(number)
        elif len(self._connected - self._captive) > 1 or number in self._captive:
            self._disconnect(number)
        else:
            other = 1 - number
            if other in self._captive:
                self._log_in(other)
            self._disconnect(number)
            self._connect(other)

    def _tether(self) -> None:
        if 2 not in self._connected:
            self._connect(2)
        elif self._connected - self._captive - {2}:
            self._disconnect(2)

    def _wander_out_of_reach(self) -> None:
        number = self._random.choice(sorted(self._connected))
        self._desktop.set_carrier(number, is_there=False)
        time.sleep(self._random.uniform(0.05, _OFFLINE_S))
        self._desktop.set_carrier(number, is_there=True)

    def _portal(self) -> None:
        number = self._random.choice((0, 1))
        if number in self._captive:
            self._log_in(number)
        elif number in self._connected and len(self._connected - self._captive) > 1:
            self._desktop.set_portal(number, is_captive=True)
            self._captive.add(number)

    def _sleep(self) -> None:
        self._desktop.tell_sleep(is_falling_asleep=True)
        numbers = sorted(self._connected)
        for number in numbers:
            self._desktop.set_carrier(number, is_there=False)
        time.sleep(0.1)
        self._desktop.tell_sleep(is_falling_asleep=False)
        for number in numbers:
            self._desktop.set_carrier(number, is_there=True)

    def _vpn(self) -> None:
        """Act as OpenVPN: a tunnel, and two routes that outrank the default route without replacing it."""
        run = self._desktop.world.desk.run
        self._has_vpn = not self._has_vpn
        if not self._has_vpn:
            run("ip", "link", "del", "vpn0")
            return
        run("ip", "tuntap", "add", "vpn0", "mode", "tun")
        run("ip", "addr", "add", "10.8.0.2/24", "dev", "vpn0")
        run("ip", "link", "set", "vpn0", "up")
        for half in ("0.0.0.0/1", "128.0.0.0/1"):
            run("ip", "route", "add", half, "dev", "vpn0")

    def _docker(self) -> None:
        run = self._desktop.world.desk.run
        self._has_docker = not self._has_docker
        masquerade = ("POSTROUTING", "-s", "172.17.0.0/16", "!", "-o", "docker0", "-j", "MASQUERADE")
        if not self._has_docker:
            run("iptables", "-t", "nat", "-D", *masquerade)
            run("ip", "link", "del", "docker0")
            return
        run("ip", "link", "add", "docker0", "type", "bridge")
        run("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
        run("ip", "link", "set", "docker0", "up")
        run("iptables", "-t", "nat", "-A", *masquerade)

    def _flush_of_rules(self) -> None:
        """Act as systemd-networkd on rules that are not its own (ManageForeignRoutingPolicyRules=yes)."""
        run = self._desktop.world.desk.run
        for _ in range(20):
            with contextlib.suppress(KernelRefused):  # lispd changes rules while `ip` lists them
                run("ip", "rule", "flush")
                break
        for priority, table in (("32766", "main"), ("32767", "default")):
            run("ip", "rule", "add", "priority", priority, "table", table)

    def _airplane_mode(self) -> None:
        self._desktop.manager.nmcli("networking", "off")
        time.sleep(_OFFLINE_S / 2)
        self._desktop.manager.nmcli("networking", "on")
        for number in sorted(self._connected):
            self._connect(number)

    def _restart_of_network_manager(self) -> None:
        self._desktop.restart()
        for number in range(UPLINKS):
            if number in self._connected:
                self._connect(number)

    def _log_in(self, number: int) -> None:
        self._desktop.set_portal(number, is_captive=False)
        self._captive.discard(number)

    def _connect(self, number: int) -> None:
        self._desktop.connect(number)
        self._connected.add(number)
        if self._captive:
            self._desktop.check_connectivity()

    def _disconnect(self, number: int) -> None:
        self._desktop.disconnect(number)
        self._connected.discard(number)
