"""What the fake daemon says about steering."""

from __future__ import annotations

from collections.abc import Sequence

from lispmob.api.backend import ApiError
from lispmob.api.steering.schema import Choice, FlowParams, Rehearsal, Rehearsed, Run, RunParams, Why, WhyStep

WHY = Why(
    flow="tcp 192.0.2.7 -> 192.0.2.65:443",
    outcome="overlay",
    steps=[
        WhyStep(stage="route", text="the kernel routes it into lmn0, from 192.0.2.7"),
        WhyStep(stage="rule", text="rule 'calls' does not match: the flow is protocol 6"),
        WhyStep(stage="rule", text="no rule matches: priority and weight decide"),
        WhyStep(stage="uplink", text="the best priority have wlan0 weight 75, wwan0 weight 25"),
    ],
    choices=[
        Choice(uplink="wlan0", local="198.51.100.23", remote="203.0.113.5", share=0.75),
        Choice(uplink="wwan0", local="203.0.113.80", remote="203.0.113.5", share=0.25, rtr="203.0.113.9"),
    ],
)
REHEARSAL = Rehearsal(
    flows=[
        Rehearsed(flow="tcp a -> b", change="moves", before=["wlan0"], after=["wwan0"], steps=["by priority"]),
        Rehearsed(flow="udp a -> b", change="stays", before=["wwan0"], after=["wwan0"], steps=["by priority"]),
        Rehearsed(flow="udp a -> c", change="breaks", before=["wlan0"], after=[], steps=["the rule says drop"]),
    ],
    source="conntrack",
)


class FakeSteering:
    """Records what it is asked."""

    asked: FlowParams | None = None
    ran: RunParams | None = None

    async def why(self, params: FlowParams) -> Why:
        self.asked = params
        return WHY

    async def rehearse(self, lose: Sequence[str], gain: Sequence[str]) -> Rehearsal:
        if "eth9" in (*lose, *gain):
            raise ApiError("params", "lose: eth9 is no uplink now; there are: wlan0, wwan0")
        return REHEARSAL

    async def run(self, params: RunParams, pid: int) -> Run:
        if not pid:
            raise ApiError("refused", "nobody asked")
        self.ran = params
        return Run(rule=f"run 1: {params.name}", cgroup=f"lispmob-run/{pid}", uplinks=params.via)
