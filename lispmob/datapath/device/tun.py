"""The TUN device: creates it, sets its MTU, brings it up. It is removed when its descriptor is closed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct

import msgspec

from lispmob.errors import KernelRefused
from lispmob.netlink.connection import command, open_netlink
from lispmob.netlink.message import IFINFOMSG, RTM_NEWLINK, RTM_SETLINK, put, put_u32

DEVICE = "/dev/net/tun"
NAME_MAX = 15  # IFNAMSIZ less the final NUL

# <linux/if_tun.h> and <linux/sockios.h>: the standard library has no names for these.
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCSIFMTU = 0x8922
IFF_UP = 0x1
TUNSETOFFLOAD = 0x400454D0
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
# <linux/if_link.h>
IFLA_AF_SPEC = 26
IFLA_GSO_MAX_SIZE = 41
IFLA_INET_CONF = 1
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
IPV4_DEVCONF_FORWARDING = 1  # <linux/ip.h>

_TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
_OFFLOADS = (_TSO | TUN_F_USO4 | TUN_F_USO6, _TSO, TUN_F_CSUM)  # best first; USO is Linux 6.2

_SEGMENT_OVERHEAD = 64  # octets: inner IPv6 and TCP header without options, or IPv4 with; LISP header; some spare

_REMEDIES = {
    errno.EPERM: "needs CAP_NET_ADMIN",
    errno.EACCES: "needs read and write permission on the device",
    errno.ENOENT: "the tun driver is missing: modprobe tun",
    errno.ENODEV: "the tun driver is missing: modprobe tun",
    errno.EBUSY: "another process has this device: is another lispd running?",
    errno.EINVAL: "an interface of this name exists and is no TUN device of this kind: remove it, or choose "
    "another name for ours with `tun: {name: ...}`",
}


class Tun(msgspec.Struct, frozen=True):
    """An open TUN device; its owner closes `fd`.

    `has_vnet_header`: each packet is preceded by struct virtio_net_hdr. `takes_udp`: also UDP super-packets.
    """

    fd: int
    name: str
    ifindex: int
    has_vnet_header: bool = False
    takes_udp: bool = False


def open_tun(name: str, mtu_bytes: int, *, offload: bool = False) -> Tun:
    """Create the device, set its MTU and bring it up, without any address (not even a link-local one).

    `offload`: super-packets and partial checksums, as far as the kernel supports them. Raises KernelRefused.
    """
    if not 0 < len(name.encode()) <= NAME_MAX:
        raise ValueError(f"{name!r}: an interface name has 1 to {NAME_MAX} octets")
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refused(DEVICE, "open", error) from error
    try:
        flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        except OSError as error:
            raise refused(f"{DEVICE}: {name}", "TUNSETIFF", error) from error
        features = turn_on_offloads(fd) if offload else 0
        silence(name)
        answer_programs(name)
        set_mtu(name, mtu_bytes)
        ifindex = socket.if_nametoindex(name)
        if features:
            _limit_super_packets(ifindex, mtu_bytes)
        bring_up(name)
        return Tun(fd, name, ifindex, offload, bool(features & TUN_F_USO4))
    except BaseException:
        os.close(fd)
        raise


def set_mtu(name: str, mtu_bytes: int) -> None:
    """Set the MTU of an interface. Raises KernelRefused."""
    _request(name, "SIOCSIFMTU", SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu_bytes))


def turn_on_offloads(fd: int) -> int:
    """Turn on all offloads that the kernel supports; returns them."""
    for features in _OFFLOADS:
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, features)
        except OSError:
            continue
        return features
    return 0


def _limit_super_packets(ifindex: int, mtu_bytes: int) -> None:
    """Limit super-packets to one outer datagram run: 64 KiB, including 64 octets more for each segment."""
    most = 65_000 * (mtu_bytes - 2 * _SEGMENT_OVERHEAD) // mtu_bytes
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + put_u32(IFLA_GSO_MAX_SIZE, most)
    with (
        contextlib.suppress(OSError),
        open_netlink() as kernel,
    ):  # this only affects speed: a longer one leaves in two runs
        command(kernel, RTM_NEWLINK, 0, body)


def answer_programs(name: str) -> None:
    """Have the kernel tell BPF programs at this device where IPv4 packets lead: it does where a device forwards.

    The datapath delivers packets to our own EIDs only, so there is nothing else to forward.
    """
    forwards = put(IFLA_INET_CONF, put_u32(IPV4_DEVCONF_FORWARDING, 1))
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
    body += put(IFLA_AF_SPEC, put(socket.AF_INET, forwards))
    # Refused: the programs find no link header, and the kernel looks route and neighbour up for each packet.
    with contextlib.suppress(OSError), open_netlink() as kernel:
        command(kernel, RTM_SETLINK, 0, body)


def silence(name: str) -> None:
    """No link-local address: router solicitations into the tunnel would be useless wake-ups.

    Over netlink, because /proc/sys is read-only in a hardened service.
    """
    mode = put(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
    body += put(IFLA_AF_SPEC, put(socket.AF_INET6, mode))
    # Refused: there is no IPv6, or netlink is not allowed. That costs a few packets a minute, counted as out_notlisp.
    with contextlib.suppress(OSError), open_netlink() as kernel:
        command(kernel, RTM_SETLINK, 0, body)


def bring_up(name: str) -> None:
    """Set the interface up. Raises KernelRefused."""
    answer = _request(name, "SIOCGIFFLAGS", SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
    (flags,) = struct.unpack_from("H", answer, 16)
    _request(name, "SIOCSIFFLAGS", SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | IFF_UP))


def _request(name: str, verb: str, number: int, request: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            return fcntl.ioctl(control, number, request)
        except OSError as error:
            raise refused(name, verb, error) from error


def refused(what: str, verb: str, error: OSError) -> KernelRefused:
    """The error for display: what was tried, what the kernel said, and what helps."""
    number = error.errno or 0
    symbol = errno.errorcode.get(number, str(number))
    return KernelRefused(f"{what}: {verb} refused ({symbol}): {_REMEDIES.get(number, os.strerror(number))}")
