"""What the flows of a host need of the programs that use them."""

from __future__ import annotations

import socket
from typing import Protocol

from lispmob.flow.effect import AskProgram, FlowId, FlowOpened
from lispmob.flow.steered import Owner


class Program(Protocol):
    """Who holds names and has flows, at the other end of the local socket."""

    @property
    def owner(self) -> Owner | None:
        """Its process, where that is known."""

    def on_call(self, asked: AskProgram) -> None:
        """Somebody calls a name that this program decides about itself."""

    def on_flow(self, opened: FlowOpened, one: socket.socket) -> None:
        """A call to a name of this program is open; the socket is closed after the return."""

    def on_ended(self, flow: FlowId, reason_code: int) -> None:
        """A flow of this program is over."""
