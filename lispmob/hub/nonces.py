"""Which Map-Registers are older than what is known, by their nonces (RFC 9301, 5.6).

A node that counts shows it: its next nonce is a little larger than the last one. Random nonces do that once in 2^32
times, and constant ones never. So what a site does not say is learnt, from the second Map-Register on: one that falls
back behind a count that is being kept was delayed or replayed. A nonce far from all of them begins another count, for
xTRs without xTR-ID that share an EID-Prefix; a count that nobody goes on with for as long as a registration lives is
forgotten, for nodes that lost their clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from lispmob.hub.registration import LIFETIME_S

LIMIT: Final = 65536  # ours: xTRs whose nonces are remembered
COUNTS_PER_XTR: Final = 4  # ours
STEP_MAX: Final = 1 << 32  # ours: nonces no further apart than this belong to one count

NonceKey = tuple[str, int, str]
"""Whose nonces: site, key-id, and the xTR-ID (hexadecimal) or, without one, the first EID-Prefix."""


class _Count(NamedTuple):
    nonce: int  # the last one
    is_counting: bool  # it has been seen to grow
    at: float


class Nonces:
    """The last nonces of every xTR."""

    def __init__(self) -> None:
        self._counts: OrderedDict[NonceKey, tuple[_Count, ...]] = OrderedDict()  # of each the latest one last
        self._new: dict[NonceKey, int] = {}

    def accepts(self, who: NonceKey, nonce: int, now: float, *, must_grow: bool | None) -> bool:
        """Take in a nonce; False when it is an old one. `must_grow` None: as this xTR has done so far."""
        known = self._counts.get(who, ())
        if must_grow:
            if known and nonce <= known[-1].nonce:
                return False
            kept: tuple[_Count, ...] = ()
            is_counting = True
        else:
            known = tuple(one for one in known if now - one.at < LIFETIME_S)
            near = next((one for one in known if abs(nonce - one.nonce) <= STEP_MAX), None)
            if must_grow is None and near is not None and near.is_counting and nonce <= near.nonce:
                return False
            is_counting = near is not None and nonce > near.nonce
            kept = tuple(one for one in known if one is not near)[1 - COUNTS_PER_XTR :]
        self._counts[who] = (*kept, _Count(nonce, is_counting, now))
        self._counts.move_to_end(who)
        self._new[who] = nonce
        if len(self._counts) > LIMIT:
            self._counts.popitem(last=False)
        return True

    def restore(self, nonces: Iterable[tuple[NonceKey, int]], now: float) -> None:
        """Take back what was known before a restart; who counts shows it again with the next Map-Register."""
        self._counts.update((who, (_Count(nonce, is_counting=False, at=now),)) for who, nonce in nonces)

    def take_new(self) -> dict[NonceKey, int]:
        """Those taken in since the previous call, for the store."""
        taken, self._new = self._new, {}
        return taken
