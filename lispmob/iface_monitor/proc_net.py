"""Links, addresses and default routes without netlink: from /proc/net, /sys/class/net and the old ioctls.

For sandboxes that forbid AF_NETLINK. Less exact than netlink: only the main routing table, and no secondary IPv4
addresses under names of their own. If even /proc/net is closed, an unbound UDP socket is asked for its source address:
connecting it sends nothing, and fails at once without a route.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import struct
from array import array
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from lispmob.iface_monitor import sysfs
from lispmob.iface_monitor.default_routes import HIGH_HALF, LOW_HALF, WHOLE, Candidate
from lispmob.iface_monitor.link_type import link_type
from lispmob.iface_monitor.snapshot import MAIN_TABLE, SCOPE_HOST, DefaultRoute, Link, LocalAddress
from lispmob.wire.address import IpAddress

PROC: Final = Path("/proc/net")

# linux/sockios.h, linux/if.h, linux/route.h, linux/if_addr.h
_SIOCGIFCONF: Final = 0x8912
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFNETMASK: Final = 0x891B
_SIOCGIFMTU: Final = 0x8921
_SIOCGIFINDEX: Final = 0x8933
_IFREQ: Final = 40  # octets of a struct ifreq where pointers have 64 bits; 32 elsewhere
_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_IFF_RUNNING: Final = 0x40
_RTF_UP: Final = 0x1
_RTF_GATEWAY: Final = 0x2
_RTF_REJECT: Final = 0x200
_MAX_INTERFACES: Final = 1024  # ours: more than any host that moves has
_SCOPES: Final = {0x10: SCOPE_HOST, 0x20: 253, 0x40: 200}  # net/ipv6.h to linux/rtnetlink.h
# Any global address works: it uses the default route, and nothing is sent. These are for benchmarks.
_SOMEWHERE: Final = {int(socket.AF_INET): "198.18.0.1", int(socket.AF_INET6): "2001:2::1"}


def interface_names() -> list[str]:
    """Every interface in /proc/net/dev or /sys; those with an IPv4 address if neither is readable."""
    with contextlib.suppress(OSError):
        return re.findall(r"^\s*([^:\s]+):", (PROC / "dev").read_text("ascii"), re.MULTILINE)[:_MAX_INTERFACES]
    with contextlib.suppress(OSError):
        return sysfs.interface_names()[:_MAX_INTERFACES]
    return sorted({name for name, _ in _ipv4_by_name()})


def links(names: Iterable[str]) -> list[Link]:
    """The properties of these interfaces, without those that went away meanwhile."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in names:
            with contextlib.suppress(OSError):
                flags = _ask(sock, _SIOCGIFFLAGS, name, "=H")
                ifindex, kind = _ask(sock, _SIOCGIFINDEX, name, "=i"), sysfs.kind(name)
                found.append(
                    Link(
                        ifindex=ifindex,
                        name=name,
                        kind=kind,
                        is_up=bool(flags & _IFF_UP),
                        has_carrier=bool(flags & _IFF_RUNNING),
                        is_loopback=bool(flags & _IFF_LOOPBACK),
                        mtu_bytes=_ask(sock, _SIOCGIFMTU, name, "=i"),
                        type=link_type(kind, sysfs.hardware(name), sysfs.driver_words(name, ifindex)),
                    )
                )
    return found


def ipv4_addresses(known: Iterable[Link]) -> list[LocalAddress]:
    """IPv4 addresses, by ioctl."""
    index = {link.name: link.ifindex for link in known}
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, address in _ipv4_by_name():
            with contextlib.suppress(OSError, KeyError):
                raw = fcntl.ioctl(sock, _SIOCGIFNETMASK, _request(name))
                prefix_len = int.from_bytes(raw[20:24], "big").bit_count()
                found.append(ipv4_address(address, prefix_len, index[name.partition(":")[0]]))
    return found


def ipv4_address(address: IPv4Address, prefix_len: int, ifindex: int) -> LocalAddress:
    """An IPv4 address with the scope that the kernel would assign."""
    scope = SCOPE_HOST if address.is_loopback else 253 if address.is_link_local else 0
    return LocalAddress(address, prefix_len, ifindex, scope)


def ipv6_addresses() -> list[LocalAddress]:
    """IPv6 addresses with their flags. Raises OSError where /proc/net is closed."""
    try:
        text = (PROC / "if_inet6").read_text("ascii")
    except FileNotFoundError:  # IPv6 is switched off
        return []
    return parse_if_inet6(text)


