"""Which server has which slots of a cluster, from what all of its servers say. Pure.

A server that was cut off still says that it has its slots. What is said with the highest configuration epoch counts
(Redis cluster specification): whoever took the slots over has a higher one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from lispmob.hub.valkey.keys import BUCKETS, slot_of

BUCKET_SLOTS: Final = tuple(map(slot_of, range(BUCKETS)))


class Claim(msgspec.Struct, frozen=True):
    """A primary, the slots that are said to be its own (first and last of each run), and how new that is."""

    host: str
    port: int
    epoch: int
    runs: tuple[tuple[int, int], ...]


class View(msgspec.Struct, frozen=True):
    """What one server says: the primaries, and where all servers are."""

    claims: tuple[Claim, ...]
    servers: frozenset[tuple[str, int]]


def read_nodes(text: str, asked: str) -> View:
    """The answer of CLUSTER NODES of the server at host `asked`, which may not know its own address. ValueError."""
    claims: list[Claim] = []
    servers: set[tuple[str, int]] = set()
    for line in text.splitlines():
        _, address, flags, _, _, _, epoch, _, *slots = line.split()
        words = flags.split(",")
        host, _, port = address.partition(",")[0].partition("@")[0].rpartition(":")
        place = host or asked, int(port)
        if "noaddr" in words or "handshake" in words:
            continue
        servers.add(place)
        if "master" in words:
            runs = [slot.partition("-") for slot in slots if not slot.startswith("[")]
            found = tuple((int(first), int(last or first)) for first, _, last in runs)
            claims.append(Claim(*place, int(epoch), found))
    return View(tuple(claims), frozenset(servers))


def owners(views: Iterable[View]) -> list[tuple[str, int] | None]:
    """For each bucket the server that has its slot; None: nobody."""
    epochs = [-1] * BUCKETS
    found: list[tuple[str, int] | None] = [None] * BUCKETS
    for claim in {claim for view in views for claim in view.claims}:
        for bucket, slot in enumerate(BUCKET_SLOTS):
            if claim.epoch > epochs[bucket] and any(first <= slot <= last for first, last in claim.runs):
                epochs[bucket], found[bucket] = claim.epoch, (claim.host, claim.port)
    return found
