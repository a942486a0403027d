"""Lanes: the descriptors for packets from and to the host, one for each uplink that a mark names.

A packet that is read from a lane carries the mark of that lane; a packet that came in by an uplink is written to that
uplink's queue of the TUN, so that the host's rules can see where a flow came in. There are two ways to sort packets by
mark:

- `QueueLanes`: an eBPF program puts packets into the queues by mark. Nothing else on the host changes.
- `DeviceLanes`: without bpf(2), one more TUN per uplink, and one for marks without an uplink; a routing rule per mark
  sorts (`mh/plan.py`). Packets still come in by the TUN itself: on another one, a reverse path filter would drop them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final, Literal, Protocol

import msgspec

from lispmob.datapath.device import steering, tun
from lispmob.datapath.device.queued_tun import QueuedTun

DEFAULT: Final = 0
UNUSABLE: Final = -1
QUEUES_MAX: Final = 42  # ours: the datapath has at most 32 paths, and 8 marks whose packets leave twice
DEVICE_UPLINKS_MAX: Final = 20  # ours: each may have a device, a queue, and a former device: LM_LANES_MAX is 64
_STEM_MAX: Final = 7  # octets of the TUN's name that its uplinks' devices share: seven digits fit after them


class Lane(msgspec.Struct, frozen=True):
    """One descriptor. `ifindex`: of the uplink for its packets, or DEFAULT, or UNUSABLE.

    `device` is the interface. `queue` is the TUN's queue, from 0: packets from the uplink are written to `into`, the
    descriptor of that queue.
    """

    fd: int
    ifindex: int
    device: str
    queue: int
    into: int


class CopyingLane(msgspec.Struct, frozen=True):
    """A mark of no uplink: its packets leave by the uplink `first`, and also by `second` unless that is 0.

    `number` is in the mark in place of an ifindex; `first` and `second` are ifindexes.
    """

    number: int
    mark: int
    first: int
    second: int


class MarksWay(msgspec.Struct, frozen=True):
    """How marks lead to uplinks, and why: by a program in the TUN, by a device per uplink, or not at all."""

    name: Literal["program", "devices", "none"]
    why: str


class Lanes(Protocol):
    """The interface of both kinds. Descriptors of lanes that stay are never replaced."""

    tun: tun.Tun

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """DEFAULT first, then UNUSABLE, then those of uplinks, including some removed ones (as UNUSABLE)."""
        ...

    @property
    def readable(self) -> tuple[Lane, ...]:
        """All descriptors to read packets from: several may be DEFAULT."""
        ...

    def set_uplinks(self, marks: Iterable[tuple[int, int]]) -> tuple[Lane, ...]:
        """Provide a lane for each (ifindex, mark), and lead every other mark to UNUSABLE. Raises KernelRefused."""
        ...

    def close_gone(self) -> None:
        """Close the lanes that the last set_uplinks removed, once no thread reads them."""
        ...

    def close(self) -> None:
        """Close all descriptors; the devices go with them. Idempotent."""
        ...


class QueueLanes:
    """One TUN, a queue per lane."""

    def __init__(self, device: str, mtu_bytes: int, mask: int, *, offload: bool = False) -> None:
        """Create the device with sorting enabled, and bring it up. Raises KernelRefused."""
        self._mask = mask
        self._queued = QueuedTun(device, [DEFAULT, UNUSABLE], offload=offload)
        try:
            self._sort({})
            self.tun = self._queued.bring_up(mtu_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """DEFAULT, UNUSABLE, then the uplinks in the order of their arrival."""
        return _queues(self._queued, self._queued.owners)

    @property
    def readable(self) -> tuple[Lane, ...]:
        """The same."""
        return self.lanes

    def set_uplinks(self, marks: Iterable[tuple[int, int]]) -> tuple[Lane, ...]:
        """A lane for each (ifindex, mark), as far as there is room."""
        wanted = _give_queues(self._queued, marks, UNUSABLE, QUEUES_MAX)
        self._sort(wanted)
        return self.lanes

    def close_gone(self) -> None:
        """Does nothing: queues stay."""

    def close(self) -> None:
        """Close all queues."""
        self._queued.close()

    def _sort(self, wanted: dict[int, int]) -> None:
        """Assign marks to queues, from the next packet on. Bits outside the mask do not matter."""
        owners = self._queued.owners
        routes = {0: owners.index(DEFAULT)}
        routes |= {wanted[owner]: queue for queue, owner in enumerate(owners) if owner in wanted}
        steering.steer(self._queued.fds[0], self._mask, routes, other=owners.index(UNUSABLE))


class DeviceLanes:
    """The TUN `lmn0`, with a queue per uplink for arriving packets; `lmn0-x` (unusable marks), and `lmn0-<ifindex>`."""

    def __init__(self, device: str, mtu_bytes: int, *, offload: bool = False) -> None:
        """Create the first two devices. Raises KernelRefused."""
        self._mtu_bytes = mtu_bytes
        self._offload = offload
        self._leaving: dict[int, QueuedTun] = {}
        self._gone: list[QueuedTun] = []
        self._closer: threading.Thread | None = None
        self._devices: dict[int, QueuedTun] = {}
        self._queued = QueuedTun(device, [DEFAULT], offload=offload)
        try:
            self.tun = self._queued.bring_up(mtu_bytes)
            self._open(UNUSABLE)
        except BaseException:
            self.close()
            raise

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """DEFAULT, UNUSABLE, then the uplinks in the order of their arrival."""
        owners = self._queued.owners
        queues = {owner: owners.index(owner) if owner in owners else 0 for owner in self._devices}
        others = (
            Lane(one.fds[0], owner, one.device, queues[owner], self._queued.fds[queues[owner]])
            for owner, one in self._devices.items()
        )
        return (self._default_lanes[0], *others)

    @property
    def readable(self) -> tuple[Lane, ...]:
        """The kernel may put packets without a mark into any queue of the TUN; and packets may be left in a device."""
        first = self._queued.fds[0]
        leaving = (Lane(queue.fds[0], UNUSABLE, queue.device, 0, first) for queue in self._leaving.values())
        return (*self.lanes, *self._default_lanes[1:], *leaving)

    @property
    def _default_lanes(self) -> tuple[Lane, ...]:
        return _queues(self._queued, [DEFAULT] * len(self._queued.fds))

    def set_uplinks(self, marks: Iterable[tuple[int, int]]) -> tuple[Lane, ...]:
        """A device for each uplink, as far as there is room.

        That of a removed uplink counts as UNUSABLE for one more call, for the packets in it, and is removed by the
        next.
        """
        wanted = _give_queues(self._queued, marks, DEFAULT, DEVICE_UPLINKS_MAX + 1)
        back = {owner: one for owner, one in self._leaving.items() if owner in self._queued.owners}
        self._gone += [one for owner, one in self._leaving.items() if owner not in back]
        self._devices |= back
        leaving = [owner for owner in self._devices if owner > 0 and owner not in wanted]
        self._leaving = {owner: self._devices.pop(owner) for owner in leaving}
        for owner in self._queued.owners:
            if owner != DEFAULT and owner not in self._devices:
                self._open(owner)
        return self.lanes

    def close_gone(self) -> None:
        """Their remaining routes vanish with them.

        In a thread: removing a device takes 15 ms, until all processors have passed a quiescent state, and a move
        cannot wait.
        """
        if self._gone:
            self._join()
            self._closer = threading.Thread(target=_close_all, args=(self._gone,))
            self._closer.start()
            self._gone = []

    def _join(self) -> None:
        if self._closer is not None:
            self._closer.join()
            self._closer = None

    def close(self) -> None:
        """Close all devices."""
        _close_all([*self._devices.values(), *self._leaving.values(), *self._gone])
        self._join()
        self._gone.clear()
        self._devices.clear()
        self._leaving.clear()
        self._queued.close()

    def _open(self, owner: int) -> None:
        made = QueuedTun(device_name(self._queued.device, owner), [owner], offload=self._offload)
        try:
            made.bring_up(self._mtu_bytes)
        except BaseException:
            made.close()
            raise
        self._devices[owner] = made


def device_prefix(device: str) -> str:
    """The common prefix of all further devices' names, if each lane has its own."""
    return f"{device[:_STEM_MAX]}-"


