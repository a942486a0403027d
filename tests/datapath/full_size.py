"""Two hosts and their packets of full size, for the tests of path MTUs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.datapath import too_big
from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab

FULL = 1400  # octets of UDP payload: 1428 inside, 1464 or 1484 outside


@contextmanager
def full_size_lab(outer: int) -> Iterator[Lab]:
    """Both hosts have a socket "x" at port 5000; b sniffs what a sends over the link as "s"."""
    with lab(tun_mtu_bytes=1440) as made:
        install_both(made, outer)
        made.b("sniff", name="s", interface="up0")
        for engine, address in ((made.a, EID_A4), (made.b, EID_B4)):
            engine("udp_open", name="x", address=address, port=5000)
        for _ in range(20):  # until both have resolved each other's link addresses
            made.a("udp_send", name="x", to=EID_B4, port=5000)
            if made.b("udp_received", name="x", count=1, timeout_s=0.2):
                break
        yield made


def send_full(both: Lab, count: int = 1) -> int:
    """Send packets of full size from a; returns how many of them arrived at b."""
    before = full_received(both)
    both.a("udp_send", name="x", to=EID_B4, port=5000, count=count, sizes=[FULL], pause_s=0.02)
    deadline = time.monotonic() + 1.0
    while (received := full_received(both) - before) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return received


def full_received(both: Lab) -> int:
    """How many packets of full size arrived at b. The small ones from the start may come late, and do not count."""
    return sum(size == FULL for _, size in both.b("udp_received", name="x", count=0))


def real_packet(both: Lab) -> bytes:
    """The beginning of an outer packet of a's, as it was on the link."""
    assert send_full(both) == 1
    packets = [bytes.fromhex(one) for one in both.b("sniffed", name="s", count=64, timeout_s=0.3)]
    return next(packet for packet in packets if len(packet) > FULL)[:128]


def announce(both: Lab, quote: bytes, mtu_bytes: int, outer: int, patience_s: float = 3.0) -> None:
    """Send the error from b's host, with an address of its own; returns when the engine has counted it."""
    before = judged(both)
    too_big.send(both.b.namespace, both.links[0].rloc("a", outer), (quote, mtu_bytes))
    until_judged(both, before + 1, patience_s)


def judged(both: Lab) -> int:
    """How many errors a's engine has accepted or refused."""
    counters = both.a("counters")
    return sum(counters.get(name, 0) for name in ("mtu_learned", "mtu_ignored", "mtu_unproven"))


def until_judged(both: Lab, count: int, patience_s: float = 3.0) -> None:
    """Return when a's engine has accepted or refused so many errors, or when the time is over."""
    deadline = time.monotonic() + patience_s
    while judged(both) < count and time.monotonic() < deadline:
        time.sleep(0.02)


def header(outer: int) -> int:
    return 20 if outer == 4 else 40
