"""The last packet of a TCP flow is sent once more when the flow takes another path, and no other packet is.

The kernel would send it again after five seconds: what arrives sooner is the copy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, lab

pytestmark = pytest.mark.netns

INNER = {4: (EID_A4, EID_B4), 6: (EID_A6, EID_B6)}
SOON_S = 3.0
FLOW = 2000  # octets before the move, in segments of their own
SEGMENT = 700
NOBODY = "02:00:00:00:00:99"
NEW = {4: "192.0.2.3", 6: "2001:db8:ff00::3"}  # b's other locator on the first link


@contextmanager
def connected(inner: int, outer: int) -> Iterator[Lab]:
    """A TCP connection. Packets to b's first locator are lost from now on; b answers by the second of two links."""
    own, other = INNER[inner]
    with lab(links=2) as both:
        first, second = both.links
        both.b.ip(f"addr add {NEW[4]}/29 dev {first.name}")
        both.b.ip(f"-6 addr add {NEW[6]}/64 dev {first.name} nodad")
        name, addresses, _, mtu = first.uplink("b")
        both.a("uplinks", uplinks=[first.uplink("a", priority=1), second.uplink("a", priority=2)])
        both.b("uplinks", uplinks=[second.uplink("b", priority=1), [name, [*addresses, *NEW.values()], 2, mtu]])
        both.a("install", prefix=other, locators=[first.rloc("b", outer)], never=[second.rloc("b", outer)])
        both.b("install", prefix=own, locators=[second.rloc("a", outer)], never=[first.rloc("a", outer)])
        whole = "10.0.0.0/8" if inner == 4 else "2001:db8::/40"
        both.a.ip(f"-{inner} route change {whole} dev lmt0 src {own} rto_min 5s")
        both.b("tcp_listen", name="s", address=other, port=5001)
        both.a("tcp_open", name="s", source=own, to=other, port=5001)
        for sent in range(100, FLOW + 1, 100):
            both.a("tcp_write", name="s", octets=100)
            assert both.b("tcp_arrived", name="s", octets=sent, timeout_s=5) == sent
        time.sleep(0.1)  # for b's last acknowledgement
        both.a.ip(f"neigh replace {first.rloc('b', outer)} lladdr {NOBODY} dev {first.name} nud permanent")
        yield both


def install(both: Lab, prefix: str, locator: str) -> None:
    """Install a mapping as after a move: the locator that b answers from is for receiving only."""
    both.a("install", prefix=prefix, locators=[locator], never=[both.links[1].rloc("b", 6 if ":" in locator else 4)])


def repeated(both: Lab) -> int:
    return int(both.a("counters").get("out_repeated", 0))


@pytest.mark.parametrize(("inner", "outer"), [(4, 4), (6, 6)])
def test_a_peer_that_moved_has_the_last_packet_at_once(inner: int, outer: int) -> None:
    with connected(inner, outer) as both:
        both.a("tcp_write", name="s", octets=SEGMENT)
        assert both.b("tcp_arrived", name="s", octets=FLOW + 1, timeout_s=0.2) == FLOW

        install(both, INNER[inner][1], NEW[outer])

        assert both.b("tcp_arrived", name="s", octets=FLOW + SEGMENT, timeout_s=SOON_S) == FLOW + SEGMENT
        assert repeated(both) == 1


def test_an_uplink_that_is_gone_is_made_up_for_by_the_other_one() -> None:
    with connected(4, 4) as both:
        both.a("tcp_write", name="s", octets=SEGMENT)
        assert both.b("tcp_arrived", name="s", octets=FLOW + 1, timeout_s=0.2) == FLOW

        both.a("uplinks", uplinks=[both.links[1].uplink("a", (4,))])
        assert repeated(both) == 0  # before the peers know of the move, they would not accept the packet from there
        both.a("repeat_last")

        assert both.b("tcp_arrived", name="s", octets=FLOW + SEGMENT, timeout_s=SOON_S) == FLOW + SEGMENT
        assert repeated(both) == 1


def test_of_a_large_piece_the_beginning_is_sent_and_the_rest_follows() -> None:
    """Of a piece that the kernel sent as one, the first packet is repeated, with checksums of its own."""
    with connected(4, 4) as both:
        both.a("tcp_write", name="s", octets=8000)
        assert both.b("tcp_arrived", name="s", octets=FLOW + 1, timeout_s=0.2) == FLOW

        install(both, EID_B4, NEW[4])

        assert both.b("tcp_arrived", name="s", octets=FLOW + 8000, timeout_s=SOON_S) == FLOW + 8000
        assert repeated(both) == 1


def test_nothing_is_repeated_that_takes_its_old_way_or_is_old_or_of_another_protocol() -> None:
    with connected(4, 4) as both:
        both.a("tcp_write", name="s", octets=SEGMENT)
        install(both, EID_B4, both.links[0].rloc("b", 4))
        install(both, "10.9.0.1", NEW[4])
        assert repeated(both) == 0

        time.sleep(1.1)
        both.a("udp_open", name="u", address=EID_A4, port=5000)
        both.a("udp_send", name="u", to=EID_B4, port=5000)
        install(both, EID_B4, NEW[4])

        assert repeated(both) == 0
