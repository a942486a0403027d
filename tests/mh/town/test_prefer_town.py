"""`prefer` with real links: traffic moves to the better uplink, stays there, and `lispctl` explains it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from lispmob.lab.line import Impairment
from tests.mh.town.carried import carried
from tests.mh.town.town import A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

CONFIGURATION = """\
uplinks:
  - {{name: "wlan*", priority: 1, weight: 75{wlan}}}
  - {{name: "lte*", priority: 1, weight: 25{lte}}}
probing: {{interval: 1s, timeout: 0.5s}}
multihoming: {{prefer: {prefer}, hold: 2s}}
"""
SLOW, QUICK = Impairment(delay_s=0.1), Impairment(delay_s=0.005)
PORT = 7000
NETWORKS = {"wlan0": "home", "lte0": "lte"}
OTHER = {"wlan0": "lte0", "lte0": "wlan0"}
LOSSY = Impairment(delay_s=0.005, loss=0.1)  # each way


def configuration(prefer: str, wlan: str = "", lte: str = "") -> str:
    return CONFIGURATION.format(prefer=prefer, wlan=wlan, lte=lte)


@pytest.fixture(scope="module")
def here() -> Iterator[Town]:
    """Both links have short delays, and the peer answers: without answers an uplink would look dead."""
    with town(configuration("latency")) as made, made.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((str(B.eid4), PORT))
        is_over = threading.Event()
        thread = threading.Thread(target=answer, args=(server, is_over), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            is_over.set()
            thread.join(5)


def answer(server: socket.socket, is_over: threading.Event) -> None:
    server.settimeout(0.2)
    while not is_over.is_set():
        with contextlib.suppress(OSError):
            data, peer = server.recvfrom(200)
            server.sendto(data, peer)


def preferred(here: Town) -> str | None:
    """The uplink that carries all of many flows; None: they are shared, or no packets arrive."""
    with carried(here) as sent, contextlib.ExitStack() as stack:
        for _ in range(20):
            sender = stack.enter_context(here.a.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.bind((str(A.eid4), 0))
            for _ in range(2):
                sender.sendto(b"x" * 64, (str(B.eid4), PORT))
        time.sleep(0.25)  # all answers have arrived before a socket closes, or its ICMP errors would count, too
    carriers = [name for name, count in sent.items() if count]
    return carriers[0] if len(carriers) == 1 else None


def ranked(here: Town) -> int:
    """How often another uplink was preferred so far."""
    log = (here.directory / "a" / "lispd.log").read_text()
    return log.count("uplinks-ranked")


def always(here: Town, seconds: float) -> str | None:
    """The uplink that carries the flows all of that time; None: neither."""
    deadline = time.monotonic() + seconds
    found = {preferred(here)}
    while time.monotonic() < deadline:
        found.add(preferred(here))
    return found.pop() if len(found) == 1 else None


def settled(here: Town) -> str:
    """The uplink that carries the flows, once it is the same for a while."""
    seen: list[str | None] = [None]

    def is_settled() -> bool:
        seen.append(always(here, 1.5))
        return seen[-1] is not None and seen[-1] == seen[-2]

    wait_for(is_settled, 30)
    return str(seen[-1])


def test_traffic_moves_to_the_quicker_uplink_once_and_stays(here: Town) -> None:
    before = settled(here)
    changes = ranked(here)

    here.lab.impair(NETWORKS[before], SLOW)
    after = OTHER[before]
    wait_for(lambda: preferred(here) == after, 20)
    later = always(here, 4.0)
    told = here.say("why", "udp", "10.1.0.2:7000")
    paths = {(path["interface"], path["is_preferred"]) for path in here.ctl("paths")}
    here.lab.impair(NETWORKS[before], QUICK)

    assert later == after
    assert ranked(here) == changes + 1
    assert any("prefer" in line and "latency" in line for line in told)
    assert paths == {(before, False), (after, True)}


def test_traffic_leaves_a_lossy_uplink_and_does_not_flap(here: Town) -> None:
    here.configure(configuration("loss"))
    before = settled(here)
    changes = ranked(here)

    here.lab.impair(NETWORKS[before], LOSSY)
    after = OTHER[before]
    wait_for(lambda: preferred(here) == after and always(here, 0.5) == after, 60)
    later = always(here, 6.0)
    here.lab.impair(NETWORKS[before], QUICK)

    assert later == after
    assert ranked(here) <= changes + 2


def test_the_cheaper_uplink_is_used_and_weight_shares_again_when_asked_for(here: Town) -> None:
    here.configure(configuration("cost", lte=", cost: 1", wlan=", metered: yes"))
    wait_for(lambda: preferred(here) == "lte0", 10)
    here.configure(configuration("cost", lte=", cost: 200", wlan=", metered: yes"))
    wait_for(lambda: preferred(here) == "wlan0", 10)

    here.configure(configuration("weight"))
    wait_for(lambda: preferred(here) is None, 10)
    sent = here.by_uplink(2, flows=40)

    assert min(sent.values()) >= 8
