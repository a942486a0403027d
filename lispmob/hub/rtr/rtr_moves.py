"""Bindings that move: an uplink that was confirmed at one place registers from another (RTR). Pure.

The MAC of a Map-Register does not cover its source: a copy sent from elsewhere looks like a node whose NAT has changed.
So the old place stays in use until the new one has answered; if the node had said that the uplink failed there, neither
is used until then.

1. A verified register comes from another address or port. The RTR asks for another register there (by an SMR).
2. Another register for the same EID-Prefix from the same place is the answer: the bindings move there.
3. The same register again, from the old place: the node is still there, and the first one was the copy. The move is
   undone, even if it was confirmed meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from lispmob.hub.rtr.nat_binding import Binding
from lispmob.protocol.agenda import Agenda
from lispmob.wire.address import EidPrefix, IpAddress

ASK_AT_S: Final = (0.0, 0.4, 1.0, 2.0)  # ours: when the new place is asked, after the register
LIFETIME_S: Final = 150.0  # a node that cannot be asked registers again on its own after two minutes at most
LIMIT: Final = 4096

UplinkKey: TypeAlias = tuple[bytes, IpAddress]
"""xTR-ID and private RLOC."""
PlaceKey: TypeAlias = tuple[IpAddress, int]


def digest_of(message: bytes) -> bytes:
    """Distinguishes a copy of a message from another message."""
    return blake2b(message, digest_size=16).digest()


def place_of(binding: Binding) -> PlaceKey:
    """The translated address and port."""
    return binding.address, binding.port


class Moved(msgspec.Struct, frozen=True):
    """A register from another place: of an EID-Prefix, verified by a Map-Server, in a message."""

    prefix: EidPrefix
    server: IpAddress
    digest: bytes


class Move(msgspec.Struct):
    """One uplink on its way from one place to another. `wanted` and `before` are its bindings, by EID-Prefix."""

    uplink: UplinkKey
    binding: Binding
    started_at: float
    is_confirmed: bool = False
    times_asked: int = 0
    said: dict[tuple[EidPrefix, IpAddress], bytes] = msgspec.field(default_factory=dict)
    digests: set[bytes] = msgspec.field(default_factory=set)
    wanted: dict[EidPrefix, Binding] = msgspec.field(default_factory=dict)
    before: dict[EidPrefix, Binding] = msgspec.field(default_factory=dict)


class Moves:
    """All moves of the last minutes."""

    def __init__(self) -> None:
        self._moves: OrderedDict[UplinkKey, Move] = OrderedDict()
        self._due: Agenda[UplinkKey] = Agenda()

    def __len__(self) -> int:
        return len(self._moves)

    def wake_at(self) -> float | None:
        """When to call `to_ask`."""
        return self._due.first()

    def on_register(self, uplink: UplinkKey, old: Binding, new: Binding, moved: Moved, now: float) -> Move:
        """A verified register came from another place than the binding's. Returns the move that it is part of."""
        move = self._moves.get(uplink)
        if move is not None and place_of(move.binding) != place_of(new):
            self.end(move)
            move = None
        if move is None:
            move = self._moves[uplink] = Move(uplink, new, now)
            self._due.set(uplink, now)
            while len(self._moves) > LIMIT:
                self.end(next(iter(self._moves.values())))
        about = moved.prefix, moved.server
        if move.said.setdefault(about, moved.digest) != moved.digest:
            move.is_confirmed = True
        move.digests.add(moved.digest)
        move.wanted[moved.prefix] = new
        move.before.setdefault(moved.prefix, old)
        return move

    def on_old_place(self, uplink: UplinkKey, place: PlaceKey) -> None:
        """A verified register came from the place of the binding: the node has not moved."""
        move = self._moves.get(uplink)
        if move is not None and place_of(move.binding) != place:
            self.end(move)

    def to_ask(self, now: float) -> list[Move]:
        """The moves whose new place must be asked now; unconfirmed ones are given up in time."""
        found = []
        for uplink in self._due.due(now):
            move = self._moves[uplink]
            if now - move.started_at >= LIFETIME_S:
                self.end(move)
                continue
            if not move.is_confirmed and move.times_asked < len(ASK_AT_S):
                move.times_asked += 1
                found.append(move)
            is_last = move.is_confirmed or move.times_asked == len(ASK_AT_S)
            self._due.set(uplink, move.started_at + (LIFETIME_S if is_last else ASK_AT_S[move.times_asked]))
        return found

    def copied(self, uplink: UplinkKey, message: bytes, place: PlaceKey) -> Move | None:
        """The move that this message undoes: the same octets began it, and now they came from the old place."""
        move = self._moves.get(uplink)
        if move is None or place not in map(place_of, move.before.values()) or digest_of(message) not in move.digests:
            return None
        return move

    def end(self, move: Move) -> None:
        """The move has ended, confirmed or not."""
        self._moves.pop(move.uplink, None)
        self._due.set(move.uplink, None)
