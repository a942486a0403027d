"""Reads lispd.conf for the programs that write it: whether lispd would accept it, and which hub it registers with."""

from __future__ import annotations

from pathlib import Path

from lispmob.config.node import load_node
from lispmob.names.host_resolver import Wanted
from lispmob.names.zone import reverse_zones, served_prefixes
from lispmob.wire.address import IpAddress


def hub_of(path: Path) -> tuple[tuple[IpAddress, ...], bytes]:
    """The addresses of the Map-Servers in lispd.conf that share the first one's key, and that key.

    Raises ConfigError.
    """
    servers = load_node(path).map_servers
    if not servers:
        return (), b""
    key = servers[0].to_key().secret
    return tuple(server.address for server in servers if server.to_key().secret == key), key


def wanted_names(path: Path) -> Wanted | None:
    """What the host's resolver should ask lispd for; None where lispd answers no DNS. Raises ConfigError."""
    node = load_node(path)
    if not node.names.domain:
        return None
    reverse = reverse_zones(served_prefixes(node.routing.overlay_prefixes, node.eids))
    return Wanted(node.names.domain, reverse, node.names.port)


def check_node(path: Path) -> None:
    """Check the file as lispd would at its start. Raises ConfigError."""
    load_node(path)
