"""A TUN with several queues, each with an owner. Queues are only added: removing one would renumber the others.

A packet that is written to a queue carries its number (which an iptables rule can match). The kernel chooses the queue
of a packet for us by flow, unless a program is attached that sorts them (`steering.py`).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Final

from lispmob.datapath.device import tun

IFF_MULTI_QUEUE: Final = 0x0100  # <linux/if_tun.h>


class QueuedTun:
    """Created down, so that sorting can be set up before the first packet; `bring_up` ends that."""

    def __init__(self, device: str, owners: list[int], *, offload: bool = False) -> None:
        """Create the device with a queue for each of these permanent owners. Raises KernelRefused."""
        self.device = device
        self.fds: list[int] = []
        self.owners = list(owners)
        self._reserved = len(owners)
        self._offload = offload
        try:
            for _ in owners:
                self.fds.append(self._open())
            self._features = tun.turn_on_offloads(self.fds[0]) if offload else 0
        except BaseException:
            self.close()
            raise

    def bring_up(self, mtu_bytes: int) -> tun.Tun:
        """Bring it up; returns its properties. Raises KernelRefused."""
        tun.silence(self.device)
        tun.answer_programs(self.device)
        tun.set_mtu(self.device, mtu_bytes)
        tun.bring_up(self.device)
        ifindex = socket.if_nametoindex(self.device)
        return tun.Tun(self.fds[0], self.device, ifindex, self._offload, bool(self._features & tun.TUN_F_USO4))

    def give(self, owner: int, nobody: int, most: int) -> bool:
        """Give a queue to a new owner: the first of `nobody`, or a new one; False: there are `most` already.

        Raises KernelRefused.
        """
        free = (queue for queue, each in enumerate(self.owners) if queue >= self._reserved and each == nobody)
        if (queue := next(free, None)) is not None:
            self.owners[queue] = owner
        elif len(self.fds) < most:
            self.fds.append(self._open())
            self.owners.append(owner)
        else:
            return False
        return True

    def close(self) -> None:
        """Close all queues; the device goes with them."""
        while self.fds:
            os.close(self.fds.pop())

    def _open(self) -> int:
        """Open another queue; the first one creates the device."""
        flags = tun.IFF_TUN | tun.IFF_NO_PI | IFF_MULTI_QUEUE | (tun.IFF_VNET_HDR if self._offload else 0)
        if not 0 < len(self.device.encode()) <= tun.NAME_MAX:
            raise ValueError(f"{self.device!r}: an interface name has 1 to {tun.NAME_MAX} octets")
        try:
            fd = os.open(tun.DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise tun.refused(tun.DEVICE, "open", error) from error
        try:
            fcntl.ioctl(fd, tun.TUNSETIFF, struct.pack("16sH22x", self.device.encode(), flags))
        except OSError as error:
            os.close(fd)
            raise tun.refused(f"{tun.DEVICE}: {self.device}", "TUNSETIFF", error) from error
        return fd
