"""Moves with a TCP stream to a node of Open Overlay Router, by its Map-Server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.cables import Cables, cables
from tests.interop.open_overlay_router import NEEDS_IT, OOR, THEIR_MAP_SERVER, their_node

pytestmark = NEEDS_IT

OUR_EID, THEIR_EID = "10.1.0.1", "10.1.0.2"
LONGEST_GAP_S = 1.5  # a packet that waits in the kernel waits for three seconds


def start(wired: Cables, host: str, name: str, text: str) -> None:
    wired.start(host, name, [OOR, "-f", wired.write(name, text)])


def start_server(wired: Cables) -> None:
    start(wired, "hub", "their-map-server", THEIR_MAP_SERVER)


def start_nodes(wired: Cables, tier: str) -> None:
    start(wired, "theirs", "theirs", their_node(wired.hub_address, f"{THEIR_EID}/32"))
    time.sleep(4)  # a request before it is registered gets a negative answer, cached for a minute
    wired.start_ours(tier, (f"{OUR_EID}/32",), more="natt: {mode: off}", algorithm="hmac-sha-1-96", proxy_reply="no")


def wait_for_both(wired: Cables, patience_s: float = 30.0) -> None:
    with wired.answering("theirs", THEIR_EID), wired.answering("ours", OUR_EID):
        wired.wait_until_reached("ours", OUR_EID, THEIR_EID, patience_s)
        wired.wait_until_reached("theirs", THEIR_EID, OUR_EID, patience_s)


@pytest.mark.parametrize("tier", ["tun", "ebpf"])
@pytest.mark.parametrize("kind", ["address", "route", "link"])
def test_a_tcp_stream_to_their_node_lives_when_we_lose_an_uplink_and_get_it_back(
    tmp_path: Path, tier: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    with cables(tmp_path) as wired:
        start_server(wired)
        time.sleep(1)
        start_nodes(wired, tier)
        wait_for_both(wired)

        result = wired.stream_through_a_loss(kind, OUR_EID, THEIR_EID)

    record_property("longest gap s", result.longest_tcp_gap_s)
    assert result.is_alive
    assert result.longest_tcp_gap_s < LONGEST_GAP_S
