"""Adoption: a flow outlives a restart of lispd, because its program proves the flow to the new lispd. Pure.

The program has the socket, and received both nonces when the flow opened. The nonces authorize their owner to close or
keep the flow in any case. The socket has to match them, so that a program cannot make lispd act for a foreign flow.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lispmob.errors import LispError
from lispmob.flow.auth import IpAddress
from lispmob.flow.effect import FlowOpened
from lispmob.flow.name import fold
from lispmob.flow.quality import Quality


class NotAdoptable(LispError):
    """The request does not describe a flow of this host; the text says why."""


class Adoption(msgspec.Struct, frozen=True):
    """A flow as its program knows it. `peer_port`: of the peer's socket; `control_port`: of the peer's lispd.

    `is_ours`: this host is the caller. Nonces have 8 octets.
    """

    name: str
    is_ours: bool
    own: IpAddress
    own_port: int
    peer: IpAddress
    peer_port: int
    caller_nonce: bytes
    holder_nonce: bytes
    control_port: int
    lifetime_s: int
    quality: Quality

    def opened(self, flow: int) -> FlowOpened:
        """The event that reports the flow to its program."""
        nonces = self.caller_nonce, self.holder_nonce
        return FlowOpened(
            flow, fold(self.name), self.peer, self.peer_port, self.quality, self.lifetime_s, nonces, self.control_port
        )


def show(opened: FlowOpened, *, is_ours: bool) -> dict[str, Any]:
    """What a program is given so that it can ask another lispd to adopt the flow; empty for a flow of version 0."""
    if opened.nonces is None:
        return {}
    caller, holder = opened.nonces
    return {
        "role": "caller" if is_ours else "holder",
        "nonces": [caller.hex(), holder.hex()],
        "control_port": opened.control_port,
    }
