"""Effects of the flow machines: actions for the adapter in the daemon or in the library. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from lispmob.flow.auth import IpAddress
from lispmob.flow.message import Reason
from lispmob.flow.quality import Quality

FlowId: TypeAlias = int


class Outlet(Enum):
    """The socket that sends a message: the flow's own, or the one of the control port."""

    FLOW = "flow"
    CONTROL = "control"


class Failure(Enum):
    """Why an allocation failed; the library has an exception for each."""

    NO_SUCH_NAME = "no-such-name"
    NO_MAPPING = "no-mapping"
    NO_FLOW_DAEMON = "no-flow-daemon"
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    CANCELLED = "cancelled"


class SendFlowMessage(msgspec.Struct, frozen=True):
    """Send `octets` from `outlet` of this flow, at our EID `own`, to (`destination`, `port`)."""

    flow: FlowId
    octets: bytes
    outlet: Outlet
    own: IpAddress
    destination: IpAddress
    port: int


class MakeFlowSocket(msgspec.Struct, frozen=True):
    """Holder: make the socket of a flow on `own`, connected to the caller; then call `on_socket` or `on_no_socket`."""

    flow: FlowId
    own: IpAddress
    caller: IpAddress
    caller_port: int


class ConnectFlowSocket(msgspec.Struct, frozen=True):
    """Caller: connect the flow's socket to the holder's port, and discard what is queued."""

    flow: FlowId
    port: int


class AskProgram(msgspec.Struct, frozen=True):
    """Holder: ask the program that holds `name` whether it accepts the call; the answer is `on_answer`."""

    flow: FlowId
    name: bytes
    caller: IpAddress
    caller_says: str
    wish: Quality


class FlowOpened(msgspec.Struct, frozen=True):
    """The flow is open: hand its socket to the program. `granted` is what the holder grants of the wish.

    `nonces` of caller and holder, None in version 0; `control_port` is that of the peer.
    """

    flow: FlowId
    name: bytes
    peer: IpAddress
    port: int
    granted: Quality
    lifetime_s: int
    nonces: tuple[bytes, bytes] | None = None
    control_port: int = 0


class AllocationFailed(msgspec.Struct, frozen=True):
    """Caller: the request has failed. `reason_code` is the holder's, 0 without one; `why` is a sentence for users."""

    flow: FlowId
    failure: Failure
    reason_code: int
    why: str


class FlowEnded(msgspec.Struct, frozen=True):
    """An open flow has ended: notify the program. `reason_code` as in REASON; NO_ANSWER when the peer was silent."""

    flow: FlowId
    reason_code: int = Reason.DONE


class ForgetFlow(msgspec.Struct, frozen=True):
    """The machine has removed this flow: close its socket, if it was not handed over."""

    flow: FlowId


FlowEffect: TypeAlias = (
    SendFlowMessage
    | MakeFlowSocket
    | ConnectFlowSocket
    | AskProgram
    | FlowOpened
    | AllocationFailed
    | FlowEnded
    | ForgetFlow
)
