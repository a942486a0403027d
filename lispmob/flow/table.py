"""The flows that a holder knows, found by number, by caller and by nonces, and counted by whom they belong to. Pure."""

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
    """How far a call is."""

    ASKED = "asked"
    OFFERED = "offered"
    OPEN = "open"
    CLOSED = "closed"


class Flow(msgspec.Struct):
    """One call at its holder. `due`: when something is to be done about it, monotonic seconds; NEVER for nothing.

    Of version 0, `caller_nonce` is the caller's port in two octets and the octets of the request.
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
    closes: int = 0  # how often CLOSE is still said
    reason: Reason = Reason.DONE
    since: float = 0.0  # when it was asked for


class FlowTable:
    """Flows with their deadlines. What a datagram costs here does not grow with how many there are."""

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
        """The flow of this number."""
        return self._flows.get(flow_id)

    def open_of(self, caller: IpAddress, port: int) -> Flow | None:
        """The open flow of a caller's socket."""
        return self._open.get((caller, port))

    def of_call(self, caller: IpAddress, caller_nonce: bytes) -> Flow | None:
        """The flow that is not closed of one call."""
        return self._by_call.get((caller, caller_nonce))

    def of_nonces(self, caller_nonce: bytes, holder_nonce: bytes) -> Flow | None:
        """The flow of these nonces, closed or not."""
        return self._by_nonces.get((caller_nonce, holder_nonce))

    def count(self, *what: object) -> int:
        """How many flows that are not closed have all of `what`: ("peer", address), ("name", name), states, or nothing.

        Counted are: all; each state; each peer; each peer's pending ones; each name; the ASKED ones of each name.
        """
        return self._counts[what]

    @property
    def pending(self) -> int:
        """How many have not been confirmed."""
        return self._counts[FlowState.ASKED,] + self._counts[FlowState.OFFERED,]

    def add(self, flow: Flow) -> None:
        """Know a flow from now on."""
        self._flows[flow.flow] = flow
        self._by_nonces[flow.caller_nonce, flow.holder_nonce] = flow
        self._by_call[flow.caller, flow.caller_nonce] = flow
        self._count(flow, 1)
        heapq.heappush(self._due, (flow.due, flow.flow))

    def move(self, flow: Flow, state: FlowState) -> None:
        """A flow is in another state. A closed one is only found by its number and its nonces."""
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
        """Know nothing of it any more."""
        self.move(flow, FlowState.CLOSED)
        del self._flows[flow.flow]
        self._by_nonces.pop((flow.caller_nonce, flow.holder_nonce), None)

    def wait(self, flow: Flow, until: float) -> None:
        """Set when something is to be done. An entry of the heap that is too early is put right when it is met."""
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
        """A flow whose deadline has come; it is out of the heap until `wait` sets another one."""
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
