"""The states of one uplink's NAT traversal, and the allowed transitions; `machine.py` draws them."""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """The state of the path to this uplink."""

    IDLE = "idle"
    PROBING = "probing"
    DIRECT = "direct"
    REGISTERING = "registering"
    RELAYED = "relayed"
    STRANDED = "stranded"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.PROBING, State.REGISTERING}),
    State.PROBING: frozenset({State.DIRECT, State.REGISTERING, State.RELAYED, State.STRANDED, State.IDLE}),
    State.DIRECT: frozenset({State.REGISTERING, State.RELAYED, State.STRANDED, State.IDLE}),
    State.REGISTERING: frozenset({State.RELAYED, State.PROBING, State.DIRECT, State.STRANDED, State.IDLE}),
    State.RELAYED: frozenset({State.REGISTERING, State.PROBING, State.DIRECT, State.STRANDED, State.IDLE}),
    State.STRANDED: frozenset({State.REGISTERING, State.RELAYED, State.DIRECT, State.IDLE}),
}
