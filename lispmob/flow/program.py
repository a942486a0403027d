"""The interface between the flows of a host and the programs that use them."""

from __future__ import annotations

import socket
from typing import Protocol

from lispmob.flow.effect import AskProgram, FlowId, FlowOpened
from lispmob.flow.steered import Owner


class Program(Protocol):
    """A program that holds names or has flows, at the other end of the local socket."""

    @property
    def owner(self) -> Owner | None:
        """The program's process, if known."""

    def on_call(self, asked: AskProgram) -> None:
        """A call for a name of this program, which decides itself whether to accept calls."""

    def on_flow(self, opened: FlowOpened, one: socket.socket) -> None:
        """A call for a name of this program is open. The socket is closed after the return."""

    def on_ended(self, flow: FlowId, reason_code: int) -> None:
        """A flow of this program has ended."""
