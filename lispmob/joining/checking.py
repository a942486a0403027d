"""Reads lispd.conf for who writes one: whether lispd would take it, and whom it registers with."""

from __future__ import annotations

from pathlib import Path

from lispmob.config.node import load_node
from lispmob.wire.address import IpAddress


def hub_of(path: Path) -> tuple[tuple[IpAddress, ...], bytes]:
    """The addresses of the Map-Servers in lispd.conf that have the key of the first one, and that key.

    Raises ConfigError.
    """
    servers = load_node(path).map_servers
    if not servers:
        return (), b""
    key = servers[0].to_key().secret
    return tuple(server.address for server in servers if server.to_key().secret == key), key


def check_node(path: Path) -> None:
    """Raises ConfigError for what lispd would not start with."""
    load_node(path)
