"""The two dialects of NAT traversal, and everything in which they differ, in one table.

They share only the type 7 message and LCAF type 7. E19 is draft-ermagan-lisp-nat-traversal-19 as Open Overlay Router
speaks it, LISPERS is draft-farinacci-lisp-lispers-net-nat as lispers.net does.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from lispmob.wire.auth import Algorithm, Key
from lispmob.wire.header import CONTROL_PORT, DATA_PORT

PUNCH_INTERVAL_S: Final = 15.0  # lispers.net: Info-Requests to RTRs keep the binding


class Dialect(Enum):
    """The scheme that a Map-Server and its RTRs speak."""

    E19 = "e19"
    LISPERS = "lispers"


class Traits(msgspec.Struct, frozen=True):
    """The properties of one dialect."""

    info_is_authenticated: bool
    info_names_eid: bool  # else the host name is at the end
    info_from_data_port: bool  # the Info-Request is sent from the data port, else from 4342
    registers_through_rtr: bool
    data_port_is_fixed: bool  # 4341; else an ephemeral one, because the RTR mishandles a translated port 4341
    rtr_punch_port: int | None  # the port where RTRs accept Info-Requests in data packets; None: they do not
    longest_keepalive_s: float


TRAITS: Final = {
    Dialect.E19: Traits(
        info_is_authenticated=True,
        info_names_eid=True,
        info_from_data_port=False,
        registers_through_rtr=True,
        data_port_is_fixed=True,
        rtr_punch_port=None,
        longest_keepalive_s=120.0,  # OOR's Map-Server forgets after 180 s, its RTR after 210 s
    ),
    Dialect.LISPERS: Traits(
        info_is_authenticated=False,
        info_names_eid=False,
        info_from_data_port=True,
        registers_through_rtr=False,
        data_port_is_fixed=False,
        rtr_punch_port=DATA_PORT,
        longest_keepalive_s=PUNCH_INTERVAL_S,
    ),
}

INFO_PORT: Final = CONTROL_PORT  # both: where a Map-Server accepts Info-Requests


def candidates(mode: str, key: Key) -> tuple[Dialect, ...]:
    """The dialects to try with a Map-Server, likeliest first; `mode` is "auto" or a dialect's name.

    Open Overlay Router knows only SHA-1, and lispers.net crashes on it: a SHA-1 key excludes lispers.net.
    """
    if mode != "auto":
        return (Dialect(mode),)
    if key.algorithm is Algorithm.HMAC_SHA_1_96:
        return (Dialect.E19,)
    return (Dialect.E19, Dialect.LISPERS)
