"""Servers that lispd.conf names by host name: the names, and the configuration with their addresses; pure.

A name stands for a server at each of its addresses, so it becomes as many entries with equal settings. A name without
an address is left out of the servers of a `NodeFile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

import msgspec

from lispmob.config.node import MapResolverSection, MapServerSection, NodeFile, ProxySection
from lispmob.config.values import HostName, Server
from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import may_be_rloc

Answers: TypeAlias = Mapping[str, tuple[IpAddress, ...]]
"""The addresses of each name, the one to be preferred first."""

_S = TypeVar("_S", MapServerSection, MapResolverSection, ProxySection)

_ROLES: Final[tuple[tuple[str, Callable[[NodeFile], Iterable[object]]], ...]] = (
    ("Map-Server", lambda file: (written_server.place for written_server in file.written_servers)),
    ("Map-Resolver", lambda file: (written_resolver.place for written_resolver in file.written_resolvers)),
    ("P-ETR", lambda file: (written_etr.place for written_etr in file.written_etrs)),
    ("P-ITR", lambda file: file.written_itrs),
    ("RTR", lambda file: file.natt.written_rtrs),
)


def names_of(file: NodeFile) -> dict[str, str]:
    """Every host name in it, with the role of its server; the most important one if there are several."""
    found: dict[str, str] = {}
    for role, places in _ROLES:
        for place in places(file):
            if isinstance(place, HostName):
                found.setdefault(str(place), role)
    return found


def is_server(address: IpAddress) -> bool:
    """True for an address that a Map-Server or Map-Resolver may have, also on this machine."""
    return may_be_rloc(address) or address.is_loopback


def with_addresses(file: NodeFile, written: NodeFile, answers: Answers) -> NodeFile:
    """`file` with the servers of `written`, at these addresses.

    A server that is listed by name and by address is one server, with the first settings. An address inside a local
    EID-Prefix is left out: a server cannot be reached through the overlay.
    """

    def places(listed: Iterable[Server], is_usable: Callable[[IpAddress], bool]) -> tuple[Server, ...]:
        found: dict[Server, None] = {}
        for place in listed:
            known = answers.get(place, ()) if isinstance(place, HostName) else ()
            usable = tuple(
                address
                for address in known
                if is_usable(address) and not any(eid.contains(address) for eid in file.eids)
            )
            found |= dict.fromkeys(usable or (place,))
        return tuple(found)

    def sections(listed: tuple[_S, ...], is_usable: Callable[[IpAddress], bool] = is_server) -> tuple[_S, ...]:
        found: dict[Server, _S] = {}
        for section in listed:
            for place in places((section.place,), is_usable):
                found.setdefault(place, msgspec.structs.replace(section, place=place))
        return tuple(found.values())

    return msgspec.structs.replace(
        file,
        written_servers=sections(written.written_servers),
        written_resolvers=sections(written.written_resolvers),
        written_etrs=sections(written.written_etrs, may_be_rloc),
        written_itrs=places(written.written_itrs, may_be_rloc),
        natt=msgspec.structs.replace(file.natt, written_rtrs=places(written.natt.written_rtrs, may_be_rloc)),
    )
