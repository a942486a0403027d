"""The user's settings for NATs."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lispmob.wire.address import IpAddress

NattMode: TypeAlias = Literal["auto", "off", "e19", "lispers"]


class NattSettings(msgspec.Struct, frozen=True):
    """The user's settings for NATs. `rtrs`: the RTRs that may be used; empty: those of an authenticated Info-Reply.

    `keepalive_s` None: as long as the NAT allows. `prefers_rtr`: use an RTR without a NAT too. `direct`: send past the
    RTR where that is found to work.
    """

    mode: NattMode = "off"
    rtrs: tuple[IpAddress, ...] = ()
    prefers_rtr: bool = False
    direct: bool = False
    keepalive_s: float | None = None
    host_name: bytes = b"lispmob"
