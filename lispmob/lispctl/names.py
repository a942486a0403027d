"""Names of hosts and networks from the resolver, within a time limit."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

PATIENCE_S: Final = 1.0  # ours: the limit for all names together, when the resolver does not answer
NETWORKS: Final = "/etc/networks"

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(name: str, family: int | None) -> Address | None:
    """The first address of a host, of this IP version if one is given; None when there is no answer."""
    wanted = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}[family]
    try:
        found = socket.getaddrinfo(name, None, wanted, socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    texts = [str(place[4][0]) for place in found]
    return next((ipaddress.ip_address(text) for text in texts if "%" not in text), None)


def network_of(name: str, path: str = NETWORKS) -> ipaddress.IPv4Network | None:
    """A network by its name (networks(5)), as wide as its zeros at the end leave it."""
    return {known: network for network, names in _networks(path) for known in names}.get(name)


def name_of_network(network: ipaddress.IPv4Network | ipaddress.IPv6Network, path: str = NETWORKS) -> str | None:
    """The name of a network (networks(5))."""
    return _network_names(path).get(network)


@lru_cache(1)
def _network_names(path: str) -> dict[ipaddress.IPv4Network | ipaddress.IPv6Network, str]:
    """The first name of each network; the file is read once, since a table may look up a hundred thousand."""
    return {network: names[0] for network, names in reversed(_networks(path))}


def _networks(path: str) -> list[tuple[ipaddress.IPv4Network, list[str]]]:
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                words = line.split("#")[0].split()
                if len(words) >= 2 and (network := _classless(words[1])) is not None:
                    found.append((network, [words[0], *words[2:]]))
    except OSError:
        return []
    return found


def _classless(text: str) -> ipaddress.IPv4Network | None:
    parts = text.split(".")
    while len(parts) > 1 and parts[-1] == "0":
        parts.pop()
    try:
        return ipaddress.IPv4Network(f"{'.'.join(parts + ['0'] * (4 - len(parts)))}/{8 * len(parts)}")
    except ValueError:
        return None


class Names:
    """Finds names for addresses. All queries together take at most PATIENCE_S; later addresses stay numbers."""

    def __init__(self, look: Callable[[str], str | None] | None = None, patience_s: float = PATIENCE_S) -> None:
        self._look = look or _name_of
        self._left_s = patience_s
        self._known: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        """The name of a host; its address when no name is found in time."""
        if address not in self._known:
            self._known[address] = self._asked(address) or address
        return self._known[address]

    def _asked(self, address: str) -> str | None:
        from time import monotonic

        if self._left_s <= 0:
            return None
        found: list[str | None] = []
        began = monotonic()
        asker = threading.Thread(target=lambda: found.append(self._look(address)), daemon=True)
        asker.start()
        asker.join(self._left_s)
        self._left_s -= monotonic() - began
        return found[0] if found else None


def _name_of(address: str) -> str | None:
    try:
        name = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except OSError:
        return None
    return name if name.isprintable() else None