def device_name(device: str, owner: int) -> str:
    """The name of a lane's own device; within the 15 octets of an interface name."""
    if owner == DEFAULT:
        return device
    return device_prefix(device) + ("x" if owner == UNUSABLE else str(owner))


def open_lanes(device: str, mtu_bytes: int, mask: int, *, offload: bool = False) -> tuple[Lanes, MarksWay]:
    """Sorted by a program if bpf(2) may be used, else by devices. Raises KernelRefused."""
    try:
        return QueueLanes(device, mtu_bytes, mask, offload=offload), MarksWay("program", "the kernel takes it")
    except steering.SteeringRefused as refused:
        return DeviceLanes(device, mtu_bytes, offload=offload), MarksWay("devices", str(refused))


def _close_all(devices: Iterable[QueuedTun]) -> None:
    for device in devices:
        device.close()


def _queues(queued: QueuedTun, owners: Iterable[int]) -> tuple[Lane, ...]:
    descriptors = enumerate(zip(queued.fds, owners, strict=True))
    return tuple(Lane(fd, owner, queued.device, queue, fd) for queue, (fd, owner) in descriptors)


def _give_queues(queued: QueuedTun, marks: Iterable[tuple[int, int]], nobody: int, most: int) -> dict[int, int]:
    """Give a queue to each uplink with a mark, and to no other; returns those uplinks, with their marks."""
    wanted = {ifindex: mark for ifindex, mark in marks if mark}
    for queue, owner in enumerate(queued.owners):
        if owner > 0 and owner not in wanted:
            queued.owners[queue] = nobody
    for ifindex in wanted:
        if ifindex not in queued.owners:
            queued.give(ifindex, nobody, most)
    return wanted
