"""What a program that uses flows can catch."""

from __future__ import annotations


class FlowError(Exception):
    """The root of the errors of flows; the text is a sentence for people."""


class NameNotFound(FlowError):
    """Nobody is known by this name, or the host that is says that it does not hold it."""


class Refused(FlowError):
    """The holder of the name refuses the call. `reason` is a word, such as "busy" or "not-allowed"."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class TimedOut(FlowError):
    """No answer within the time that the program gave."""


class NoFlowDaemon(FlowError):
    """Nobody takes flows: neither here (for names), nor at the peer (for calls)."""


class NotAllowed(FlowError):
    """This user may not hold the name, or not choose an uplink."""


class Busy(FlowError):
    """As many allocations, flows or programs as there may be."""


class PeerGone(FlowError):
    """The flow is over. `reason` is a word, such as "done" or "program-ended"."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def from_reply(error: dict[str, object]) -> FlowError:
    """The exception for an error of the daemon."""
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
