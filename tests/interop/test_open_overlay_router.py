"""lispmob and Open Overlay Router, each with the other's Map-Server and as the other's correspondent.

Runs where its program is installed: `oor` on PATH, or its path in the environment variable OOR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.process import module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink
from tests.interop.open_overlay_router import KEY, NEEDS_IT, SERVER, Meeting, our_node

pytestmark = NEEDS_IT

TOPOLOGY = Topology(
    networks=(
        AccessNetwork("rack", IPv4Network("198.51.100.0/24")),
        AccessNetwork("home", IPv4Network("198.18.1.0/24")),
        AccessNetwork("office", IPv4Network("198.19.1.0/24")),
    ),
    hosts=(
        Host("server", (Uplink("eth0", "rack"),)),
        Host("ours", (Uplink("wlan0", "home"),)),
        Host("theirs", (Uplink("eth0", "office"),)),
    ),
)

OUR_HUB = f"""
listen: [{SERVER}]
sites:
  - name: both
    eids: [10.1.0.0/16]
    key: {KEY}
    algorithms: [hmac-sha-1-96, hmac-sha-256-128]
    accept-more-specifics: yes
    strict-nonces: auto
state-file: none
"""


@pytest.fixture
def meeting(build_lab: Callable[[Topology], Lab], tmp_path: Path) -> Iterator[Meeting]:
    made = Meeting(build_lab(TOPOLOGY), tmp_path)
    yield made
    for daemon in reversed(made.running):
        daemon.stop()


def test_our_node_with_their_map_server_and_their_node(meeting: Meeting) -> None:
    meeting.start_their_map_server()
    meeting.start_their_node()
    meeting.start(
        "ours", "our-node", our_node(meeting.directory, "hmac-sha-1-96"), lambda path: module("lispmob", "-c", path)
    )

    assert meeting.reaches("ours", "10.1.0.1", "10.1.0.2")
    assert meeting.reaches("theirs", "10.1.0.2", "10.1.0.1")


def test_their_node_with_our_hub_and_our_node(meeting: Meeting) -> None:
    own = f"control-socket: {meeting.directory}/lisphub.sock\n"
    meeting.start("server", "our-hub", OUR_HUB + own, lambda path: module("lispmob.hub.daemon", "-c", path))
    meeting.start_their_node()
    meeting.start(
        "ours", "our-node", our_node(meeting.directory, "hmac-sha-256-128"), lambda path: module("lispmob", "-c", path)
    )

    assert meeting.reaches("ours", "10.1.0.1", "10.1.0.2")
    assert meeting.reaches("theirs", "10.1.0.2", "10.1.0.1")
