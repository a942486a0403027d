"""Map-Requests made in advance, so that the datapath can ask at once when a packet has no mapping. Pure.

How it works. A Map-Request differs from the next one by its nonce, its two EIDs and, with LISP-SEC, its One-Time-Key.
So a few are made in advance, complete but for the EIDs, and handed to the datapath (`UsePrepared`). A thread of it
fills in the addresses of the packet and sends one at once; the report of the miss has its nonce. The resolver then
continues the lookup as if it had just sent that Map-Request itself (`take`).

Each is sent once. What was used is replaced after REFILL_S, so that making new ones does not delay the answer. When the
Map-Resolver or the locator to ask from change, or whether LISP-SEC is used, all are replaced (`touch`). What the
datapath sent meanwhile is not adopted, and the resolver asks again.

The count of those that the datapath still has can be too high: the report of a miss is lost when there are too many
at once, and no socket sends from an address that has just gone. A packet for which it sent none, although it should
have some, is the sign of that: all are replaced, at most once in RECOUNT_S (`_on_unsent`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, NamedTuple

from lispmob.protocol.effect import PreparedRequest, SendControl, UsePrepared
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.ip_udp import IPV4_OCTETS, IPV6_OCTETS, UDP_OCTETS
from lispmob.wire.lcaf import put_address
from lispmob.wire.map_request import EidRecord, MapRequest

PER_GROUP: Final = 3  # ours: a page whose parts come from a few new hosts
GROUPS_MAX: Final = 4  # ours: more families and Instance-IDs than most nodes have; the others ask without
REFILL_S: Final = 0.1  # ours: the answer of most Map-Resolvers has come by then
RECOUNT_S: Final = 60.0  # ours: the usual cause is a second packet to the same EID, for which nothing has to be mended
KEPT: Final = 64  # ours: replaced ones, which the datapath may have sent meanwhile
OCTETS_MAX: Final = 1024  # of a message; the datapath has no room for a longer one

_ECM_OCTETS: Final = 4
_BEFORE_SOURCE: Final = 12  # the first word of a Map-Request, and the nonce
_ZERO: Final = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


class Group(NamedTuple):
    """EIDs of which one prepared Map-Request serves as well as another."""

    family: int
    instance_id: int

    @classmethod
    def of(cls, eid: EidPrefix) -> Group:
        return cls(eid.family, eid.instance_id)


class Terms(NamedTuple):
    """How to ask at present."""

    resolver: IpAddress
    uplink: LocalLocator
    itr_rlocs: tuple[IpAddress, ...]
    is_protected: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """A Map-Request that the datapath may send, or has sent."""

    nonce: int
    group: Group
    terms: Terms
    message: SendControl
    otk: bytes | None = field(default=None, repr=False)


class Prepared:
    """The Map-Requests that the datapath has. `new_nonce` draws a nonce that no answer is expected for yet.

    `protect` makes the One-Time-Key and the AD for a nonce and a Map-Resolver (`itr_security.py`).
    """

    def __init__(self, new_nonce: Callable[[], int], protect: Callable[[int, IpAddress], tuple[bytes, bytes]]) -> None:
        self._new_nonce = new_nonce
        self._protect = protect
        self._terms: Terms | None = None
        self._groups: tuple[Group, ...] = ()
        self._ready: OrderedDict[int, Ready] = OrderedDict()  # by nonce, oldest first
        self._left: Counter[Group] = Counter()  # that the datapath has
        self._is_void = False
        self._recounted_at = -RECOUNT_S
        self._due_at: float | None = 0.0

    def wake_at(self) -> float | None:
        """When to call renew, in monotonic seconds; None: nothing has changed."""
        return self._due_at

    def touch(self) -> None:
        """How to ask may have changed."""
        self._due_at = 0.0

    def void(self) -> None:
        """The configuration has changed: none of them is valid any more, though the terms may be the same."""
        self._ready.clear()
        self._is_void = True
        self.touch()

    def take(self, nonce: int, asked: EidPrefix, now: float) -> Ready | None:
        """The datapath has sent the one with this nonce for a packet to `asked`; None if it is not known any more.

        Nonce 0: it has sent none.
        """
        if not nonce:
            self._on_unsent(asked, now)
            return None
        ready = self._ready.pop(nonce, None)
        if ready is None or ready.terms != self._terms:
            return None
        self._left[ready.group] -= 1
        at = now if not self._left[ready.group] else now + REFILL_S
        self._due_at = at if self._due_at is None else min(self._due_at, at)
        return ready

    def _on_unsent(self, asked: EidPrefix, now: float) -> None:
        """The datapath has sent none for a packet to this EID."""
        if self._left[Group.of(asked)] > 0 and now - self._recounted_at >= RECOUNT_S:
            self._recounted_at = now
            self.void()

    def renew(self, terms: Terms | None, eids: Iterable[EidPrefix], now: float) -> list[UsePrepared]:
        """Make what is missing. `terms`: how to ask now, None if that is impossible; `eids`: our own."""
        if self._due_at is None or now < self._due_at:
            return []
        self._due_at = None
        groups = tuple(dict.fromkeys(map(Group.of, eids)))[:GROUPS_MAX]
        replaces = self._is_void or (terms, groups) != (self._terms, self._groups)
        if replaces:
            self._terms, self._groups, self._is_void = terms, groups, False
            self._left.clear()
        missing = [group for group in groups for _ in range(PER_GROUP - self._left[group])] if terms else []
        made = [] if terms is None else [request for group in missing if (request := self._make(group, terms))]
        while len(self._ready) > KEPT:
            self._ready.popitem(last=False)
        return [UsePrepared(tuple(made), replaces)] if made or replaces else []

    def _make(self, group: Group, terms: Terms) -> PreparedRequest | None:
        """One Map-Request; None if it is too long."""
        nonce = self._new_nonce()
        otk, authentication = self._protect(nonce, terms.resolver) if terms.is_protected else (None, None)
        zero = _ZERO[group.family]
        eid = EidPrefix.host(zero, group.instance_id)
        source = from_prefix(eid)
        request = MapRequest(nonce, source, terms.itr_rlocs, (EidRecord.of(eid),))
        ecm = EncapsulatedControl(zero, CONTROL_PORT, zero, CONTROL_PORT, request.encode(), authentication)
        inner = _ECM_OCTETS + len(authentication or b"")
        header = (IPV4_OCTETS if group.family == 4 else IPV6_OCTETS) + UDP_OCTETS
        before_address = len(put_address(source)) - len(zero.packed)
        uplink = terms.uplink
        message = SendControl(ecm.encode(), terms.resolver, source=uplink.address, ifindex=uplink.ifindex)
        if len(message.payload) > OCTETS_MAX or not nonce:
            return None
        self._ready[nonce] = Ready(nonce, group, terms, message, otk)
        self._left[group] += 1
        source_at = inner + header + _BEFORE_SOURCE + before_address
        return PreparedRequest(nonce, group.instance_id, group.family, message, inner, source_at)
