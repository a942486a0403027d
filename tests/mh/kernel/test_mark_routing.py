"""Where each uplink has a device of its own: the rules that route a mark to it, in a kernel."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from msgspec.structs import replace

from lispmob.datapath.device.lanes import DeviceLanes
from lispmob.mh.plan import MARK_TABLES, OVERLAY_TABLE, PLACES_MAX, MarkedDevice, MarkRouting, plan
from tests.mh.kernel.test_kernel_router import (
    FULL,
    SPLIT,
    apply,
    clean_up,
    everything,
    inside,  # noqa: F401
    listing,
    notifications_of,
    run,
)

REST = MarkedDevice("lmn0-x", None, 0)
WLAN, LTE = MarkedDevice("lmn0-3", 3, 1), MarkedDevice("lmn0-4", 4, 2)
MASK = 0xFFFF


def by(*devices: MarkedDevice, mask: int = MASK) -> MarkRouting:
    return MarkRouting(mask, "lmn0-", (REST, *devices))


MARKED = replace(SPLIT, marks=by(WLAN, LTE))
MARKED_FULL = replace(FULL, native_prefixes=(ip_network("203.0.113.0/24"),), marks=by(WLAN, LTE))

RULES = """\
0: from all lookup local
4340: from all to 10.1.0.0/16 lookup main suppress_prefixlength 16 proto 201
4341: from 0.0.0.0 fwmark 0/0xffff lookup 4341 proto 201
4341: from 0.0.0.0 fwmark 0x3/0xffff lookup 4352 proto 201
4341: from 0.0.0.0 fwmark 0x4/0xffff lookup 4354 proto 201
4341: from 10.1.0.1 fwmark 0/0xffff lookup 4341 proto 201
4341: from 10.1.0.1 fwmark 0x3/0xffff lookup 4352 proto 201
4341: from 10.1.0.1 fwmark 0x4/0xffff lookup 4354 proto 201
4342: from 0.0.0.0 lookup 4350 proto 201
4342: from 10.1.0.1 lookup 4350 proto 201
32766: from all lookup main
32767: from all lookup default"""


@pytest.fixture
def lanes(inside: None) -> Iterator[DeviceLanes]:  # noqa: F811
    made = DeviceLanes("lmn0", 1280)
    made.set_uplinks([(3, 3), (4, 4)])
    yield made
    made.close()


def route(destination: str, mark: int = 0) -> str:
    """The device by which a packet without a source would leave, and the source that it gets."""
    family = 6 if ":" in destination else 4
    found = run(f"ip -{family} route get {destination} mark {mark}")
    words = re.search(r"dev (\S+).* src (\S+)", found)
    assert words, found
    return " ".join(words.groups())


def test_every_table_and_every_rule_is_one_of_those_that_are_cleaned_up() -> None:
    last = replace(MARKED_FULL, marks=by(MarkedDevice("lmn0-9", 9, PLACES_MAX - 1)))
    made = plan(last)

    assert {route.table for route in made.routes if route.table >= MARK_TABLES[0]} <= set(MARK_TABLES)
    assert MARK_TABLES[-1] in {route.table for route in made.routes}


def test_what_is_thrown_back_without_a_mark_is_thrown_back_with_one() -> None:
    made = plan(replace(MARKED_FULL, native_prefixes=(ip_network("10.1.9.0/24"),)))

    def thrown(table: int) -> set[str]:
        return {str(route.destination) for route in made.routes if route.table == table and route.kind == "throw"}

    assert thrown(OVERLAY_TABLE) == thrown(MARK_TABLES[2]) == {"10.1.9.0/24"}
    assert thrown(MARK_TABLES[3]) == thrown(MARK_TABLES[1]) >= {"10.1.9.0/24", "224.0.0.0/4", "ff00::/8"}


@pytest.mark.netns
def test_a_rule_for_each_mark_and_the_rest_behind_them(lanes: DeviceLanes) -> None:
    apply(MARKED)

    assert listing("ip rule") == RULES
    assert listing("ip route show table 4352") == "10.1.0.0/16 dev lmn0-3 proto 201 scope link src 10.1.0.1"
    assert listing("ip route show table 4350") == "10.1.0.0/16 dev lmn0-x proto 201 scope link src 10.1.0.1"
    assert "fwmark 0x3/0xffff lookup 4352" in listing("ip -6 rule")
    assert "2001:db8:e::/48 dev lmn0-4" in listing("ip -6 route show table 4354")


@pytest.mark.netns
def test_marks_lead_to_devices_with_the_eid_as_source_and_bits_of_others_do_not_matter(lanes: DeviceLanes) -> None:
    apply(MARKED_FULL)

    for far, eid, native in (
        ("8.8.8.8", "10.1.0.1", "203.0.113.9"),
        ("2001:db8:1:5::9", "2001:db8:e::1", "2001:db8:1::77"),  # nearer to the native address than to the EID
    ):
        found = [route(far, mark) for mark in (0, 3, 4, 9, 0x50003, 0x50000)]
        names = ("lmn0", "lmn0-3", "lmn0-4", "lmn0-x", "lmn0-3", "lmn0")
        assert found == [f"{name} {eid}" for name in names]
        assert [route(native, mark).split()[0] for mark in (0, 3, 9)] == ["eth0"] * 3


@pytest.mark.netns
def test_a_mask_elsewhere_is_a_mask_like_others(lanes: DeviceLanes) -> None:
    apply(replace(SPLIT, marks=by(MarkedDevice("lmn0-3", 0x80030000, 1), mask=0xFFFF0000)))

    assert [route("10.1.7.7", mark).split()[0] for mark in (0x80030007, 7, 0x10000)] == ["lmn0-3", "lmn0", "lmn0-x"]


@pytest.mark.netns
def test_an_uplink_with_another_ifindex_replaces_the_one_that_it_was_and_the_others_stay(lanes: DeviceLanes) -> None:
    apply(MARKED)
    before = set(listing("ip rule").splitlines())
    for _ in range(2):  # the second time the device is gone
        lanes.set_uplinks([(3, 3), (7, 7)])
        lanes.close_gone()
    deadline = time.monotonic() + 5
    while "lmn0-4" in run("ip -o link"):
        assert time.monotonic() < deadline

    apply(MARKED)  # nothing has reported it yet
    hole = route("10.1.7.7", 4)
    apply(replace(SPLIT, marks=by(WLAN, MarkedDevice("lmn0-7", 7, 2))))
    after = set(listing("ip rule").splitlines())

    assert hole == "lmn0-x 10.1.0.1"
    assert [route("10.1.7.7", mark).split()[0] for mark in (3, 4, 7)] == ["lmn0-3", "lmn0-x", "lmn0-7"]
    assert {line.replace("0x4/", "0x7/") for line in before} == after


@pytest.mark.netns
def test_mtu_state_and_addresses_of_all_devices_are_kept(lanes: DeviceLanes) -> None:
    apply(MARKED)
    run("ip link set lmn0-3 down; ip link set lmn0-x mtu 1300; ip addr flush dev lmn0-4")

    apply(MARKED)

    shown = run("ip -o link").splitlines()
    assert len([line for line in shown if "lmn0" in line and "mtu 1400" in line and ",UP" in line]) == 4
    assert run("ip -6 -o addr show scope global").count("2001:db8:e::1/128") == 4
    assert "fe80" not in run("ip -o addr show dev lmn0-3; ip -o addr show dev lmn0-4; ip -o addr show dev lmn0-x")


@pytest.mark.netns
def test_applying_again_changes_nothing(lanes: DeviceLanes) -> None:
    apply(MARKED_FULL)
    before = everything()
    said = notifications_of(lambda: apply(MARKED_FULL, MARKED_FULL))

    assert said == ""
    assert everything() == before


@pytest.mark.netns
def test_what_others_flush_is_repaired(lanes: DeviceLanes) -> None:
    apply(MARKED_FULL)
    before = everything()

    run("ip rule del priority 4341; ip route flush table 4352")
    run("ip -6 rule del priority 4344; ip -6 route flush table 4353")
    apply(MARKED_FULL)

    assert sorted(everything().splitlines()) == sorted(before.splitlines())


@pytest.mark.netns
def test_packets_with_a_mark_are_no_native_ones_to_be_translated(lanes: DeviceLanes) -> None:
    apply(MARKED_FULL)

    saved = run("iptables-save -t nat").splitlines()
    assert [line for line in saved if line.startswith("-A LISPMOB")] == [
        "-A LISPMOB-NAT -o lo -j RETURN",
        "-A LISPMOB-NAT -o lmn0-+ -j RETURN",
        "-A LISPMOB-NAT -s 10.1.0.1/32 ! -o lmn0 -j MASQUERADE",
    ]


@pytest.mark.netns
def test_cleaning_up_after_another_process_leaves_nothing(inside: None) -> None:  # noqa: F811
    before = everything()
    made = DeviceLanes("lmn0", 1400)
    made.set_uplinks([(3, 3), (4, 4)])
    apply(MARKED_FULL)
    made.close()
    assert "throw" in run("ip route show table 4353"), "a crash leaves routes behind: else this test shows nothing"

    clean_up()

    assert everything() == before
