"""One question to the mapping system: why it is asked, where it stands, and what its answer is worth. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress

AGAIN_S: Final = (0.1, 1.0)  # ours: later than a Map-Register takes that was overtaken; than a slow Map-Server


class Reason(Enum):
    """Why a lookup was started."""

    MISS = "miss"
    REFRESH = "refresh"
    SMR = "smr"
    DOUBT = "doubt"
    PUBLISHED = "published"
    """Nobody asked: the Map-Server said it to a subscriber."""

    @property
    def is_claim(self) -> bool:
        """True for what others can cause."""
        return self in (Reason.SMR, Reason.DOUBT)


class State(Enum):
    """Where one lookup stands."""

    ASKING = "asking"
    ANSWERED = "answered"
    FAILED = "failed"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.ASKING: frozenset({State.ANSWERED, State.FAILED}),
    State.ANSWERED: frozenset(),
    State.FAILED: frozenset(),
}


class Lookup(msgspec.Struct, eq=False):
    """One question that is open. `wake_at`: when to ask again, or to give up."""

    asked: EidPrefix
    reason: Reason
    source: IpAddress | None
    wake_at: float
    limited_as: EidPrefix
    state: State = State.ASKING
    tries: int = 0
    nonces: set[int] = msgspec.field(default_factory=set)
    protected_by: IpAddress | None = None
    """The Map-Resolver asked last, when it was asked with LISP-SEC."""
    is_late: bool = False  # an SMR came after it was asked: the answer may be from before the move
    repeats: bool = True  # False: what caused it costs its sender nothing, and is worth one question
    is_named: bool = False  # a locator of the mapping itself has caused it
    times_again: int = 0  # how often it was asked again because the answer may have been so

    @property
    def is_paid(self) -> bool:
        """Whether the claim that it repeats has taken the tokens: else the next move would have to wait for others."""
        return self.times_again > 0 and self.tries == 0

    @property
    def may_be_stale(self) -> bool:
        """Whether an answer that says nothing new is no reason to believe that nobody has moved.

        An SMR, and data from a new place, leave together with the Map-Register, and may be quicker than the Map-Server.
        """
        return self.repeats and self.times_again < len(AGAIN_S) and (self.is_late or self.reason.is_claim)

    def to(self, new: State) -> None:
        """Change the state."""
        assert new in TRANSITIONS[self.state], (self.asked, self.state, new)
        self.state = new
