"""A link of two ends without link-layer addresses, as PPP makes: a TUN device at each end, and a thread between them.

PPP itself needs a driver that not every kernel has. For routing the two are alike: no link layer, no neighbours, no
gateway, and a type of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import threading
from collections.abc import Iterator

from lispmob.lab.namespace import Namespace

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_OCTETS = 1 << 16


def _tun(namespace: Namespace, name: str) -> int:
    with namespace.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    return fd


@contextlib.contextmanager
def point_to_point(near: Namespace, name: str, far: Namespace, far_name: str) -> Iterator[None]:
    """Both devices exist, and packets pass between them, until the end of the block."""
    ends = [_tun(near, name)]
    try:
        ends.append(_tun(far, far_name))
        over, end_it = os.pipe()
        thread = threading.Thread(target=_carry, args=(*ends, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(end_it)
            thread.join()
            os.close(over)
    finally:
        for fd in ends:
            os.close(fd)


def _carry(left: int, right: int, over: int) -> None:
    other = {left: right, right: left}
    while over not in (ready := select.select([left, right, over], [], [])[0]):
        for fd in ready:
            with contextlib.suppress(OSError):  # down, or full: the packet is lost, as on a link
                os.write(other[fd], os.read(fd, _OCTETS))
