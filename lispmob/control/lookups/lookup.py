"""One lookup in the mapping system: its reason, its state, and what its answer is worth. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress

AGAIN_S: Final = (0.1, 1.0)  # ours: longer than a Map-Register takes that was overtaken; than a slow Map-Server takes


class Reason(Enum):
    """Why a lookup was started."""

    MISS = "miss"
    REFRESH = "refresh"
    SMR = "smr"
    DOUBT = "doubt"
    PUBLISHED = "published"
    """No lookup: the Map-Server published it to a subscriber."""

    @property
    def is_claim(self) -> bool:
        """True for reasons that others can cause."""
        return self in (Reason.SMR, Reason.DOUBT)


class State(Enum):
    """The state of one lookup."""

    ASKING = "asking"
    ANSWERED = "answered"
    FAILED = "failed"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.ASKING: frozenset({State.ANSWERED, State.FAILED}),
    State.ANSWERED: frozenset(),
    State.FAILED: frozenset(),
}


class Lookup(msgspec.Struct, eq=False):
    """One open lookup. `wake_at`: when to repeat the request, or to give up."""

    asked: EidPrefix
    reason: Reason
    source: IpAddress | None
    wake_at: float
    limited_as: EidPrefix
    state: State = State.ASKING
    tries: int = 0
    nonces: set[int] = msgspec.field(default_factory=set)
    protected_by: IpAddress | None = None
    """The Map-Resolver of the last request, if that had LISP-SEC."""
    is_late: bool = False  # an SMR came after the request: the answer may be older than the move
    repeats: bool = True  # False: the claim cost its sender nothing, and deserves one request
    is_named: bool = False  # a locator of the mapping itself caused it
    times_again: int = 0  # repetitions because the answer may have been stale

    @property
    def is_paid(self) -> bool:
        """Whether the repeated claim has taken the tokens. Otherwise the next move would wait for other claims."""
        return self.times_again > 0 and self.tries == 0

    @property
    def may_be_stale(self) -> bool:
        """Whether an unchanged answer leaves open that the EID has moved.

        An SMR, and data from a new locator, leave together with the Map-Register, and may arrive before the Map-Server
        has processed it.
        """
        return self.repeats and self.times_again < len(AGAIN_S) and (self.is_late or self.reason.is_claim)

    def to(self, new: State) -> None:
        """Change the state."""
        assert new in TRANSITIONS[self.state], (self.asked, self.state, new)
        self.state = new