def parse_if_inet6(text: str) -> list[LocalAddress]:
    """Lines such as `20010db8000000000000000000000002 03 40 00 80 eth0`: address, ifindex, length, scope, flags."""
    found = []
    for words in (line.split() for line in text.splitlines()):
        if len(words) != 6:
            continue
        ifindex, prefix_len, scope, flags = (int(word, 16) for word in words[1:5])
        found.append(
            LocalAddress(
                address=IPv6Address(int(words[0], 16)),
                prefix_len=prefix_len,
                ifindex=ifindex,
                scope=_SCOPES.get(scope, 0),
                is_tentative=bool(flags & 0x08 or (flags & 0x40 and not flags & 0x04)),
                is_deprecated=bool(flags & 0x20),
                is_temporary=bool(flags & 0x01),
                is_permanent=bool(flags & 0x80),
                is_duplicate=bool(flags & 0x08),
            )
        )
    return found


def default_routes(known: Iterable[Link]) -> list[Candidate]:
    """Default routes, and halves of them, of the main table. Raises OSError where /proc/net is closed."""
    index = {link.name: link.ifindex for link in known}
    found = parse_route((PROC / "route").read_text("ascii"), index)
    with contextlib.suppress(FileNotFoundError):
        found += parse_ipv6_route((PROC / "ipv6_route").read_text("ascii"), index)
    return found


def parse_route(text: str, index: Mapping[str, int]) -> list[Candidate]:
    """/proc/net/route: interface, destination and gateway (hexadecimal, in the order of this machine), flags ..."""
    found = []
    for words in (line.split() for line in text.splitlines()[1:]):
        if len(words) < 8 or words[0] not in index:
            continue
        destination, gateway, mask = (_ipv4(words[at]) for at in (1, 2, 7))
        flags, metric = int(words[3], 16), int(words[6])
        prefix_len = int(mask).bit_count()
        if prefix_len > 1 or not flags & _RTF_UP or flags & _RTF_REJECT:
            continue
        part = WHOLE if prefix_len == 0 else HIGH_HALF if int(destination) else LOW_HALF
        via = gateway if flags & _RTF_GATEWAY else None
        found.append(Candidate(4, MAIN_TABLE, part, index[words[0]], via, metric))
    return found


def parse_ipv6_route(text: str, index: Mapping[str, int]) -> list[Candidate]:
    """/proc/net/ipv6_route: destination, length, source, length, gateway, metric, two counts, flags, interface."""
    found = []
    for words in (line.split() for line in text.splitlines()):
        if len(words) != 10 or words[9] not in index or words[1] not in ("00", "01"):
            continue
        flags = int(words[8], 16)
        if not flags & _RTF_UP or flags & _RTF_REJECT:
            continue
        part = WHOLE if words[1] == "00" else HIGH_HALF if int(words[0], 16) else LOW_HALF
        gateway = IPv6Address(int(words[4], 16)) if flags & _RTF_GATEWAY else None
        length = int(words[3], 16)
        source = IPv6Network((int(words[2], 16), length)) if length else None
        found.append(Candidate(6, MAIN_TABLE, part, index[words[9]], gateway, int(words[5], 16), None, source))
    return found


def probed_routes(addresses: Iterable[LocalAddress]) -> list[DefaultRoute]:
    """The best default route of each family, by its source address; others cannot be found.

    Its gateway and metric are unknown. (A socket bound to an interface shows no routes: IPv4 then treats every
    destination as a neighbour.)
    """
    ifindex = {local.address: local.ifindex for local in addresses}
    sources = [source for family in (socket.AF_INET, socket.AF_INET6) if (source := source_to_the_world(family))]
    return [DefaultRoute(source.version, ifindex[source], None, 0, source) for source in sources if source in ifindex]


def source_to_the_world(family: int) -> IpAddress | None:
    """The source address towards any destination; None: there is no route. Sends nothing."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((_SOMEWHERE[family], 9))
        return ip_address(sock.getsockname()[0].partition("%")[0])
    return None


def _ipv4_by_name() -> list[tuple[str, IPv4Address]]:
    """SIOCGIFCONF: the interfaces that have IPv4 addresses, one entry for each address."""
    step = _IFREQ if struct.calcsize("P") == 8 else 32
    buffer = array("B", bytes(_MAX_INTERFACES * step))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        wanted = struct.pack("@iP", len(buffer), buffer.buffer_info()[0])
        filled, _ = struct.unpack("@iP", fcntl.ioctl(sock, _SIOCGIFCONF, wanted))
    entries = buffer.tobytes()
    return [(_name(entries[at : at + 16]), IPv4Address(entries[at + 20 : at + 24])) for at in range(0, filled, step)]


def _ask(sock: socket.socket, request: int, name: str, form: str) -> int:
    return int(struct.unpack_from(form, fcntl.ioctl(sock, request, _request(name)), 16)[0])


def _request(name: str) -> bytes:
    return struct.pack(f"16s{_IFREQ - 16}x", name.encode()[:15])


def _name(raw: bytes | bytearray) -> str:
    return bytes(raw).partition(b"\0")[0].decode("ascii", "replace")


def _ipv4(text: str) -> IPv4Address:
    return IPv4Address(struct.pack("=I", int(text, 16)))
