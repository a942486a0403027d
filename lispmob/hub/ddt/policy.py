"""What a hub is told of the delegated database tree: plain values."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lispmob.hub.ddt.signatures import Signer, Verify
from lispmob.wire.address import EidPrefix, IpAddress


class Delegation(msgspec.Struct, frozen=True):
    """A part of the EID space that others look after: DDT nodes below us, or Map-Servers."""

    prefix: EidPrefix
    addresses: tuple[IpAddress, ...]
    is_map_server: bool = False
    keys: tuple[bytes, ...] = ()
    """Their public keys (SubjectPublicKeyInfo), for signatures."""


class DdtPolicy(msgspec.Struct, frozen=True):
    """Our place in the tree.

    `roots`: whom the Map-Resolver asks for EIDs of which it knows nothing; none: nobody. `authoritative`: the parts of
    the EID space that were delegated to us. `peers`: all Map-Servers, ourselves included, that hold what our sites
    register; none: we do not know of any others.
    """

    roots: tuple[IpAddress, ...] = ()
    authoritative: tuple[EidPrefix, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    peers: tuple[IpAddress, ...] = ()
    signer: Signer | None = None
    """Signs what we say as a DDT node; None: nobody does."""
    root_keys: tuple[bytes, ...] = ()
    verify: Verify | None = None
    """Referrals are followed if they are signed, from `root_keys` down; None: signatures do not count."""
    wall: Callable[[], float] = lambda: 0.0
    """Seconds since 1970, by which signatures are valid or not."""

    @property
    def is_node(self) -> bool:
        """Whether DDT Map-Requests are answered with Map-Referrals."""
        return bool(self.authoritative or self.delegations)


NO_DDT = DdtPolicy()
