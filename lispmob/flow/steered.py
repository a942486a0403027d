"""A flow as whoever chooses its uplink sees it. Pure."""

from __future__ import annotations

import msgspec

from lispmob.flow.auth import IpAddress
from lispmob.flow.quality import Quality


class Owner(msgspec.Struct, frozen=True):
    """The process that a flow belongs to."""

    pid: int
    uid: int
    gid: int


class SteeredFlow(msgspec.Struct, frozen=True):
    """`name` in small letters, as it was called, and at its holder as it is held there.

    `peer_port` is 0 until the flow is open. `via`: the uplinks that the program names; `former`: the mark that the
    flow's socket has, 0 for none; `owner` None: a service that lispd has handed the flow to.
    """

    name: str
    own: IpAddress
    own_port: int
    peer: IpAddress
    peer_port: int
    quality: Quality
    via: tuple[str, ...] = ()
    owner: Owner | None = None
    former: int = 0
