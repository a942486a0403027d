"""Relayed registers on their way to another Map-Server: kept until it answers, or for some seconds. Pure.

Nothing here is authenticated, so the state is bounded, and no sender can exclude others: if there are too many of one
sender, of one network, or in all, the oldest of just those is evicted. The Map-Server answers within a round trip, so
even in a flood that it survives, the newest are still there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, TypeAlias

import msgspec

from lispmob.hub.map_server.asker_limits import network_of
from lispmob.wire.address import IpAddress

PENDING_S: Final = 5.0  # ours: the Map-Server answers within seconds or not at all (OOR's RTR: 2 s)
PENDING_LIMIT: Final = 8192
PER_NETWORK: Final = 2048  # ours: one public address may stand for many nodes
PER_SENDER: Final = 64  # ours: one address and port is one node, with a few EIDs
_FIXED_OCTETS: Final = 16  # up to the authentication data (RFC 9301, 5.6)
_HAS_SITE_BIT: Final = 0x02  # I, in the first octet: xTR-ID and Site-ID stand at the end
_SITE_ID_OCTETS: Final = 8
_SITE_OCTETS: Final = 24

RegisterKey: TypeAlias = tuple[bytes, int]
"""xTR-ID and nonce. The MAC covers both, so a copy of the message has the same."""


class Pending(msgspec.Struct, frozen=True):
    """A register on its way: its source gets nothing but the answer."""

    message: bytes
    rloc: IpAddress
    address: IpAddress
    port: int
    rtr: IpAddress
    server: IpAddress
    at: float


class PendingRegisters:
    """By xTR-ID and nonce. The first one with them is the sender: a copy from elsewhere changes nothing."""

    def __init__(self) -> None:
        self._pending: OrderedDict[RegisterKey, Pending] = OrderedDict()
        self._by_nonce: dict[int, dict[RegisterKey, None]] = {}
        self._groups: dict[Hashable, OrderedDict[RegisterKey, None]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def awaits(self, nonce: int) -> bool:
        """True when a register with this nonce is pending."""
        return nonce in self._by_nonce

    def put(self, key: RegisterKey, pending: Pending, now: float) -> bool:
        """Store a register; False if the same one is pending already."""
        self._forget_old(now)
        if key in self._pending:
            return False
        for group, limit in zip(_groups(pending), (PER_SENDER, PER_NETWORK), strict=True):
            members = self._groups.get(group)
            if members is not None and len(members) >= limit:
                self._drop(next(iter(members)))
        if len(self._pending) >= PENDING_LIMIT:
            self._drop(next(iter(self._pending)))
        self._pending[key] = pending
        self._by_nonce.setdefault(key[1], {})[key] = None
        for group in _groups(pending):
            self._groups.setdefault(group, OrderedDict())[key] = None
        return True

    def find(self, nonce: int, rloc: IpAddress, server: IpAddress, now: float) -> list[tuple[RegisterKey, Pending]]:
        """The registers that an answer of this Map-Server with this nonce, for this private RLOC, may be about."""
        self._forget_old(now)
        found = [(key, self._pending[key]) for key in self._by_nonce.get(nonce, ())]
        return [(key, one) for key, one in found if one.rloc == rloc and one.server == server]

    def take(self, key: RegisterKey) -> None:
        """It was answered."""
        self._drop(key)

    def _forget_old(self, now: float) -> None:
        while self._pending:
            key, oldest = next(iter(self._pending.items()))
            if now - oldest.at < PENDING_S:
                return
            self._drop(key)

    def _drop(self, key: RegisterKey) -> None:
        pending = self._pending.pop(key)
        same = self._by_nonce[key[1]]
        del same[key]
        if not same:
            del self._by_nonce[key[1]]
        for group in _groups(pending):
            members = self._groups[group]
            del members[key]
            if not members:
                del self._groups[group]


def _groups(pending: Pending) -> tuple[Hashable, Hashable]:
    return (pending.address, pending.port), network_of(pending.address)


def register_key(message: bytes) -> RegisterKey | None:
    """xTR-ID and nonce of a Map-Register, read in place; None without an xTR-ID, which an RTR needs."""
    if len(message) < _FIXED_OCTETS + _SITE_OCTETS or not message[0] & _HAS_SITE_BIT:
        return None
    xtr_id = message[-_SITE_OCTETS:-_SITE_ID_OCTETS]
    return (xtr_id, int.from_bytes(message[4:12])) if any(xtr_id) else None
