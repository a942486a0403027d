"""A hub's configuration in the delegated database tree: plain values."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lispmob.hub.ddt.signatures import Signer, Verify
from lispmob.wire.address import EidPrefix, IpAddress


class Delegation(msgspec.Struct, frozen=True):
    """A delegated part of the EID space: to DDT nodes below us, or to Map-Servers."""

    prefix: EidPrefix
    addresses: tuple[IpAddress, ...]
    is_map_server: bool = False
    keys: tuple[bytes, ...] = ()
    """Their public keys (SubjectPublicKeyInfo), for signatures."""


class DdtPolicy(msgspec.Struct, frozen=True):
    """Our place in the tree.

    `roots`: where the Map-Resolver starts for unknown EIDs; empty: it does not ask. `authoritative`: the parts of the
    EID space that are delegated to us. `peers`: all Map-Servers, including us, for the registrations of our sites;
    empty: no others are known.
    """

    roots: tuple[IpAddress, ...] = ()
    authoritative: tuple[EidPrefix, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    peers: tuple[IpAddress, ...] = ()
    signer: Signer | None = None
    """Signs our answers as a DDT node; None: they are unsigned."""
    root_keys: tuple[bytes, ...] = ()
    verify: Verify | None = None
    """Follow only signed referrals, from `root_keys` down; None: ignore signatures."""
    wall: Callable[[], float] = lambda: 0.0
    """Seconds since 1970, for the validity of signatures."""

    @property
    def is_node(self) -> bool:
        """Whether DDT Map-Requests are answered with Map-Referrals."""
        return bool(self.authoritative or self.delegations)


NO_DDT = DdtPolicy()
