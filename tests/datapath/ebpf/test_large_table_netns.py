"""A large map-cache in the ebpf tier: the kernel's copy has all of it, or none and a stated reason."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from lispmob.datapath import tier
from tests.datapath.netlab import EID_A4, EID_B4, install_both, lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

FIRST = IPv4Address("10.64.0.0")
ENTRIES = 100_000
SETS_MAX = 1 << 17  # LM_SHARED_SETS


def test_each_of_a_hundred_thousand_entries_is_in_the_short_way() -> None:
    chosen = [str(FIRST + number) for number in (0, 1, 999, 50_000, 65_535, 65_536, ENTRIES - 1)]
    with lab(tier="ebpf") as both:
        install_both(both, 4)
        both.b("eids", eids=[f"{EID_B4}/32", *(f"{eid}/32" for eid in chosen)])
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        for eid in chosen:
            both.b.ip(f"addr add {eid}/32 dev lmt0")
            both.b("udp_open", name=eid, address=eid, port=5000)
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        both.a("wait_for_counter", name="out_packets", value=1)

        both.a("install_range", first=str(FIRST), count=ENTRIES, locator=both.links[0].rloc("b", 4), ways=1000)
        for eid in chosen:
            both.a("udp_send", name="x", to=eid, port=5000)

        assert [len(both.b("udp_received", name=eid, count=1)) for eid in chosen] == [1] * len(chosen)
        assert both.a("counters")["kernel_out_packets"] == len(chosen)
        assert {f"{eid}/32" for eid in chosen} <= set(both.a("used"))


def test_more_than_the_kernel_holds_goes_by_the_tun_tier_with_a_reason_and_comes_back_when_it_fits() -> None:
    count = SETS_MAX + 1
    last = str(FIRST + count - 1)
    with lab(tier="ebpf") as both:
        install_both(both, 4)
        both.b("eids", eids=[f"{EID_B4}/32", f"{last}/32"])
        both.b.ip(f"addr add {last}/32 dev lmt0")
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.b("udp_open", name="x", address=last, port=5000)

        both.a("install_range", first=str(FIRST), count=count, locator=both.links[0].rloc("b", 4), ways=count)
        both.a("udp_send", name="x", to=last, port=5000)

        held = f"{1 << 20} prefixes, {SETS_MAX} different sets of locators"
        why = f"the kernel refused an update of the tables: more than they hold: {held}"
        assert both.a("tier_now") == ["tun", why]
        assert len(both.b("udp_received", name="x", count=1)) == 1
        assert both.a("tier", wish="auto")[0] == "tun"

        both.a("install_range", first=str(FIRST), count=count, locator=both.links[0].rloc("b", 4), ways=10)
        assert both.a("tier", wish="auto")[0] == "ebpf"
