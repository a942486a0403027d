"""Hosts with a TUN that has a lane per uplink."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from lispmob.datapath.device.lanes import DeviceLanes, QueueLanes
from lispmob.lab.namespace import NamespaceSet
from tests.mh.lane_host import LaneHost, prepare
from tests.mh.steered import Steered

MASK = 0xFFFF


@pytest.fixture
def host() -> Iterator[LaneHost]:
    """One device, sorting by mark; lanes for the uplinks 2, 3 and 4."""
    with NamespaceSet() as namespaces:
        namespace = namespaces.make("lanes")
        with namespace.entered():
            lanes = QueueLanes("lmn0", 1400, MASK)
        try:
            prepare(namespace)
            with namespace.entered():  # a queue that is added belongs to the device of that name here
                lanes.set_uplinks([(2, 2), (3, 3), (4, 4)])
            one = LaneHost(namespace, lanes)
            with one.collecting():
                yield one
        finally:
            lanes.close()


@pytest.fixture
def device_host() -> Iterator[LaneHost]:
    """A device per lane; what sorts is up to the routing rules."""
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
    """One device with a queue per lane."""
    steered = Steered(host, back_end)
    yield steered
    steered.clean_up()


@pytest.fixture
def steered_devices(device_host: LaneHost, back_end: str) -> Iterator[Steered]:
    """A device per lane, and routing rules by mark."""
    device_host.route_by_mark()
    device_host.run("echo 1 > /proc/sys/net/ipv4/conf/lmn0/rp_filter")  # what comes in must pass the strictest filter
    steered = Steered(device_host, back_end)
    yield steered
    steered.clean_up()
