"""The direct path past the RTR, to a peer in the open or behind the same NAT: found, proven, watched, given up. Pure.

    ASKING ---- mapping ----> PROBING ---- answer ----> OPEN --+ probed now and then while it is used
      | no answer, no peer     | no answer               |     |
      +-----------------> RESTING <-----------------------+ <---+ unanswered; or no data comes back at all
                             | after a while: forgotten, and begun again when packets still go there

No data uses an unproven path: a probe goes from our data port to the port that data would go to, and the answer comes
back the same way. Until then packets go through the RTR. The peer's packets use the path that it knows, usually through
the RTR. So the peer must accept data from our NAT's address, as peers do that check no more than RFC 9300 requires; if
it is behind a NAT too, both sides have to ask.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from lispmob.natt.natt_config import is_private
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.named_locator import is_rtr
from lispmob.wire.record import Locator

MAX_CANDIDATES: Final = 4  # ours: a peer has few uplinks
SILENCE_S: Final = 2.0  # ours: longer than any round trip; if nothing came back for so long, the RTR is used
CONTROL_DATA: Final = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()


class State(Enum):
    """The state of one direct path."""

    ASKING = "asking"
    PROBING = "probing"
    OPEN = "open"
    RESTING = "resting"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.ASKING: frozenset({State.PROBING, State.RESTING}),
    State.PROBING: frozenset({State.OPEN, State.RESTING}),
    State.OPEN: frozenset({State.RESTING}),
    State.RESTING: frozenset(),
}


class Shortcut(msgspec.Struct):
    """The path to one EID, for packets from `source`. `rloc`: the candidate that answered."""

    eid: EidPrefix
    source: IpAddress
    state: State = State.ASKING
    wake_at: float = 0.0
    tries: int = 0
    used_at: float = 0.0
    doubted_at: float | None = None  # since then nothing came back
    rest_s: float = 0.0
    nonces: set[int] = msgspec.field(default_factory=set)
    sent: dict[int, tuple[IpAddress, float]] = msgspec.field(default_factory=dict)  # probes: nonce -> where and when
    candidates: tuple[IpAddress, ...] = ()
    rloc: IpAddress | None = None
    opened_at: float = 0.0
    rtt_s: float | None = None  # of the last answered probe

    @property
    def due_at(self) -> float:
        """When it needs attention."""
        return self.wake_at if self.doubted_at is None else min(self.wake_at, self.doubted_at + SILENCE_S)

    def to(self, new: State) -> None:
        """Change the state; outstanding probes are dropped."""
        assert new in TRANSITIONS[self.state], (self.eid, self.state, new)
        self.state, self.tries, self.doubted_at = new, 0, None
        self.nonces.clear()
        self.sent.clear()


def candidates_of(
    locators: tuple[Locator, ...], own: IpAddress, avoided: frozenset[IpAddress]
) -> tuple[IpAddress, ...]:
    """Where the peer may be reached past its RTR, best first.

    R=0 locators in its record mean that the peer is behind NATs (E19): those are its own addresses, and the others may
    be RTRs, which would accept our probes but not our data. A private address is used only if ours is private too.
    """
    usable = [locator for locator in locators if locator.priority < NEVER and not is_rtr(locator)]
    hidden = [locator for locator in usable if not locator.is_reachable]
    found: dict[IpAddress, None] = {}
    for one in sorted(hidden or usable, key=lambda one: one.priority):
        for address in one.ips:
            is_near = not is_private(address) or (is_private(own) and bool(hidden))
            if address.version == own.version and may_be_rloc(address) and is_near and address not in avoided:
                found.setdefault(address)
    return tuple(found)[:MAX_CANDIDATES]


def lookup(shortcut: Shortcut, nonce: int, place: IpAddress, port: int) -> bytes:
    """A Map-Request whose Map-Reply reaches us behind the NAT: it goes to `port` of `place`, our outside port."""
    own = EidPrefix.host(shortcut.source, shortcut.eid.instance_id)
    request = MapRequest(nonce, from_prefix(own), (place,), (EidRecord.of(shortcut.eid),))
    return EncapsulatedControl(shortcut.source, port, shortcut.eid.address, CONTROL_PORT, request.encode()).encode()


def probe(shortcut: Shortcut, nonce: int, own: IpAddress, candidate: IpAddress) -> bytes:
    """A data packet with a probe. Its inner source port requests an answer by the same path."""
    who = EidPrefix.host(shortcut.source, shortcut.eid.instance_id)  # its data will use the same path
    request = MapRequest(nonce, from_prefix(who), (own,), (EidRecord.of(shortcut.eid),), is_probe=True)
    return CONTROL_DATA + build_ip_udp(own, DATA_PORT, candidate, CONTROL_PORT, request.encode())


def answer(own: IpAddress, asker: IpAddress, reply: bytes) -> bytes:
    """The data packet that answers such a probe."""
    return CONTROL_DATA + build_ip_udp(own, CONTROL_PORT, asker, DATA_PORT, reply)
