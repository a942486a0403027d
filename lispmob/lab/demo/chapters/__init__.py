"""The chapters, in the order in which they are played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lispmob.lab.demo.chapters import (
    break_before_make,
    first_packet,
    flows,
    keepalives,
    make_before_break,
    multihoming,
    nat,
    ping_both_ways,
    real_networks,
    resources,
    sealed,
    start,
    tcp_stream,
    told_moves,
)
from lispmob.lab.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the demonstration; `claims` are the names of its checks; `is_needed`: the others depend on it."""

    name: str
    title: str
    claims: tuple[str, ...]
    play: Callable[[Stage], None]
    is_needed: bool = False
    begin: Callable[[Stage], None] | None = None  # started before all chapters, because it takes long
    end: Callable[[Stage], None] | None = None  # called before the last chapter, to wait for background work
    is_last: bool = False  # nothing runs in the background meanwhile
    extra_s: int = 0  # time in addition to the limit for all chapters


CHAPTERS: Final = (
    Chapter("start", "A hub and two nodes start", start.CLAIMS, start.play, is_needed=True),
    Chapter("first-packet", "The first packet to a stranger", first_packet.CLAIMS, first_packet.play),
    Chapter("ping", "Ping, both ways and both families", ping_both_ways.CLAIMS, ping_both_ways.play),
    Chapter("make-before-break", "Uplink 1 goes, uplink 2 is up", make_before_break.CLAIMS, make_before_break.play),
    Chapter("sealed", "What two nodes say is sealed", sealed.CLAIMS, sealed.play),
    Chapter(
        "break-before-make", "To another network, with a new address", break_before_make.CLAIMS, break_before_make.play
    ),
    Chapter("told-moves", "A move that the peer need not ask about", told_moves.CLAIMS, told_moves.play, extra_s=60),
    Chapter("tcp-stream", "The TCP stream after all moves", tcp_stream.CLAIMS, tcp_stream.play),
    Chapter(
        "multihoming",
        "Two uplinks at once, shared 3:1",
        multihoming.CLAIMS,
        multihoming.play,
        end=multihoming.end,
    ),
    Chapter("nat", "Behind NATs of every kind", nat.CLAIMS, nat.play),
    Chapter(
        "keepalives",
        "Nothing to say, behind a NAT that soon forgets",
        keepalives.CLAIMS,
        keepalives.play,
        begin=keepalives.begin,
    ),
    Chapter("flows", "Flows to names", flows.CLAIMS, flows.play, extra_s=25),
    Chapter("real-networks", "Networks as people have them", real_networks.CLAIMS, real_networks.play, extra_s=120),
    Chapter("resources", "What a node costs", resources.CLAIMS, resources.play, is_last=True),
)
