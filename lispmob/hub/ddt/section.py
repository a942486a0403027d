"""The section `ddt` of hub.conf: our place in the delegated database tree (RFC 8111)."""

from __future__ import annotations

from lispmob.config.eid import Eid
from lispmob.config.reader import Section
from lispmob.config.values import Address, FieldError
from lispmob.hub.ddt.policy import DdtPolicy, Delegation


class DelegationSection(Section, frozen=True, kw_only=True):
    """EID-Prefixes that others look after: DDT nodes, or Map-Servers."""

    eids: tuple[Eid, ...]
    nodes: tuple[Address, ...] = ()
    map_servers: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        if not self.eids:
            raise FieldError("eids", "at least one EID-Prefix is needed")
        if bool(self.nodes) == bool(self.map_servers):
            raise ValueError("give the addresses of those who look after it: either 'nodes' or 'map-servers'")

    def to_delegations(self) -> tuple[Delegation, ...]:
        """One for each prefix."""
        addresses = self.nodes or self.map_servers
        return tuple(Delegation(eid, addresses, bool(self.map_servers)) for eid in self.eids)


class DdtSection(Section, frozen=True, kw_only=True):
    """Our place in the tree. Without any of it there is none, and DDT is off."""

    roots: tuple[Address, ...] = ()
    authoritative: tuple[Eid, ...] = ()
    delegations: tuple[DelegationSection, ...] = ()
    peers: tuple[Address, ...] = ()

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
        if self.peers and not self.authoritative:
            raise FieldError("peers", "they share what 'authoritative' names, and that is empty")

    def to_policy(self) -> DdtPolicy:
        """As the control plane wants it."""
        delegations = tuple(delegation for section in self.delegations for delegation in section.to_delegations())
        return DdtPolicy(self.roots, self.authoritative, delegations, self.peers)
