"""Lanes: the descriptors through which packets come from the host and go to it, one for each uplink that a mark names.

A packet that is read from a lane carries the mark of that lane; a packet that came in by an uplink is written to the
lane of that uplink, so that the host's rules can tell where a flow came in. Two ways to have them, one face:

- `QueueLanes`: one TUN with a queue per lane; an eBPF program sorts by mark. Nothing else in the host changes.
- `DeviceLanes`: without bpf(2), one TUN per lane; a routing rule per mark sorts (`Lane.device` says where to).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final, Protocol

from lispmob.datapath import steering, tun
from lispmob.values import dataclass

IFF_MULTI_QUEUE: Final = 0x0100  # <linux/if_tun.h>
DEFAULT: Final = 0
UNUSABLE: Final = -1
LANES_MAX: Final = 34  # ours: the datapath has 32 paths at most


@dataclass(frozen=True, slots=True)
class Lane:
    """One descriptor. `ifindex`: of the uplink that packets on it are marked for, or DEFAULT, or UNUSABLE.

    `queue` counts the queues of `device`, from 0; None where each lane is a device of its own.
    """

    fd: int
    ifindex: int
    device: str
    queue: int | None = None


class Lanes(Protocol):
    """What both kinds can do. Descriptors of lanes that stay are never replaced."""

    device: str

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """DEFAULT first, then UNUSABLE, then those of uplinks, also of some that are gone (as UNUSABLE)."""
        ...

    def set_uplinks(self, marks: Iterable[tuple[int, int]]) -> tuple[Lane, ...]:
        """Have a lane for each (ifindex, mark), and send every other mark to UNUSABLE. Raises KernelRefused."""
        ...

    def set_mtu(self, mtu_bytes: int) -> None:
        """Set the MTU, of all devices. Raises KernelRefused."""
        ...

    def close(self) -> None:
        """Close all descriptors; the devices go with them. Idempotent."""
        ...


class QueueLanes:
    """One TUN, a queue per lane. Queues are only ever added: taking one away would renumber the others."""

    def __init__(self, device: str, mtu_bytes: int, mask: int, *, offload: bool = False) -> None:
        """Create the device, sorting from its first packet on, and bring it up. Raises KernelRefused."""
        self.device = device
        self._mask = mask
        self._flags = tun.IFF_TUN | tun.IFF_NO_PI | IFF_MULTI_QUEUE | (tun.IFF_VNET_HDR if offload else 0)
        self._fds: list[int] = []
        self._owners: list[int] = [DEFAULT, UNUSABLE]
        try:
            for _ in self._owners:
                self._fds.append(_open_queue(device, self._flags))
            self._sort({})
            features = tun.turn_on_offloads(self._fds[0]) if offload else 0
            _bring_up(device, mtu_bytes)
        except BaseException:
            self.close()
            raise
        self.ifindex = socket.if_nametoindex(device)
        self.tun = tun.Tun(self._fds[0], device, self.ifindex, offload, bool(features & tun.TUN_F_USO4))

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """DEFAULT, UNUSABLE, then the uplinks in the order in which they came."""
        return tuple(
            Lane(fd, owner, self.device, queue)
            for queue, (fd, owner) in enumerate(zip(self._fds, self._owners, strict=True))
        )

    def set_uplinks(self, marks: Iterable[tuple[int, int]]) -> tuple[Lane, ...]:
        """A lane for each (ifindex, mark) that there is room for."""
        wanted = {ifindex: mark for ifindex, mark in marks if mark}
        for queue, owner in enumerate(self._owners):
            if owner > 0 and owner not in wanted:
                self._owners[queue] = UNUSABLE
        for ifindex in wanted:
            if ifindex not in self._owners:
                self._give_queue(ifindex)
        self._sort(wanted)
        return self.lanes

    def set_mtu(self, mtu_bytes: int) -> None:
        """Set the MTU of the device."""
        tun.set_mtu(self.device, mtu_bytes)

    def close(self) -> None:
        """Close all queues."""
        _close(self._fds)

    def _give_queue(self, ifindex: int) -> None:
        """One that nobody has, the longest idle first as far as order tells; or a new one."""
        idle = next((queue for queue, owner in enumerate(self._owners) if queue > 1 and owner == UNUSABLE), None)
        if idle is not None:
            self._owners[idle] = ifindex
        elif len(self._fds) < LANES_MAX:
            self._fds.append(_open_queue(self.device, self._flags))
            self._owners.append(ifindex)

    def _sort(self, wanted: dict[int, int]) -> None:
        """Marks to queues, from the next packet on. Bits outside the mask do not matter."""
        routes = {0: self._owners.index(DEFAULT)}
        routes |= {wanted[owner]: queue for queue, owner in enumerate(self._owners) if owner in wanted}
        steering.steer(self._fds[0], self._mask, routes, other=self._owners.index(UNUSABLE))


class DeviceLanes:
    """One TUN per lane: `lmn0` (default), `lmn0-x` (unusable marks), `lmn0-<ifindex>`."""

    def __init__(self, device: str, mtu_bytes: int, *, offload: bool = False) -> None:
        """Create the first two devices. Raises KernelRefused."""
        self.device = device
        self._mtu_bytes = mtu_bytes
        self._offload = offload
        self._lanes: dict[int, Lane] = {}
        try:
            for owner in (DEFAULT, UNUSABLE):
                self._open(owner)
        except BaseException:
            self.close()
            raise
        self.ifindex = socket.if_nametoindex(device)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """DEFAULT, UNUSABLE, then the uplinks in the order in which they came."""
        return tuple(self._lanes.values())

    def set_uplinks(self, marks: Iterable[tuple[int, int]]) -> tuple[Lane, ...]:
        """A device for each uplink; the devices of those that are gone are closed."""
        wanted = [ifindex for ifindex, mark in marks if mark]
        for gone in [owner for owner in self._lanes if owner > 0 and owner not in wanted]:
            os.close(self._lanes.pop(gone).fd)
        for ifindex in wanted:
            if ifindex not in self._lanes and len(self._lanes) < LANES_MAX:
                self._open(ifindex)
        return self.lanes

    def set_mtu(self, mtu_bytes: int) -> None:
        """Set the MTU of all devices, also of those to come."""
        self._mtu_bytes = mtu_bytes
        for lane in self._lanes.values():
            tun.set_mtu(lane.device, mtu_bytes)

    def close(self) -> None:
        """Close all devices."""
        fds = [lane.fd for lane in self._lanes.values()]
        self._lanes.clear()
        _close(fds)

    def _open(self, owner: int) -> None:
        name = device_name(self.device, owner)
        opened = tun.open_tun(name, self._mtu_bytes, offload=self._offload)
        self._lanes[owner] = Lane(opened.fd, owner, name)


def device_name(device: str, owner: int) -> str:
    """The device of a lane, where each has its own; within the 15 octets of an interface name."""
    if owner == DEFAULT:
        return device
    tail = "-x" if owner == UNUSABLE else f"-{owner}"
    return device[: tun.NAME_MAX - len(tail)] + tail


def open_lanes(device: str, mtu_bytes: int, mask: int, *, offload: bool = False) -> tuple[Lanes, str]:
    """Queues where bpf(2) may be used, else devices; the text says which, and why. Raises KernelRefused."""
    try:
        return QueueLanes(device, mtu_bytes, mask, offload=offload), "one device, packets sorted by mark (eBPF)"
    except steering.SteeringRefused as refused:
        return DeviceLanes(device, mtu_bytes, offload=offload), f"one device per uplink: {refused}"


def _open_queue(name: str, flags: int) -> int:
    """One more queue of the device; the first one creates it."""
    if not 0 < len(name.encode()) <= tun.NAME_MAX:
        raise ValueError(f"{name!r}: an interface name has 1 to {tun.NAME_MAX} octets")
    try:
        fd = os.open(tun.DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise tun.refused(tun.DEVICE, "open", error) from error
    try:
        fcntl.ioctl(fd, tun.TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        os.close(fd)
        raise tun.refused(f"{tun.DEVICE}: {name}", "TUNSETIFF", error) from error
    return fd


def _bring_up(name: str, mtu_bytes: int) -> None:
    tun.silence(name)
    tun.set_mtu(name, mtu_bytes)
    tun.bring_up(name)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
