"""Probes that have been sent and may still be answered, by nonce."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from lispmob.control.probing.path import Path
from lispmob.protocol.agenda import Agenda

NONCE_LIFETIME_S: Final = 10.0  # ours: a later answer says nothing about the present


class Asked(msgspec.Struct):
    """One probe. `lost_at`: when it counts as lost, though a late answer is still accepted."""

    path: Path
    sent_at: float
    lost_at: float
    is_lost: bool = False


class Outstanding:
    """The probes sent lately."""

    def __init__(self) -> None:
        self._asked: OrderedDict[int, Asked] = OrderedDict()
        self._lost: Agenda[int] = Agenda()

    def add(self, nonce: int, asked: Asked) -> None:
        """A probe has been sent."""
        self._asked[nonce] = asked
        self._lost.set(nonce, asked.lost_at)

    def take(self, nonce: int, now: float) -> Asked | None:
        """The probe that this nonce answers; each is answered once."""
        self._lost.set(nonce, None)
        asked = self._asked.pop(nonce, None)
        return asked if asked is not None and now - asked.sent_at <= NONCE_LIFETIME_S else None

    def expire(self, now: float) -> list[Asked]:
        """The probes that have just become lost; those too old to be answered are forgotten."""
        lost = [self._asked[nonce] for nonce in self._lost.due(now)]
        for asked in lost:
            asked.is_lost = True
        while self._asked and now - next(iter(self._asked.values())).sent_at > NONCE_LIFETIME_S:
            self._lost.set(self._asked.popitem(last=False)[0], None)
        return lost

    def first_loss_at(self) -> float | None:
        """When the next probe counts as lost."""
        return self._lost.first()

    def clear(self) -> None:
        """Forget all probes."""
        self._asked.clear()
        self._lost.clear()
