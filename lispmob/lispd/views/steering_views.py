"""The part of the control socket's Backend for steering."""

from __future__ import annotations

from collections.abc import Sequence

from lispmob.api.steering.schema import FlowParams, Rehearsal, Run, RunParams, Why
from lispmob.lispd.views.shown import Shown


class SteeringViews:
    """Explains, rehearses and runs."""

    def __init__(self, parts: Shown) -> None:
        self._parts = parts

    async def why(self, params: FlowParams) -> Why:
        """What happens to a flow."""
        from lispmob.lispd.explain.why import why  # loaded on request, and not at every start

        return await why(self._parts, params)

    async def rehearse(self, lose: Sequence[str], gain: Sequence[str]) -> Rehearsal:
        """What would change for the current flows."""
        from lispmob.lispd.explain.rehearsing import rehearse_now

        return await rehearse_now(self._parts, lose, gain)

    async def run(self, params: RunParams, pid: int) -> Run:
        """Steer a command."""
        return await self._parts.runs.begin(params, pid)
