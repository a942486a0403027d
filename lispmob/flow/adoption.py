"""A flow that outlives its lispd: what a program has to show, so that the next one knows the flow again.

The program has the socket, and was told the nonces when the flow opened. Who knows both nonces of a flow may speak for
it anyway; the socket has to fit, so that nobody makes lispd speak for a flow that he has not. Pure.
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
    """What was shown is no flow of this host; the text says why."""


class Adoption(msgspec.Struct, frozen=True):
    """A flow as its program knows it. `peer_port`: where the peer's socket is; `control_port`: where its lispd is.

    `is_ours`: we called. Nonces have 8 octets.
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
        """What the program is told of the flow."""
        nonces = self.caller_nonce, self.holder_nonce
        return FlowOpened(
            flow, fold(self.name), self.peer, self.peer_port, self.quality, self.lifetime_s, nonces, self.control_port
        )


def show(opened: FlowOpened, *, is_ours: bool) -> dict[str, Any]:
    """What a program is told, so that it can show it to another lispd; nothing for a flow of version 0."""
    if opened.nonces is None:
        return {}
    caller, holder = opened.nonces
    return {
        "role": "caller" if is_ours else "holder",
        "nonces": [caller.hex(), holder.hex()],
        "control_port": opened.control_port,
    }
