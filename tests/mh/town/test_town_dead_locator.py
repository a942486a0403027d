"""The preferred locators of the peer fail silently while packets go both ways: how soon they are left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lispmob.lab.probe import Party, ProbeStream
from lispmob.lab.uplink_watch import UplinkWatch
from tests.mh.town.town import EQUAL, A, B, Town, town

pytestmark = pytest.mark.netns

DELAY_S = 0.02
ROUND_TRIP_S = 4 * DELAY_S
TIMEOUT_S = 1.0  # the default of lispd
QUIET_S = 1.0  # how long nothing has left for a dead locator at the end; the time is printed, and the demo measures it
WATCHED_S = 2 * TIMEOUT_S + 1.5 + QUIET_S


@contextmanager
def silent(here: Town, addresses: list[str]) -> Iterator[None]:
    """Packets to these addresses and from them are lost at their gateway, without an error."""
    rules = [("-6" if ":" in address else "-4", way, address) for address in addresses for way in ("to", "from")]
    for family, way, one in rules:
        here.lab["gw-office"].run("ip", family, "rule", "add", way, one, "blackhole")
    try:
        yield
    finally:
        for family, way, one in rules:
            here.lab["gw-office"].run("ip", family, "rule", "del", way, one, "blackhole")


@pytest.mark.parametrize("extra", ["", EQUAL])
def test_dead_locators_are_left_for_good_and_packets_take_the_living_one(extra: str) -> None:
    with town(extra, delay_s=DELAY_S) as here:
        dead = [str(own.ip) for own in here.lab.topology.addresses("b", "wlan0")]
        with UplinkWatch(here.a, ("wlan0", "lte0")) as watch, ProbeStream(Party(here.a, A.eid4), Party(here.b, B.eid4)):
            time.sleep(2.5)  # until the round trip is known
            with silent(here, dead):
                began_at = time.monotonic()
                time.sleep(WATCHED_S)
                sent = watch.since(began_at)
        last_at = max(sending.at for sending in sent if str(sending.rloc) in dead)
        after = [sending for sending in sent if sending.at > last_at]

        round_trips = (last_at - began_at) / ROUND_TRIP_S
        sys.stdout.write(f"left after {round_trips:.2f} round trips of {ROUND_TRIP_S * 1000:.0f} ms\n")
        assert last_at - began_at <= WATCHED_S - QUIET_S
        assert after
