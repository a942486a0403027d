"""Real traffic with lispers.net's xTR, by its Map-Server and by our hub, and its `lig` at our hub."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop import lispers_net
from tests.interop.cables import Cables, cables
from tests.interop.lispers_net import BEARABLE_MBIT_S, NEEDS_IT
from tests.interop.traffic import QUESTIONS

pytestmark = NEEDS_IT

OURS, THEIRS = "10.1.0.1", "10.1.0.2"
PINGS = 16
LONGEST_GAP_S = 1.5  # a packet that waits in the kernel waits for three seconds
PATIENCE_S = 60.0  # it registers, and asks again, as rarely as this
LIG = [  # the words of a request to it, and what its answer holds
    ((OURS,), "198.18.1.10"),
    ((OURS, "count", "3"), "198.18.1.10"),
    (("2001:db8:e1d::1",), "198.18.1.10"),
    (("10.1.0.3",), "198.18.3.10"),  # an ETR that answers itself
    (("10.1.9.9",), "native-forward"),  # an EID that no node has registered
    (("192.0.2.9",), "native-forward"),  # an EID of no site
    (("[5]10.1.0.1",), "native-forward"),
    (("240.1.0.9",), "native-forward"),
]


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Cables]:
    with cables(tmp_path) as made:
        yield made


def start_theirs(wired: Cables, host: str, text: str, *programs: str) -> None:
    home = wired.directory / f"their-{host}"
    lispers_net.install(home, text)
    lispers_net.start(lambda program, line: wired.start(host, f"{program}-{host}", line), home, *programs)


def start_their_server(wired: Cables) -> None:
    start_theirs(wired, "hub", lispers_net.map_server(), "lisp-ms", "lisp-mr")


def start_their_xtr(wired: Cables) -> None:
    lispers_net.prepare_xtr(wired["theirs"], THEIRS, wired.gateway("theirs"))
    text = lispers_net.xtr(wired.hub_address, THEIRS)
    start_theirs(wired, "theirs", text, "lisp-itr", "lisp-etr")


def wait_for_both(wired: Cables) -> None:
    with wired.answering("theirs", THEIRS), wired.answering("ours", OURS):
        wired.wait_until_reached("ours", OURS, THEIRS, PATIENCE_S)
        wired.wait_until_reached("theirs", THEIRS, OURS, PATIENCE_S)


def assert_traffic(wired: Cables, record: Callable[[str, object], None]) -> None:
    """Send pings, datagrams and a stream, each in both directions."""
    pings = wired.pings("ours", OURS, THEIRS, PINGS), wired.pings("theirs", THEIRS, OURS, PINGS)
    with wired.answering("theirs", THEIRS), wired.answering("ours", OURS):
        answered = wired.answered("ours", OURS, THEIRS), wired.answered("theirs", THEIRS, OURS)
    speeds = wired.mbit_s("ours", "theirs", THEIRS, OURS, 2), wired.mbit_s("theirs", "ours", OURS, THEIRS, 2)
    record("pings of 16", pings)
    record("UDP of 20", answered)
    record("Mbit/s", speeds)
    assert pings == (PINGS, PINGS)
    assert answered == (QUESTIONS, QUESTIONS)
    assert min(speeds) > BEARABLE_MBIT_S


@pytest.mark.parametrize("tier", ["tun", "ebpf"])
def test_their_xtr_and_our_node_talk_by_our_hub(
    wired: Cables, tier: str, record_property: Callable[[str, object], None]
) -> None:
    wired.start_hub()
    start_their_xtr(wired)
    wired.start_ours(tier, (f"{OURS}/32",))
    wait_for_both(wired)

    assert_traffic(wired, record_property)
    assert wired.sealed_peers("ours") == 0


@pytest.mark.parametrize("tier", ["tun", "ebpf"])
def test_their_xtr_and_our_node_talk_by_their_map_server(
    wired: Cables, tier: str, record_property: Callable[[str, object], None]
) -> None:
    start_their_server(wired)
    start_their_xtr(wired)
    wired.start_ours(tier, (f"{OURS}/32",))
    wait_for_both(wired)

    assert_traffic(wired, record_property)
    wired.check()  # our default configuration has ended none of their programs


def test_our_node_answers_for_itself_under_their_map_server(wired: Cables) -> None:
    start_their_server(wired)
    start_their_xtr(wired)
    wired.start_ours("auto", (f"{OURS}/32",), proxy_reply="no")
    wait_for_both(wired)

    assert wired.pings("ours", OURS, THEIRS, PINGS) == PINGS
    assert wired.pings("theirs", THEIRS, OURS, PINGS) == PINGS
    wired.check()


@pytest.mark.parametrize("tier", ["tun", "ebpf"])
@pytest.mark.parametrize("kind", ["address", "route", "link"])
def test_a_tcp_stream_to_their_xtr_lives_when_we_lose_an_uplink_and_get_it_back(
    wired: Cables, tier: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    wired.start_hub()
    start_their_xtr(wired)
    wired.start_ours(tier, (f"{OURS}/32",))
    wait_for_both(wired)

    result = wired.stream_through_a_loss(kind, OURS, THEIRS, pace_s=0.05)
    record_property("longest gap s", result.longest_tcp_gap_s)

    assert result.is_alive
    assert result.longest_tcp_gap_s < LONGEST_GAP_S


def test_their_xtr_is_reached_when_their_map_server_was_restarted(wired: Cables) -> None:
    start_their_server(wired)
    start_their_xtr(wired)
    wired.start_ours("auto", (f"{OURS}/32",))
    wait_for_both(wired)

    for name in ("lisp-mr-hub", "lisp-ms-hub", "lisp-core-hub"):
        wired.stop(name)
    home = wired.directory / "their-hub"
    lispers_net.start(lambda program, line: wired.start("hub", f"{program}-hub", line), home, "lisp-ms", "lisp-mr")

    assert wired.pings("ours", OURS, THEIRS, PINGS) == PINGS
    assert wired.pings("theirs", THEIRS, OURS, PINGS) == PINGS


def test_their_lig_is_answered_by_our_hub(wired: Cables, record_property: Callable[[str, object], None]) -> None:
    wired.start_hub()
    wired.start_ours("auto", (f"{OURS}/32", "2001:db8:e1d::1/128"))
    wired.start_ours("auto", ("10.1.0.3/32",), host="other", proxy_reply="no")
    wired.wait_until_registered(f"{OURS}/32", "2001:db8:e1d::1/128", "10.1.0.3/32")
    home = wired.directory / "their-lig"
    lispers_net.install(home, "")

    answers = []
    for (eid, *words), expected in LIG:
        line = lispers_net.command(home, "lisp-lig", eid, "to", str(wired.hub_address), *words)
        done = subprocess.run(wired["theirs"].argv(*line), capture_output=True, text=True, timeout=60, check=False)
        told = done.stdout.count("Received map-reply")
        answers.append(done.returncode == 0 and told == (3 if words else 1) and expected in done.stdout)

    record_property(f"answers of {len(LIG)}", sum(answers))
    assert answers == [True] * len(LIG)
