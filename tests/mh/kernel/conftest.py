"""Hosts with a TUN device that has a lane for each uplink."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from lispmob.datapath.device.lanes import DeviceLanes, QueueLanes
from lispmob.lab.namespace import NamespaceSet
from tests.mh.kernel.lane_host import LaneHost, prepare
from tests.mh.kernel.steered import Steered

MASK = 0xFFFF


@pytest.fixture
def host() -> Iterator[LaneHost]:
    """One device with a queue for each lane, sorted by mark; lanes for the uplinks 2, 3 and 4."""
    with NamespaceSet() as namespaces:
        namespace = namespaces.make("lanes")
        with namespace.entered():
            lanes = QueueLanes("lmn0", 1400, MASK)
        try:
            prepare(namespace)
            with namespace.entered():  # a queue is added to the device of this name in the current namespace
                lanes.set_uplinks([(2, 2), (3, 3), (4, 4)])
            one = LaneHost(namespace, lanes)
            with one.collecting():
                yield one
        finally:
            lanes.close()


@pytest.fixture
def device_host() -> Iterator[LaneHost]:
    """A device for each lane; routing rules do the sorting."""
    with NamespaceSet() as namespaces:
        namespace = namespaces.make("devices")
        with namespace.entered():
            lanes = DeviceLanes("lmn0", 1400)
            lanes.set_uplinks([(2, 2), (3, 3)])
        try:
            prepare(namespace)
            one = LaneHost(namespace, lanes)
            with one.collecting():
                yield one
        finally:
            lanes.close()


@pytest.fixture(params=["nft", "legacy"])
def back_end(request: pytest.FixtureRequest) -> str:
    if shutil.which(f"iptables-{request.param}") is None:
        pytest.skip(f"iptables-{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def steered(host: LaneHost, back_end: str) -> Iterator[Steered]:
    """One device with a queue for each lane."""
    steered = Steered(host, back_end)
    yield steered
    steered.clean_up()


@pytest.fixture
def steered_devices(device_host: LaneHost, back_end: str) -> Iterator[Steered]:
    """A device for each lane, and routing rules by mark."""
    device_host.route_by_mark()
    device_host.run("echo 1 > /proc/sys/net/ipv4/conf/lmn0/rp_filter")  # packets must pass the strictest filter
    steered = Steered(device_host, back_end)
    yield steered
    steered.clean_up()
