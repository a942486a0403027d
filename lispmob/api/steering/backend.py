"""The daemon's interface for the control socket about steering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lispmob.api.steering.schema import FlowParams, Rehearsal, Run, RunParams, Why


class SteeringBackend(Protocol):
    """Called in the event loop. Raises ApiError."""

    async def why(self, params: FlowParams) -> Why:
        """How a flow is treated, and for which reasons."""

    async def rehearse(self, lose: Sequence[str], gain: Sequence[str]) -> Rehearsal:
        """What would change for the current flows; nothing is changed."""

    async def run(self, params: RunParams, pid: int) -> Run:
        """Steer a control group, or the process `pid` in one of its own, until its last process has ended."""
