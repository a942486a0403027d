"""The section `ddt` of hub.conf: our place in the delegated database tree (RFC 8111)."""

from __future__ import annotations

import time
import typing
from pathlib import Path
from typing import Annotated, Final

from lispmob.config.eid import Eid
from lispmob.config.reader import Section
from lispmob.config.values import Address, FieldError, FilePath, or_word, whole
from lispmob.crypto import rsa_signatures
from lispmob.hub.ddt.policy import DdtPolicy, Delegation
from lispmob.hub.ddt.signatures import Signer

VALID_S: Final = 7 * 86400  # ours: of a signature; it is renewed after half of that


class DelegationSection(Section, frozen=True, kw_only=True):
    """EID-Prefixes that are delegated to DDT nodes, or to Map-Servers."""

    eids: tuple[Eid, ...]
    nodes: tuple[Address, ...] = ()
    map_servers: tuple[Address, ...] = ()
    public_key_file: Annotated[Path | None, or_word("none", typing.get_args(FilePath)[1])] = None
    """Verifies their signatures; sent in referrals to them."""

    def __post_init__(self) -> None:
        if not self.eids:
            raise FieldError("eids", "at least one EID-Prefix is needed")
        if bool(self.nodes) == bool(self.map_servers):
            raise ValueError("give the addresses of those who look after it: either 'nodes' or 'map-servers'")

    def to_delegations(self) -> tuple[Delegation, ...]:
        """One for each prefix."""
        addresses = self.nodes or self.map_servers
        keys = (rsa_signatures.read_public_key(self.public_key_file),) if self.public_key_file is not None else ()
        return tuple(Delegation(eid, addresses, bool(self.map_servers), keys) for eid in self.eids)


class DdtSection(Section, frozen=True, kw_only=True):
    """Our place in the tree. Without any of these keys DDT is off."""

    roots: tuple[Address, ...] = ()
    authoritative: tuple[Eid, ...] = ()
    delegations: tuple[DelegationSection, ...] = ()
    peers: tuple[Address, ...] = ()
    signing_key_file: Annotated[Path | None, or_word("none", typing.get_args(FilePath)[1])] = None
    """The key that signs this node's answers; None: they are unsigned."""
    key_tag: Annotated[int, whole(0, 65535)] = 0
    root_key_file: Annotated[Path | None, or_word("none", typing.get_args(FilePath)[1])] = None
    """The roots' public key: only referrals signed from there down are followed; None: all are."""

    @property
    def uses_signatures(self) -> bool:
        """True when the package for them is needed."""
        files = (self.signing_key_file, self.root_key_file, *(each.public_key_file for each in self.delegations))
        return any(file is not None for file in files)

    def __post_init__(self) -> None:
        owner: set[Eid] = set()
        for number, section in enumerate(self.delegations):
            for index, eid in enumerate(section.eids):
                place = f"delegations[{number}].eids[{index}]"
                if eid in owner:
                    raise FieldError(place, f"{eid} is delegated twice")
                if eid in self.authoritative:
                    raise FieldError(place, f"{eid} is in 'authoritative' as it stands: delegate parts of it")
                owner.add(eid)
        if self.root_key_file is not None and not self.roots:
            raise FieldError("root-key-file", "whose key? give the 'roots', too")
        if self.peers and not self.authoritative:
            raise FieldError("peers", "they share what 'authoritative' names, and that is empty")

    def to_policy(self) -> DdtPolicy:
        """The policy for the control plane. Raises LispError for an unusable key file."""
        delegations = tuple(delegation for section in self.delegations for delegation in section.to_delegations())
        signer, root_keys = None, tuple[bytes, ...]()
        if self.signing_key_file is not None:
            key = rsa_signatures.SigningKey(self.signing_key_file)
            signer = Signer(key, self.key_tag, VALID_S, time.time)
        if self.root_key_file is not None:
            root_keys = (rsa_signatures.read_public_key(self.root_key_file),)
        verify = rsa_signatures.verify if root_keys else None
        return DdtPolicy(self.roots, self.authoritative, delegations, self.peers, signer, root_keys, verify, time.time)
