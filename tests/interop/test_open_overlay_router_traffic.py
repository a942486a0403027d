"""Real traffic with Open Overlay Router over plain virtual links, and its Map-Server with our default configuration."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.interop.cables import Cables, cables
from tests.interop.open_overlay_router import NEEDS_IT, OOR, THEIR_MAP_SERVER, their_node
from tests.interop.traffic import QUESTIONS

pytestmark = NEEDS_IT

OURS, OTHER, THEIRS = "10.1.0.1", "10.1.0.3", "10.1.0.2"
STARTS = 12
PAIRS = 5  # of a run between two of theirs and one from us to them, in turn


def start_theirs(wired: Cables, host: str, name: str, text: str) -> None:
    wired.start(host, name, [OOR, "-f", wired.write(name, text)])


@pytest.mark.parametrize("tier", ["tun", "ebpf"])
def test_tcp_to_them_is_as_fast_as_between_two_of_them_and_no_datagram_is_lost(
    tmp_path: Path, tier: str, record_property: Callable[[str, object], None]
) -> None:
    with cables(tmp_path) as wired:
        wired.start_hub()
        time.sleep(1)
        start_theirs(wired, "theirs", "theirs", their_node(wired.hub_address, f"{THEIRS}/32"))
        start_theirs(wired, "other", "other", their_node(wired.hub_address, f"{OTHER}/32"))
        wired.start_ours(tier, (f"{OURS}/32",))
        time.sleep(4)
        with wired.answering("theirs", THEIRS), wired.answering("ours", OURS), wired.answering("other", OTHER):
            wired.wait_until_reached("ours", OURS, THEIRS)
            wired.wait_until_reached("theirs", THEIRS, OURS)
            wired.wait_until_reached("other", OTHER, THEIRS)
            answered = wired.answered("ours", OURS, THEIRS), wired.answered("theirs", THEIRS, OURS)

        runs = [  # in turn, because they share the machine with other programs
            (wired.mbit_s("other", "theirs", THEIRS, OTHER), wired.mbit_s("ours", "theirs", THEIRS, OURS))
            for _ in range(PAIRS)
        ]
        between_them, to_them = (median(of_one) for of_one in zip(*runs, strict=True))
        ratio = median(ours / theirs for theirs, ours in runs)
        from_them = wired.mbit_s("theirs", "ours", OURS, THEIRS, 3)

    record_property("Mbit/s between them", between_them)
    record_property("from us to them", to_them)
    record_property("back", from_them)
    record_property("ratio", ratio)
    record_property("UDP of 20", answered)
    assert answered == (QUESTIONS, QUESTIONS)
    assert ratio >= 1.0
    assert from_them > 10


def test_their_map_server_lives_through_a_dozen_starts_of_our_default_configuration(tmp_path: Path) -> None:
    with cables(tmp_path, is_campus=True) as wired:
        text = THEIR_MAP_SERVER.replace("proxy-reply = false", "proxy-reply = true")
        server = wired.start("hub", "their-map-server", [OOR, "-f", wired.write("their-map-server", text)])
        time.sleep(1)
        for _ in range(STARTS):
            ours = wired.start_ours("auto", (f"{OURS}/32",), algorithm="hmac-sha-1-96")
            deadline = time.monotonic() + 20
            while "registered eid" not in ours.log_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert "registered eid" in ours.log_text()
            time.sleep(4)  # the time that a second question would take
            server.check()
            assert ours.stop() == 0
            del wired.running["ours"]
            ours.log.unlink()
