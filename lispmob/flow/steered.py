"""A flow as the uplink choice sees it. Pure."""

from __future__ import annotations

import msgspec

from lispmob.flow.auth import IpAddress
from lispmob.flow.quality import Quality


class Owner(msgspec.Struct, frozen=True):
    """The process that owns a flow."""

    pid: int
    uid: int
    gid: int


class SteeredFlow(msgspec.Struct, frozen=True):
    """`name` in lower case: as the caller wrote it, and at the holder as it is held there.

    `peer_port` is 0 until the flow is open. `via`: the uplinks that the program names; `former`: the present mark of
    the flow's socket, 0 for none; `owner` None: lispd has handed the flow to a service.
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
