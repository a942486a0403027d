"""Marks and lanes with a real TUN device, as queues and as devices of their own."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable

import pytest

from lispmob.datapath.device import steering
from lispmob.datapath.device.lanes import (
    DEFAULT,
    DEVICE_UPLINKS_MAX,
    UNUSABLE,
    DeviceLanes,
    QueueLanes,
    device_name,
    open_lanes,
)
from lispmob.errors import KernelRefused
from lispmob.lab.namespace import Namespace
from lispmob.mh.plan import PLACES_MAX
from tests.mh.kernel.conftest import device_host, host  # noqa: F401
from tests.mh.kernel.lane_host import EID, PEER, LaneHost

pytestmark = pytest.mark.netns


def marked(mark: int) -> Callable[[socket.socket], None]:
    octets = struct.pack("I", mark)  # setsockopt() takes a signed number
    return lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, octets)


@pytest.mark.parametrize("family", [4, 6])
def test_a_mark_leads_to_the_lane_of_its_uplink(host: LaneHost, family: int) -> None:  # noqa: F811
    assert host.lane_of(PEER[family]) == DEFAULT
    assert host.lane_of(PEER[family], prepare=marked(2)) == 2
    assert host.lane_of(PEER[family], prepare=marked(4)) == 4
    assert host.lane_of(PEER[family], prepare=marked(5)) == UNUSABLE


def test_bits_outside_the_mask_do_not_matter(host: LaneHost) -> None:  # noqa: F811
    assert host.lane_of(PEER[4], prepare=marked(0x80040003)) == 3
    assert host.lane_of(PEER[4], prepare=marked(0x80040000)) == DEFAULT


def test_uplinks_come_and_go_and_the_lanes_of_the_others_stay(host: LaneHost) -> None:  # noqa: F811
    before = {lane.ifindex: lane.fd for lane in host.lanes.lanes}

    with host.namespace.entered():
        host.lanes.set_uplinks([(2, 2), (4, 4)])
    gone = host.lane_of(PEER[4], prepare=marked(3))
    with host.namespace.entered():
        host.lanes.set_uplinks([(2, 2), (4, 4), (70000, 0xFFFF), (9, 9)])

    assert gone == UNUSABLE
    assert host.lane_of(PEER[4], prepare=marked(9)) == 9
    assert host.lane_of(PEER[4], prepare=marked(0xFFFF)) == 70000
    assert host.lane_of(PEER[4], prepare=marked(4)) == 4
    after = {lane.ifindex: lane.fd for lane in host.lanes.lanes}
    assert [after[owner] for owner in (DEFAULT, 2, 4)] == [before[owner] for owner in (DEFAULT, 2, 4)]


def test_a_mark_with_the_highest_bit_is_a_mark_like_others(namespace: Namespace) -> None:
    with namespace.entered():
        lanes = QueueLanes("lmn0", 1400, 0xFFFF0000)
    try:
        namespace.run("sh", "-ec", f"ip addr add {EID[4]}/32 dev lmn0; ip route add 10.0.0.0/8 dev lmn0")
        with namespace.entered():
            lanes.set_uplinks([(0x8001, 0x80010000)])
        one = LaneHost(namespace, lanes)
        with one.collecting():
            assert one.lane_of(PEER[4], prepare=marked(0x80010007)) == 0x8001
    finally:
        lanes.close()


def test_more_uplinks_than_lanes_leaves_the_last_ones_unusable_by_mark(host: LaneHost) -> None:  # noqa: F811
    with host.namespace.entered():
        lanes = host.lanes.set_uplinks([(ifindex, ifindex) for ifindex in range(2, 60)])

    assert len(lanes) == 42
    assert host.lane_of(PEER[4], prepare=marked(30)) == 30
    assert host.lane_of(PEER[4], prepare=marked(59)) == UNUSABLE


def test_without_bpf_there_is_one_device_per_lane_and_a_reason(
    namespace: Namespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoBpf:
        def lm_mark_steering_load(self, *_: object) -> int:
            return -1  # EPERM

    monkeypatch.setattr(steering, "lib", NoBpf())

    with namespace.entered():
        lanes, why = open_lanes("lmn0", 1400, 0xFFFF)
        lanes.close()

    assert isinstance(lanes, DeviceLanes)
    assert why.name == "devices"
    assert "CAP_BPF" in why.why
    assert "lmn0" not in namespace.run("ip", "-o", "link")


def test_routing_rules_sort_where_each_lane_is_a_device(device_host: LaneHost) -> None:  # noqa: F811
    device_host.route_by_mark()

    assert device_host.lane_of(PEER[4]) == DEFAULT
    assert device_host.lane_of(PEER[4], prepare=marked(2)) == 2
    assert device_host.lane_of(PEER[4], prepare=marked(0x70003)) == 3
    assert device_host.lane_of(PEER[4], prepare=marked(7)) == UNUSABLE


def use(host: LaneHost, *ifindexes: int) -> dict[int, int]:  # noqa: F811
    """Use these uplinks from now on; returns the descriptors of their lanes."""
    with host.namespace.entered():
        lanes = host.lanes.set_uplinks([(ifindex, ifindex) for ifindex in ifindexes])
        host.lanes.close_gone()
    return {lane.ifindex: lane.fd for lane in lanes}


def test_the_device_of_an_uplink_that_is_gone_is_read_once_more(device_host: LaneHost) -> None:  # noqa: F811
    device_host.route_by_mark()

    use(device_host, 3)

    assert device_host.lane_of(PEER[4], prepare=marked(2)) == UNUSABLE
    assert device_host.lane_of(PEER[4], prepare=marked(3)) == 3


def test_an_uplink_that_is_back_at_once_has_the_device_that_it_had(device_host: LaneHost) -> None:  # noqa: F811
    before = use(device_host, 2, 3)

    use(device_host, 3)
    after = use(device_host, 2, 3)

    assert after == before


def test_as_many_uplinks_as_there_may_be_come_and_go_within_the_lanes_of_the_datapath(
    device_host: LaneHost,  # noqa: F811
) -> None:
    most = 0
    for first in (100, 200, 100):
        lanes = use(device_host, *range(first, first + 30))
        most = max(most, len(device_host.lanes.readable))
        assert len(lanes) == 2 + DEVICE_UPLINKS_MAX

    assert most == 2 + 3 * DEVICE_UPLINKS_MAX <= 64
    assert max(lane.queue for lane in device_host.lanes.lanes) < PLACES_MAX


def test_devices_of_uplinks_that_are_gone_are_gone(device_host: LaneHost) -> None:  # noqa: F811
    use(device_host, 3)
    use(device_host, 3)

    expected = {"lo", "lmn0", "lmn0-x", "lmn0-3"}
    for _ in range(50):  # the thread that reads keeps the device open until it is done
        names = {load["ifname"] for load in json.loads(device_host.run("ip -j link"))}
        if names == expected:
            break
    assert names == expected


def test_a_long_device_name_is_shortened_to_what_the_kernel_takes() -> None:
    assert device_name("averylongname00", 1234567) == "averylo-1234567"
    assert device_name("lmn0", UNUSABLE) == "lmn0-x"


def test_a_device_that_cannot_be_made_is_refused_with_the_reason(namespace: Namespace) -> None:
    namespace.run("ip", "link", "add", "lmn0", "type", "bridge")

    with namespace.entered(), pytest.raises(KernelRefused, match="TUNSETIFF refused"):
        QueueLanes("lmn0", 1400, 0xFFFF)
