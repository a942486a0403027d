"""What the machines of flows want done: values that the adapter of the daemon, or of the library, carries out. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from lispmob.flow.auth import IpAddress
from lispmob.flow.message import Reason
from lispmob.flow.quality import Quality
from lispmob.values import dataclass

FlowId: TypeAlias = int


class Outlet(Enum):
    """The socket that a message leaves by: the flow's own, or that of the control port."""

    FLOW = "flow"
    CONTROL = "control"


class Failure(Enum):
    """Why an allocation failed, in a word; the library has an exception for each."""

    NO_SUCH_NAME = "no-such-name"
    NO_MAPPING = "no-mapping"
    NO_FLOW_DAEMON = "no-flow-daemon"
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SendFlowMessage:
    """Send `octets` from `outlet` of this flow, at our EID `own`, to (`destination`, `port`)."""

    flow: FlowId
    octets: bytes
    outlet: Outlet
    own: IpAddress
    destination: IpAddress
    port: int


@dataclass(frozen=True, slots=True)
class MakeFlowSocket:
    """Holder: make the socket of a flow on `own`, connected to the caller; then call `on_socket` or `on_no_socket`."""

    flow: FlowId
    own: IpAddress
    caller: IpAddress
    caller_port: int


@dataclass(frozen=True, slots=True)
class ConnectFlowSocket:
    """Caller: connect the socket of a flow to where its holder has made one, and throw away what is queued."""

    flow: FlowId
    port: int


@dataclass(frozen=True, slots=True)
class AskProgram:
    """Holder: ask the program that holds `name` whether it takes the call; the answer is `on_answer`."""

    flow: FlowId
    name: bytes
    caller: IpAddress
    caller_says: str
    wish: Quality


@dataclass(frozen=True, slots=True)
class FlowOpened:
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


@dataclass(frozen=True, slots=True)
class AllocationFailed:
    """Caller: there will be no flow. `reason_code` is the holder's, 0 without one; `why` is a sentence for people."""

    flow: FlowId
    failure: Failure
    reason_code: int
    why: str


@dataclass(frozen=True, slots=True)
class FlowEnded:
    """An open flow is over: tell the program. `reason_code` as in REASON; NO_ANSWER when the peer fell silent."""

    flow: FlowId
    reason_code: int = Reason.DONE


@dataclass(frozen=True, slots=True)
class ForgetFlow:
    """The machine has forgotten this flow: close its socket, if it was not handed over."""

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
