"""The cost of sealing: two datapaths with keys for each other on a cable, and user-space WireGuard for comparison."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lispmob.lab import link
from lispmob.lab.bench.pair import Pair
from lispmob.lab.bench.paths import CIPHERS, WIREGUARD
from lispmob.lab.bench.tiers import TierUnavailable
from lispmob.lab.bench.wire import CABLE, TUNNEL_MTU, Way
from lispmob.lab.namespace import Namespace
from lispmob.lab.process import Daemon, module

_WIREGUARD_PORT: Final = 51820
_WIREGUARD: Final = (IPv4Address("10.97.0.1"), IPv4Address("10.97.0.2"))
_RLOCS: Final = (IPv4Address("198.18.2.1"), IPv4Address("198.18.2.2"))
_EIDS: Final = (IPv4Address("10.96.0.1"), IPv4Address("10.96.0.2"))
_TUN: Final = "lisp0"
_EXIT_NO_CIPHER: Final = 69  # of lispmob.datapath.bench.static_pair
_PATIENCE_S: Final = 15.0


class SealedPair(Pair):
    """Two hosts on a cable of their own, and a sealed path between them. Leaving the `with` block removes them."""

    def __init__(self, directory: Path, name: str) -> None:
        """`name`: one of SEALED_PATHS. Return when packets pass in both directions.

        Raises ProcessFailed, TierUnavailable.
        """
        _require(name)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(directory, Way(name, *(_WIREGUARD if name == WIREGUARD else _EIDS)), f"{name}-")

    def check(self, count: int = 10) -> int:
        """How many of `count` pings are encrypted on the cable. Raises ProcessFailed when not all are."""
        port = _WIREGUARD_PORT if self.way.name == WIREGUARD else 4341
        return self._count(count, lambda packet: is_sealed(packet, port, self.way), "were sealed")

    def _build(self) -> None:
        self._lay_cable()
        if self.way.name == WIREGUARD:
            self._start_wireguard()
        else:
            self._start_datapaths(CIPHERS[self.way.name])
        self._wait_until(self._is_answered, "no answer", _PATIENCE_S)

    def _lay_cable(self) -> None:
        link.apply(self.a, [link.veth(CABLE, self.b, CABLE)])
        for number, space in enumerate(self._hosts):
            link.apply(
                space,
                [f"link set {CABLE} up", f"addr add {_RLOCS[number]}/24 dev {CABLE}", "link set lo up"],
            )

    def _start_datapaths(self, cipher: str) -> None:
        for number, space in enumerate(self._hosts):
            words = module("lispmob.datapath.bench.static_pair", str(number), cipher, *map(str, (*_RLOCS, *_EIDS)))
            self._start(space, number, words)
            lines = [f"addr add {_EIDS[number]}/32 dev {_TUN}", f"route add {_EIDS[1 - number]} dev {_TUN}"]
            link.apply(space, lines)

    def _start_wireguard(self) -> None:
        secrets = [self._directory / f"key-{number}" for number in (0, 1)]
        public = []
        for path, space in zip(secrets, self._hosts, strict=True):
            path.touch(mode=0o600)
            path.write_text(space.run("wg", "genkey"), encoding="ascii")
            public.append(space.run("sh", "-c", f"wg pubkey < {path}").strip())
        for number, space in enumerate(self._hosts):
            name = f"lmwg{number}"  # named uniquely, because its socket in /var/run is not in the namespace
            self._start(space, number, [WIREGUARD, "--foreground", name], is_up=partial(_is_up, name))
            far = _RLOCS[1 - number]
            peer = ("peer", public[1 - number], "allowed-ips", f"{_WIREGUARD[1 - number]}/32")
            port, endpoint = str(_WIREGUARD_PORT), f"{far}:{_WIREGUARD_PORT}"
            key = str(secrets[number])
            space.run("wg", "set", name, "private-key", key, "listen-port", port, *peer, "endpoint", endpoint)
            link.apply(space, [f"addr add {_WIREGUARD[number]}/24 dev {name}", f"link set {name} up mtu {TUNNEL_MTU}"])

    def _start(self, space: Namespace, number: int, words: list[str], is_up: Callable[[], bool] | None = None) -> None:
        daemon = Daemon(self.way.name, space, words, self._directory / f"{number}.log")
        self._run(daemon)

        def has_started() -> bool:
            if daemon.exit_code == _EXIT_NO_CIPHER:
                raise TierUnavailable(daemon.log_text().strip())
            return is_up() if is_up else "ready" in daemon.log_text()

        self._wait_until(has_started, "not ready", _PATIENCE_S)


def is_sealed(packet: bytes, port: int, way: Way) -> bool:
    """Whether it is a datagram to the port that contains neither inner address."""
    header = (packet[0] & 15) * 4
    if packet[9] != socket.IPPROTO_UDP or int.from_bytes(packet[header + 2 : header + 4], "big") != port:
        return False
    return way.near.packed not in packet[header:] and way.far.packed not in packet[header:]


def _require(name: str) -> None:
    if name == WIREGUARD and not (shutil.which(WIREGUARD) and shutil.which("wg")):
        raise TierUnavailable("the programs wireguard-go and wg are not installed")


def _is_up(name: str) -> bool:
    return Path(f"/var/run/wireguard/{name}.sock").exists()
