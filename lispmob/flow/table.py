"""The flows of a holder, by number, by caller and by nonces, with counts for the limits. Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from enum import Enum

import msgspec

from lispmob.flow.auth import FlowKey, IpAddress
from lispmob.flow.effect import FlowId
from lispmob.flow.message import Reason
from lispmob.flow.quality import Quality

NEVER = float("inf")


class FlowState(Enum):
    """The state of a call."""

    ASKED = "asked"
    OFFERED = "offered"
    OPEN = "open"
    CLOSED = "closed"


class Flow(msgspec.Struct):
    """A call at its holder. `due`: the next deadline, monotonic seconds, or NEVER.

    In version 0, `caller_nonce` is the caller's port in two octets, followed by the octets of the request.
    """

    flow: FlowId
    name: bytes
    own: IpAddress
    caller: IpAddress
    caller_port: int
    caller_nonce: bytes
    holder_nonce: bytes
    wish: Quality
    lifetime_s: int
    key: FlowKey | None
    state: FlowState
    due: float
    port: int = 0
    is_legacy: bool = False
    control_port: int = 0  # the caller's, once it has confirmed
    closes: int = 0  # how many more CLOSEs to send
    reason: Reason = Reason.DONE
    since: float = 0.0  # when it was requested


class FlowTable:
    """Flows with their deadlines. The cost of a datagram here does not grow with the number of flows."""

    def __init__(self) -> None:
        self._flows: dict[FlowId, Flow] = {}
        self._open: dict[tuple[IpAddress, int], Flow] = {}
        self._by_nonces: dict[tuple[bytes, bytes], Flow] = {}
        self._by_call: dict[tuple[IpAddress, bytes], Flow] = {}
        self._due: list[tuple[float, FlowId]] = []
        self._counts: Counter[object] = Counter()

    def __iter__(self) -> Iterator[Flow]:
        return iter(tuple(self._flows.values()))

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, flow_id: FlowId) -> Flow | None:
        """The flow with this number."""
        return self._flows.get(flow_id)

    def open_of(self, caller: IpAddress, port: int) -> Flow | None:
        """The open flow of a caller's socket."""
        return self._open.get((caller, port))

    def of_call(self, caller: IpAddress, caller_nonce: bytes) -> Flow | None:
        """The flow of a call, unless it is closed."""
        return self._by_call.get((caller, caller_nonce))

    def of_nonces(self, caller_nonce: bytes, holder_nonce: bytes) -> Flow | None:
        """The flow with these nonces, closed or not."""
        return self._by_nonces.get((caller_nonce, holder_nonce))

    def count(self, *what: object) -> int:
        """How many flows that are not closed have all of `what`: ("peer", address), ("name", name), states, or nothing.

        Counts exist for: all; each state; each peer; each peer's pending flows; each name; each name's ASKED flows.
        """
        return self._counts[what]

    @property
    def pending(self) -> int:
        """How many flows are not confirmed yet."""
        return self._counts[FlowState.ASKED,] + self._counts[FlowState.OFFERED,]

    def add(self, flow: Flow) -> None:
        """Add a flow."""
        self._flows[flow.flow] = flow
        self._by_nonces[flow.caller_nonce, flow.holder_nonce] = flow
        self._by_call[flow.caller, flow.caller_nonce] = flow
        self._count(flow, 1)
        heapq.heappush(self._due, (flow.due, flow.flow))

    def move(self, flow: Flow, state: FlowState) -> None:
        """Change the state of a flow. A closed flow is found only by its number and its nonces."""
        if flow.state is state:
            return
        self._count(flow, -1)
        flow.state = state
        self._count(flow, 1)
        place = flow.caller, flow.caller_port
        if state is FlowState.OPEN:
            self._open[place] = flow
        elif self._open.get(place) is flow:
            del self._open[place]
        if state is FlowState.CLOSED and self._by_call.get((flow.caller, flow.caller_nonce)) is flow:
            del self._by_call[flow.caller, flow.caller_nonce]

    def remove(self, flow: Flow) -> None:
        """Remove a flow."""
        self.move(flow, FlowState.CLOSED)
        del self._flows[flow.flow]
        self._by_nonces.pop((flow.caller_nonce, flow.holder_nonce), None)

    def wait(self, flow: Flow, until: float) -> None:
        """Set the deadline of a flow. Earlier entries in the heap are corrected when they are popped."""
        if until < flow.due:
            heapq.heappush(self._due, (until, flow.flow))
        flow.due = until

    def next_due(self) -> float | None:
        """The earliest deadline."""
        while self._due:
            at, flow_id = self._due[0]
            flow = self._flows.get(flow_id)
            if flow is not None and flow.due <= at:
                return at
            heapq.heappop(self._due)
            if flow is not None and flow.due != NEVER:
                heapq.heappush(self._due, (flow.due, flow_id))
        return None

    def take_due(self, now: float) -> Flow | None:
        """A flow whose deadline has passed; it leaves the heap until `wait` sets another deadline."""
        at = self.next_due()
        if at is None or at > now:
            return None
        flow = self._flows[heapq.heappop(self._due)[1]]
        flow.due = NEVER
        return flow

    def _count(self, flow: Flow, by: int) -> None:
        if flow.state is FlowState.CLOSED:
            return
        keys: list[tuple[object, ...]] = [(), (flow.state,), ("peer", flow.caller), ("name", flow.name)]
        if flow.state is not FlowState.OPEN:
            keys.append(("peer", flow.caller, "pending"))
        if flow.state is FlowState.ASKED:
            keys.append(("name", flow.name, FlowState.ASKED))
        for key in keys:
            self._counts[key] += by
            if not self._counts[key]:
                del self._counts[key]
