"""Typed access to engine/explain.c: what would happen to a packet of a flow, without sending one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

import msgspec

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.model import Uplink
from lispmob.wire.address import EidPrefix, IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class FlowVerdict(Enum):
    """What happens to the packet; the values are the names in C (enum lm_flow_verdict)."""

    SENT = "LM_FLOW_SENT"
    NOT_LISP = "LM_FLOW_NOT_LISP"  # its destination is multicast, link-local or one of our addresses
    GUARDED = "LM_FLOW_GUARDED"  # it would be a tunnel in the tunnel
    SOURCE = "LM_FLOW_SOURCE"  # its source is not one of our EIDs
    MISS = "LM_FLOW_MISS"  # it waits for the mapping
    DROP = "LM_FLOW_DROP"
    PROHIBIT = "LM_FLOW_PROHIBIT"
    NATIVE = "LM_FLOW_NATIVE"  # the mapping says native, but the packet came to our device: dropped
    NO_LOCATOR = "LM_FLOW_NO_LOCATOR"  # no locator of a family that an uplink has
    NO_UPLINK = "LM_FLOW_NO_UPLINK"  # it waits for an uplink
    MARK = "LM_FLOW_MARK"  # its mark names no usable uplink, and such packets are dropped
    DOUBT = "LM_FLOW_DOUBT"  # sent although no locator answers; its sender gets an ICMP error
    NO_KEY = "LM_FLOW_NO_KEY"  # it must not leave in clear, and there is no key yet


SealAnswer: TypeAlias = Literal["clear", "sealed", "waiting", "unsealed", "rfc8061", "lispers-net"]
"""In clear; sealed; with NO_KEY: it waits for a key of its peer, or is lost, since it has no peer."""
_SEALS: Final[dict[int, SealAnswer]] = {
    lib.LM_ANSWER_CLEAR: "clear",
    lib.LM_ANSWER_SEALED: "sealed",
    lib.LM_ANSWER_WAITS: "waiting",
    lib.LM_ANSWER_UNSEALED: "unsealed",
    lib.LM_ANSWER_RFC8061: "rfc8061",
    lib.LM_ANSWER_LISPERS: "lispers-net",
}
_VERDICTS: Final = {int(getattr(lib, verdict.value)): verdict for verdict in FlowVerdict}


class Question(msgspec.Struct, frozen=True):
    """A five-tuple, and the lane of its mark: an ifindex, 0 without mark, -1 for a mark of no uplink.

    `ports` of the source and the destination; None for a protocol without ports.
    """

    source: IpAddress
    destination: IpAddress
    protocol: int
    ports: tuple[int, int] | None = None
    lane: int = 0


class Answer(msgspec.Struct, frozen=True):
    """The datapath's answer. `entry`: the mapping. With SENT and DOUBT, all fields but `relayed_to` are set.

    `flow`: the hash that choose_uplink() takes, for comparisons with other uplinks. `by_mark` False: priority and
    weight chose the uplink. `relayed_to`: the RTR in place of `remote`. `copy_ifindex`: the uplink that carries a copy
    of each packet; 0: none.
    """

    verdict: FlowVerdict
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


class DryRun:
    """What would happen to packets: nothing is sent, counted or stored."""

    def __init__(self, handle: marshal.Handle) -> None:
        self._handle = handle

    def ask(self, question: Question) -> Answer:
        """The verdict of a packet of this flow. Holds the threads' lock, shared, during one lookup."""
        asked, said = ffi.new("struct lm_question *"), ffi.new("struct lm_answer *")
        marshal.put_address(asked.source, question.source)
        marshal.put_address(asked.destination, question.destination)
        asked.protocol, asked.lane = question.protocol, question.lane
        if question.ports is not None:
            asked.has_ports = True
            asked.source_port, asked.destination_port = question.ports
        lib.lm_explain(self._handle.c, asked, said)
        entry = marshal.prefix(said.entry) if said.has_entry else None
        verdict = _VERDICTS[said.verdict]
        if verdict not in (FlowVerdict.SENT, FlowVerdict.DOUBT):
            return Answer(verdict, entry, int(said.flow), seal=_SEALS[said.seal])
        return Answer(
            verdict,
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


def choose_uplink(uplinks: Sequence[Uplink], flow: int) -> Uplink | None:
    """The uplink of a flow by priority and weight (RFC 9300, section 12); None: none takes part.

    `flow` is the hash of an Answer. The uplinks need not be those of the engine: `rehearse` uses this.
    """
    contenders = [(_identity(uplink.ifindex), uplink.priority, uplink.weight) for uplink in uplinks]
    index = lib.lm_rendezvous_choose(ffi.new("struct lm_contender[]", contenders), len(contenders), flow)
    return None if index < 0 else uplinks[index]


def _identity(ifindex: int) -> int:
    """As in table/uplink.c: it stays when the address changes."""
    name = b"\0" + ifindex.to_bytes(4, "big")
    return int(lib.lm_rendezvous_identity(name, len(name)))
