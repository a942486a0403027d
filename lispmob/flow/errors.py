"""The exceptions for programs that use flows."""

from __future__ import annotations


class FlowError(Exception):
    """The base of the exceptions of flows; the text is a sentence for users."""


class NameNotFound(FlowError):
    """The name cannot be resolved, or its host does not hold it."""


class Refused(FlowError):
    """The holder of the name refuses the call. `reason` is a word, such as "busy" or "not-allowed"."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class TimedOut(FlowError):
    """No answer within the program's timeout."""


class NoFlowDaemon(FlowError):
    """No flow daemon is running: on this host (for names), or at the peer (for calls)."""


class NotAllowed(FlowError):
    """This user may not hold the name, or may not choose an uplink."""


class Busy(FlowError):
    """The limit of allocations, flows or programs is reached."""


class PeerGone(FlowError):
    """The flow is over. `reason` is a word, such as "done" or "program-ended"."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def from_reply(error: dict[str, object]) -> FlowError:
    """The exception for an error reply of lispd."""
    code, message = str(error.get("code", "")), str(error.get("message", ""))
    reason = str(error.get("reason", code))
    match code:
        case "no-such-name" | "refused" if reason == "no-such-name":
            return NameNotFound(message)
        case "no-mapping":
            return NameNotFound(message)
        case "refused" if reason == "busy":
            return Busy(message)
        case "refused":
            return Refused(message, reason)
        case "timed-out":
            return TimedOut(message)
        case "no-flow-daemon":
            return NoFlowDaemon(message)
        case "not-allowed":
            return NotAllowed(message)
        case "busy":
            return Busy(message)
    return FlowError(message)
