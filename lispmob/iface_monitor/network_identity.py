"""The network of an interface: by its SSID, NetworkManager's connection, or its gateway; pure.

None of these is authenticated: an access point may have any name, and a gateway any link-layer address. They select
uplinks, and grant nothing.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias, cast, get_args

import msgspec

Kind: TypeAlias = Literal["any", "ssid", "connection", "gateway"]

_LINK_ADDRESS: Final = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_PREFIX: Final = re.compile(rf"({'|'.join(get_args(Kind)[1:])}):\s*(.+)")
LONGEST: Final = 255  # ours: of a pattern; an SSID has 32 octets (IEEE 802.11), a connection's name any number


class Network(msgspec.Struct, frozen=True):
    """The known identity of an interface's network. Empty strings: unknown."""

    ssid: str = ""
    connection: str = ""
    uuid: str = ""
    gateways: frozenset[str] = frozenset()
    """Link-layer addresses of the gateways, in lower case with colons."""

    def __str__(self) -> str:
        """The name for users."""
        return self.ssid or self.connection or ", ".join(sorted(self.gateways))


UNKNOWN: Final = Network()


class NetworkPattern(msgspec.Struct, frozen=True):
    """A network by a shell pattern. "any": an SSID, or a connection's name or UUID, or a gateway."""

    kind: Kind
    pattern: str

    @classmethod
    def parse(cls, text: str) -> NetworkPattern:
        """Read `Home`, `ssid:Home`, `connection:Office` or `52:54:00:12:34:56`. Raises ValueError."""
        if not 1 <= len(text) <= LONGEST or not text.isprintable():
            raise ValueError("no name of a network")
        if _LINK_ADDRESS.fullmatch(text.lower()):
            return cls("gateway", text.lower())
        found = _PREFIX.fullmatch(text)
        if found is None:
            return cls("any", text)
        kind, pattern = cast(Kind, found[1]), found[2]
        if kind == "gateway":
            pattern = pattern.lower()
            if not _LINK_ADDRESS.fullmatch(pattern):
                raise ValueError("no name of a network")
        return cls(kind, pattern)

    def matches(self, network: Network) -> bool:
        """True when the network has this name, or this gateway."""
        names = {
            "any": (network.ssid, network.connection, network.uuid),
            "ssid": (network.ssid,),
            "connection": (network.connection, network.uuid),
            "gateway": (),
        }[self.kind]
        if self.kind == "gateway":
            return self.pattern in network.gateways
        return any(name and fnmatchcase(name, self.pattern) for name in names)

    def __str__(self) -> str:
        return self.pattern if self.kind == "any" else f"{self.kind}:{self.pattern}"


def is_in(networks: tuple[NetworkPattern, ...], network: Network) -> bool:
    """True when one of the patterns matches, or when there are none."""
    return not networks or any(network_pattern.matches(network) for network_pattern in networks)
