"""Flows to names: a program asks for a name and gets a connected UDP socket whose two ends are EIDs.

    from lispmob import flow

    with flow.allocate("backup.nas", qos=flow.BULK) as backup:  # the caller
        backup.send(b"hello")

    with flow.register("backup") as name:  # the holder of the name
        for each in name:
            print(each.peer, each.recv())

Both ends may move between networks; the socket stays. `lispmob.flow.aio` has the same for asyncio. Programs need the
standard library only, and lispd with `flows: {enabled: yes}`.
"""

from __future__ import annotations

from typing import Final

from lispmob.flow.client import Flow, Name, allocate, inherited, register
from lispmob.flow.errors import (
    Busy,
    FlowError,
    NameNotFound,
    NoFlowDaemon,
    NotAllowed,
    PeerGone,
    Refused,
    TimedOut,
)
from lispmob.flow.quality import FlowClass, Quality

VOICE: Final = Quality(FlowClass.VOICE)
VIDEO: Final = Quality(FlowClass.VIDEO)
INTERACTIVE: Final = Quality(FlowClass.INTERACTIVE)
BULK: Final = Quality(FlowClass.BULK)
BACKGROUND: Final = Quality(FlowClass.BACKGROUND)

__all__ = [
    "BACKGROUND",
    "BULK",
    "INTERACTIVE",
    "VIDEO",
    "VOICE",
    "Busy",
    "Flow",
    "FlowClass",
    "FlowError",
    "Name",
    "NameNotFound",
    "NoFlowDaemon",
    "NotAllowed",
    "PeerGone",
    "Quality",
    "Refused",
    "TimedOut",
    "allocate",
    "inherited",
    "register",
]
