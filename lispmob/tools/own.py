"""This host's EIDs, locators and resolvers: from lispd while it runs, otherwise from lispd.conf."""

from __future__ import annotations

import contextlib
import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from lispmob.api.client import Client, Json
from lispmob.errors import ConfigError, LispError
from lispmob.wire.address import EidPrefix, IpAddress

if TYPE_CHECKING:
    from lispmob.config.node import NodeFile

LISPD_TIMEOUT_S: Final = 1.0  # ours: lispd answers in milliseconds, and lig works without it


class OwnNode(msgspec.Struct, frozen=True):
    """Our EID-Prefixes, our locators (best first), and the resolvers to ask. `origin`: where the values come from."""

    eids: tuple[EidPrefix, ...] = ()
    locators: tuple[IpAddress, ...] = ()
    resolvers: tuple[IpAddress, ...] = ()
    origin: str = "nothing"
    why_not: str = ""
    """Why nothing is known, or ""."""

    @property
    def eid_addresses(self) -> frozenset[IpAddress]:
        """The EIDs that are addresses of this host."""
        return frozenset(eid.address for eid in self.eids if eid.mask_len == eid.network.max_prefixlen)


def own_node(socket_path: str, configuration: Path) -> OwnNode:
    """Ask lispd; without it read its configuration; without both return why nothing is known."""
    try:
        with Client(socket_path, timeout_s=LISPD_TIMEOUT_S) as client:
            return read_status(client.call("status"))
    except LispError as error:
        from_file = read_configuration(configuration)
        if from_file.eids:
            return from_file
        return OwnNode(why_not=f"{error}; and {from_file.why_not}")


def read_status(status: Json) -> OwnNode:
    """Read lispd's status. An older lispd does not list Map-Resolvers; then its Map-Servers are used."""
    eids, resolvers, locators = [], [], []
    with contextlib.suppress(KeyError, TypeError, ValueError):
        for eid in status["eids"]:
            eids.append(EidPrefix.parse(eid["prefix"]))
            resolvers += [ip_address(registration["map_server"]) for registration in eid["registrations"]]
        resolvers = [ip_address(resolver) for resolver in status.get("map_resolvers", ())] or resolvers
        locators += [
            ip_address(locator["address"]) for locator in sorted(status["locators"], key=lambda one: one["priority"])
        ]
    return OwnNode(tuple(eids), tuple(locators), tuple(dict.fromkeys(resolvers)), "lispd")


def read_configuration(path: Path) -> OwnNode:
    """Read lispd.conf, if this user may read it."""
    if not os.access(path, os.R_OK):
        what = "you may not read it" if path.exists() else "there is no such file"
        return OwnNode(why_not=f"{path}: {what}")
    from lispmob.config.node import load_node  # imported late: it takes 60 ms, and is needed only without lispd

    try:
        file = load_node(path)
    except ConfigError as error:
        return OwnNode(why_not=str(error).partition("\n")[0])
    return OwnNode(file.eids, (), _found(file).resolvers, str(path))


def _found(file: NodeFile) -> NodeFile:
    """Resolve the servers' names to addresses."""
    from lispmob.config.server_names import names_of, with_addresses

    return with_addresses(file, file, {name: _addresses_of(name) for name in names_of(file)})


def _addresses_of(name: str) -> tuple[IpAddress, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
