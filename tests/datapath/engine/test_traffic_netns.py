"""The packets and octets to each locator and from it, in each tier."""

from __future__ import annotations

import pytest

from tests.datapath.ebpf.test_tiers_netns import open_udp, settle
from tests.datapath.netlab import EID_B4, EID_B6, install_both, lab

pytestmark = pytest.mark.netns

HEADERS = {4: 20 + 8, 6: 40 + 8}


@pytest.mark.parametrize("family", [4, 6])
def test_inner_packets_and_octets_are_counted_for_the_locator_they_go_to_and_come_from(family: int) -> None:
    with lab() as both:
        install_both(both, 4)
        own, peer = open_udp(both, family)
        settle(both)
        remote, local = both.links[0].rloc("b", 4), both.links[0].rloc("a", 4)
        before = {side: getattr(both, side)("traffic") for side in "ab"}
        none = [0, 0, 0, 0]

        both.a("udp_send", name="x", to=peer, port=5000, count=10, sizes=[500])
        both.b("udp_received", name="x", count=10)
        both.b("udp_send", name="x", to=own, port=5000, count=3, sizes=[100])
        both.a("udp_received", name="x", count=3)

        out, back = 10 * (500 + HEADERS[family]), 3 * (100 + HEADERS[family])
        grown = [now - then for now, then in zip(both.a("traffic")[remote], before["a"].get(remote, none), strict=True)]
        assert grown == [10, out, 3, back]
        grown = [now - then for now, then in zip(both.b("traffic")[local], before["b"].get(local, none), strict=True)]
        assert grown == [3, back, 10, out]


def test_a_mapping_that_goes_takes_its_counts_with_it_and_a_new_one_starts_at_zero() -> None:
    with lab() as both:
        install_both(both, 4)
        _, peer = open_udp(both)
        settle(both)
        remote = both.links[0].rloc("b", 4)
        both.a("udp_send", name="x", to=peer, port=5000, count=4)
        both.b("udp_received", name="x", count=4)
        assert both.a("traffic")[remote][0] >= 4

        for prefix in (f"{EID_B4}/32", f"{EID_B6}/128"):
            both.a("remove", prefix=prefix)

        assert remote not in both.a("traffic")
