"""The typed face of engine/explain.c: what would become of a packet of a flow, without sending one."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Literal, TypeAlias

import msgspec

from lispmob.datapath import _lispdp, marshal
from lispmob.wire.address import EidPrefix, IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class Fate(IntEnum):
    """What becomes of the packet; the numbers are those of enum lm_fate."""

    SENT = 0
    NOT_LISP = 1  # its destination is multicast, link-local or our own
    GUARDED = 2  # it would be a tunnel in the tunnel
    SOURCE = 3  # its source is not our EID
    MISS = 4  # it waits for the mapping
    DROP = 5
    PROHIBIT = 6
    NATIVE = 7  # the mapping says native, and it came to our device all the same
    NO_LOCATOR = 8  # none of a family that an uplink has
    NO_UPLINK = 9  # it waits for an uplink
    MARK = 10  # its mark names no usable uplink, and such packets are dropped
    DOUBT = 11  # sent all the same, though no locator answers: its sender gets an ICMP error
    NO_KEY = 12  # it may not leave in clear, and there is no key yet


SealAnswer: TypeAlias = Literal["clear", "sealed", "waiting", "unsealed"]
"""In clear; sealed; with NO_KEY: it waits for a key of its peer, or is lost, since it has no peer."""
_SEALS: Final[tuple[SealAnswer, ...]] = ("clear", "sealed", "waiting", "unsealed")  # enum lm_answer_seal


class Question(msgspec.Struct, frozen=True):
    """A five-tuple, and the lane that its mark leads to: an ifindex, 0 without mark, -1 for a mark of no uplink.

    `ports` of the source and the destination; None for a protocol that has none.
    """

    source: IpAddress
    destination: IpAddress
    protocol: int
    ports: tuple[int, int] | None = None
    lane: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What the datapath says. `entry`: the mapping it found. With SENT and DOUBT, all but `relayed_to` is set.

    `flow`: the hash that spread.py chooses with, for whoever wonders what other uplinks would make of it.
    `by_mark` False: priority and weight chose the uplink. `relayed_to`: the RTR that stands in for `remote`.
    `copy_ifindex`: the uplink that each packet leaves by as well; 0: by none.
    """

    fate: Fate
    entry: EidPrefix | None = None
    flow: int = 0
    by_mark: bool = False
    ifindex: int = 0
    copy_ifindex: int = 0
    local: IpAddress | None = None
    remote: IpAddress | None = None
    relayed_to: IpAddress | None = None
    port: int = 0
    seal: SealAnswer = "clear"


def ask(engine: Any, question: Question) -> Answer:
    """Ask a struct lm_engine. It shares the lock of the threads for the time of one lookup."""
    asked, said = ffi.new("struct lm_question *"), ffi.new("struct lm_answer *")
    marshal.put_address(asked.source, question.source)
    marshal.put_address(asked.destination, question.destination)
    asked.protocol, asked.lane = question.protocol, question.lane
    if question.ports is not None:
        asked.has_ports = True
        asked.source_port, asked.destination_port = question.ports
    lib.lm_explain(engine, asked, said)
    entry = marshal.prefix(said.entry) if said.has_entry else None
    fate = Fate(said.fate)
    if fate not in (Fate.SENT, Fate.DOUBT):
        return Answer(fate, entry, int(said.flow), seal=_SEALS[said.seal])
    return Answer(
        fate,
        entry,
        int(said.flow),
        by_mark=bool(said.by_mark),
        ifindex=int(said.ifindex),
        copy_ifindex=int(said.copy_ifindex),
        local=marshal.address(said.local),
        remote=marshal.address(said.mapped),
        relayed_to=marshal.address(said.remote) if said.is_relayed else None,
        port=int(said.port),
        seal=_SEALS[said.seal],
    )
