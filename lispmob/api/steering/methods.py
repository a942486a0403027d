"""The methods of the control socket about steering."""

from __future__ import annotations

from typing import Final

from lispmob.api.backend import ApiError
from lispmob.api.method import Method
from lispmob.api.steering.backend import SteeringBackend
from lispmob.api.steering.schema import FlowParams, RehearseParams, RunParams

NAMES_MAX: Final = 32  # ours: the datapath has no more uplinks


async def _rehearse(backend: SteeringBackend, params: RehearseParams) -> object:
    if not params.lose and not params.gain:
        raise ApiError("params", "lose, gain: name an interface that is lost or gained")
    if both := sorted(set(params.lose) & set(params.gain)):
        raise ApiError("params", f"{both[0]} cannot be lost and gained at once")
    return await backend.rehearse(params.lose, params.gain)


async def _run(backend: SteeringBackend, params: RunParams, pid: int) -> object:
    if not 0 < len(params.via) <= NAMES_MAX or not all(params.via):
        raise ApiError("params", f"via: 1 to {NAMES_MAX} names or patterns of uplinks")
    return await backend.run(params, pid)


STEERING_METHODS: Final[dict[str, Method]] = {
    "why": Method(FlowParams, lambda backend, params: backend.why(params)),
    "rehearse": Method(RehearseParams, _rehearse),
    "run": Method(RunParams, _run, is_change=True, wants_pid=True),
}
