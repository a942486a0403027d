"""`prefer` with real lines: traffic moves to the better uplink, stays there, and is explained."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lispmob.lab.line import Impairment
from tests.mh.town import Town, town, wait_for

pytestmark = pytest.mark.netns

CONFIGURATION = """\
uplinks:
  - {{name: "wlan*", priority: 1, weight: 75{wlan}}}
  - {{name: "lte*", priority: 1, weight: 25{lte}}}
probing: {{interval: 1s, timeout: 0.5s}}
multihoming: {{prefer: {prefer}, hold: 2s}}
"""
SLOW, QUICK = Impairment(delay_s=0.1), Impairment(delay_s=0.005)
LOSSY = Impairment(delay_s=0.005, loss=0.1)  # each way


def configuration(prefer: str, wlan: str = "", lte: str = "") -> str:
    return CONFIGURATION.format(prefer=prefer, wlan=wlan, lte=lte)


@pytest.fixture(scope="module")
def here() -> Iterator[Town]:
    """Both lines are quick at first."""
    with town(configuration("latency")) as made:
        yield made


def preferred(here: Town) -> str | None:
    """The one that carries every one of many flows; None: they are shared, or nothing gets through."""
    sent = here.by_uplink(2, flows=20)
    carriers = [name for name, count in sent.items() if count >= 36]
    return carriers[0] if len(carriers) == 1 and min(sent.values()) < 12 else None


def ranked(here: Town) -> int:
    """How often another uplink was preferred so far."""
    log = (here.directory / "a" / "lispd.log").read_text()
    return log.count("uplinks-ranked")


def keep_talking(here: Town, seconds: float) -> set[str | None]:
    """Who carries the flows within that time."""
    deadline = time.monotonic() + seconds
    found = set()
    while time.monotonic() < deadline:
        found.add(preferred(here))
    return found


def test_traffic_moves_to_the_quicker_uplink_once_and_stays(here: Town) -> None:
    wait_for(lambda: preferred(here) is not None, 10)
    before = preferred(here)
    changes = ranked(here)
    slowed = {"wlan0": "home", "lte0": "lte"}[str(before)]

    here.lab.impair(slowed, SLOW)
    wait_for(lambda: preferred(here) not in (before, None), 20)
    after = preferred(here)
    later = keep_talking(here, 4.0)
    told = here.say("why", "udp", "10.1.0.2:7000")
    paths = {(path["interface"], path["is_preferred"]) for path in here.ctl("paths")}

    assert later == {after}
    assert ranked(here) == changes + 1
    assert any("prefer" in line and "latency" in line for line in told)
    assert paths == {(before, False), (after, True)}
    here.lab.impair(slowed, QUICK)


def test_traffic_leaves_a_lossy_uplink_and_does_not_flap(here: Town) -> None:
    here.configure(configuration("loss"))
    wait_for(lambda: keep_talking(here, 1.0) in ({"wlan0"}, {"lte0"}), 20)
    before = preferred(here)
    network = {"wlan0": "home", "lte0": "lte"}[str(before)]
    changes = ranked(here)

    here.lab.impair(network, LOSSY)
    wait_for(lambda: preferred(here) not in (before, None), 40)
    after = preferred(here)
    later = keep_talking(here, 6.0)

    assert later == {after}
    assert ranked(here) <= changes + 2
    here.lab.impair(network, QUICK)


def test_the_cheaper_uplink_is_used_and_weight_shares_again_when_asked_for(here: Town) -> None:
    here.configure(configuration("cost", lte=", cost: 1", wlan=", metered: yes"))
    wait_for(lambda: preferred(here) == "lte0", 10)
    here.configure(configuration("cost", lte=", cost: 200", wlan=", metered: yes"))
    wait_for(lambda: preferred(here) == "wlan0", 10)

    here.configure(configuration("weight"))
    wait_for(lambda: preferred(here) is None, 10)
    sent = here.by_uplink(2, flows=40)

    assert min(sent.values()) >= 8
