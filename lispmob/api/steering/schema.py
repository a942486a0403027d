"""Requests and replies of the control socket about steering: why, rehearse, run. The rest is in schema.py."""

from __future__ import annotations

from typing import Literal

import msgspec


class FlowParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flow of this host, or with `from_interface` a forwarded one. Names are those of lispd.conf's rules.

    `came_in_by`: the uplink by which the other end began it. Without `source`, the kernel's choice. `flow_name` and
    `flow_class`: of a flow to a name.
    """

    destination: str
    port: int | None = None
    protocol: str | None = None
    source: str | None = None
    source_port: int | None = None
    user: str | None = None
    group: str | None = None
    cgroup: str | None = None
    mark: str | None = None
    dscp: str | None = None
    from_interface: str | None = None
    came_in_by: str | None = None
    flow_name: str | None = None
    flow_class: str | None = None


class WhyStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the decision."""

    stage: Literal["route", "mark", "rule", "mapping", "seal", "uplink", "locator", "rtr"]
    text: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The path of the flow's packets. `share` below 1: of flows that differ only in unspecified parts.

    `rtr` replaces `remote` as the destination of the outer packet.
    """

    uplink: str
    local: str
    remote: str
    share: float = 1.0
    rtr: str | None = None


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a flow and why. `is_certain` False: a step says what could not be determined.

    "native": it does not enter the overlay; "waits": for a mapping or for an uplink; "own": it stays on this host.
    `silent`: its locators, if none of them answers.
    """

    flow: str
    outcome: Literal["overlay", "native", "dropped", "waits", "own"]
    steps: list[WhyStep]
    choices: list[Choice] = []
    mark: int = 0
    rule: str | None = None
    is_certain: bool = True
    silent: list[str] = []


class RehearseParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Uplinks that would be lost or gained; names of interfaces."""

    lose: list[str] = []
    gain: list[str] = []


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """One flow. The uplinks are those that it is on, or may be on; none: it is dropped, or has no way out."""

    flow: str
    change: Literal["stays", "moves", "breaks", "recovers"]
    before: list[str]
    after: list[str]
    steps: list[str]


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What would change. `source`: the source of the flows; `left_out`: flows beyond the limit of the list."""

    flows: list[Rehearsed]
    source: Literal["conntrack", "sockets"]
    left_out: int = 0


class RunParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Uplinks, by name or pattern, for all that the processes of a control group send.

    Without `cgroup` lispd makes one and puts the process that asks into it.
    """

    via: list[str]
    name: str
    cgroup: str | None = None
    otherwise: Literal["fallback", "drop"] = "fallback"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """It holds until the last process of the control group has ended. `uplinks`: those that are there now."""

    rule: str
    cgroup: str
    uplinks: list[str]
