"""The daemon as its views, explanations and reports use it: attributes and a few calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lispmob.api import schema
from lispmob.config.node import NodeFile
from lispmob.control_port.own_firewall import OwnFirewall
from lispmob.control_port.port import ControlPort
from lispmob.datapath.engine import Engine
from lispmob.iface_monitor.monitor import Monitor
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy
from lispmob.lispd.local_mappings import LocalMappings
from lispmob.lispd.report.control_cost import ControlCost
from lispmob.lispd.report.handovers import HandoverJournal
from lispmob.lispd.resolving import Resolving
from lispmob.lispd.tasks.measuring import Measuring
from lispmob.lispd.tasks.naming import Naming
from lispmob.lispd.tasks.runs import Runs
from lispmob.lispd.tasks.steering import Steering
from lispmob.lispd.translators import Translators
from lispmob.node.node import Node, NodeEffect
from lispmob.problems.problem import Problem

if TYPE_CHECKING:  # loaded when needed, and not at every start
    from lispmob.recording.recorder import Tape


class Parts(Protocol):
    """The part of the daemon that its views, explanations and reports need."""

    path: Path
    file: NodeFile
    node: Node
    engine: Engine
    control: ControlPort
    journal: HandoverJournal
    measuring: Measuring
    monitor: Monitor | None
    network: NetworkState
    uplinks: tuple[Uplink, ...]
    started_wall: float
    is_starting: bool
    is_stopping: bool
    state_refusals: list[str]
    steering: Steering
    runs: Runs
    local_mappings: LocalMappings
    names: Resolving
    translators: Translators
    tape: Tape | None
    cost: ControlCost
    naming: Naming
    own_firewall: OwnFirewall

    @property
    def policy(self) -> UplinkPolicy: ...
    @property
    def tun_mtu_bytes(self) -> int: ...
    def replace_static_key(self) -> None: ...
    @property
    def host_problems(self) -> tuple[Problem, ...]: ...
    def now(self) -> float: ...
    def wall(self) -> float: ...
    @property
    def nm_state(self) -> ManagerState: ...
    def nudge(self) -> bool: ...
    def perform(self, effects: Sequence[NodeEffect]) -> None: ...
    def use_local_mappings(self) -> None: ...
    async def reload(self) -> schema.Reloaded: ...
