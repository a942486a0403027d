"""Start: the hub listens, both nodes register."""

from __future__ import annotations

import time
from typing import Final

from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import fact, figure

CLAIMS: Final = ("registered", "start-to-registered")
_PATIENCE_S: Final = 15.0
_START_GOAL_MS: Final = 500.0


def play(stage: Stage) -> None:
    """`start-to-registered` is measured on the wire: from the start of the process to its Map-Notify."""
    map_server = stage.lab.topology.address("hub", "eth0")
    round_trip = ping(stage.lab["a"], map_server).median_s
    if round_trip is None:
        raise ProcessFailed(f"the laboratory is broken: {map_server} does not answer a ping")
    stage.screen.say(f"  round trip to the Map-Server: {round_trip * 1000:.1f} ms")
    stage.start_hub()
    # One after the other, because two interpreters that start at once would delay each other.
    registered = 0
    for identity in (A, B):
        stage.start_node(identity)
        registered += _wait_until_registered(stage, identity.name)
    stage.report.check(fact("registered", ok=registered == 2, value=registered, unit="nodes", goal=2))
    taken = [_to_notify_ms(stage, identity.name) for identity in (A, B)]
    worst = None if None in taken else max(taken_ms for taken_ms in taken if taken_ms is not None)
    stage.report.check(figure("start-to-registered", worst, "ms", _START_GOAL_MS + round_trip * 1000))
    if registered < 2:
        raise ProcessFailed("a node did not register\n" + "\n".join(n.daemon.log_tail() for n in stage.nodes.values()))
    stage.screen.say(f"  both registered, the slower one {worst or 0:.0f} ms after its start")
    stage.screen.watch(stage.look)


def _wait_until_registered(stage: Stage, name: str) -> bool:
    node = stage.nodes[name]
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        stage.check_services()
        # Ask only after the Map-Notify, because lispctl would delay the node that is starting.
        if stage.watch.first(name, "map-notify", is_out=False, after=node.daemon.started_at) and node.is_registered():
            return True
        time.sleep(0.05)
    return False


def _to_notify_ms(stage: Stage, name: str) -> float | None:
    """Milliseconds from the start of the process to the first Map-Notify that reaches it."""
    started_at = stage.nodes[name].daemon.started_at
    notify = stage.watch.first(name, "map-notify", is_out=False, after=started_at)
    if notify is None:
        return None
    stage.report.event("registered", notify.at, host=name, after_start_ms=round((notify.at - started_at) * 1000, 2))
    return (notify.at - started_at) * 1000
