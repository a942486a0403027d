"""A status bit that is cleared in data, on the link: the locator is probed, and only bits of its peer count."""

from __future__ import annotations

import socket
import time

import pytest

from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.namespace import Namespace
from lispmob.wire.data_header import DataHeader
from tests.datapath.engine.test_acceptance_netns import udp
from tests.mh.town.town import A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

SELDOM = "probing: {interval: 1h}\n"
"""After the first probes none is due while the test runs."""


def say(sender: Namespace, source: str, to: str, bits: int) -> None:
    """Send data from b's EID to a's that says which of b's locators are up."""
    inner = bytes.fromhex(udp(str(B.eid4), str(A.eid4)))
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(DataHeader(locator_status_bits=bits).encode() + inner, (to, 4341))


def probes(watch: ControlWatch, began: float) -> list[str]:
    """The locators that a has probed since then."""
    return [message.peer for message in watch.messages(began) if message.kind == "rloc-probe" and message.is_out]


def is_known(here: Town) -> bool:
    """True when all IPv4 pairs have answered. No IPv6 pair was probed yet: the Map-Server has no IPv6."""
    paths = here.ctl("paths")
    return len(paths) >= 4 and all(path["state"] == "up" for path in paths)


def is_quiet(watch: ControlWatch) -> bool:
    """True when nothing was probed for a second: the first round is over."""
    began = time.monotonic()
    time.sleep(1.0)
    return probes(watch, began) == []


def test_a_bit_that_falls_leads_to_a_probe_of_that_locator_and_a_forged_one_to_nothing() -> None:
    with town(SELDOM, SELDOM) as here:
        where = here.lab.topology
        a, wifi, lte = (where.address(*one) for one in (("a", "wlan0"), ("b", "wlan0"), ("b", "lte0")))
        bits = 0b1111 & ~(1 << sorted((int(wifi), int(lte))).index(int(wifi)))
        wait_for(lambda: is_known(here), 20.0)
        with ControlWatch({"a": here.a}) as watch, here.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind((str(A.eid4), 5000))  # or the host would answer with ICMP
            wait_for(lambda: is_quiet(watch), 20.0)
            began = time.monotonic()
            say(here.lab["hub"], str(where.address("hub", "eth0")), str(a), bits)
            time.sleep(1.0)
            after_forgery = probes(watch, began)
            began = time.monotonic()
            say(here.b, str(lte), str(a), bits)
            time.sleep(1.0)
            asked = probes(watch, began)

        assert after_forgery == []
        # It is probed first; a probed node probes back by the path that it sends on, which may cause another one.
        assert asked[0] == str(wifi)
        assert all(path["state"] == "up" for path in here.ctl("paths"))
