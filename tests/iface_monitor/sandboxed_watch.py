"""A process whose sandbox forbids netlink, or only bind(): it watches the network and prints what it is told.

    sandboxed_watch.py bind|netlink

The sandbox is a seccomp filter. seccomp cannot look behind a pointer, so bind() is refused for every socket, which a
process that only watches does not miss; socket() is refused for AF_NETLINK alone.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import platform
import struct
import sys
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.polling import PollingMonitor
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy

# linux/prctl.h, linux/seccomp.h, linux/audit.h, asm/unistd.h
PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | errno.EACCES
NUMBERS: Final = {"x86_64": {"socket": 41, "bind": 49}, "aarch64": {"socket": 198, "bind": 200}}
AF_NETLINK: Final = 16


def forbid(what: str) -> None:
    """Install the filter for this process and its children; there is no way back."""
    numbers = NUMBERS[platform.machine()]
    load, equal, ret = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    if what == "bind":
        program = [(load, 0, 0, 0), (equal, 0, 1, numbers["bind"]), (ret, 0, 0, REFUSE), (ret, 0, 0, ALLOW)]
    else:
        program = [
            (load, 0, 0, 0),
            (equal, 0, 3, numbers["socket"]),
            (load, 0, 0, 16),  # the first argument, on a little-endian machine
            (equal, 0, 1, AF_NETLINK),
            (ret, 0, 0, REFUSE),
            (ret, 0, 0, ALLOW),
        ]
    octets = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(octets)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp refused")


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - its parent listens


async def main(what: str) -> None:
    forbid(what)

    def on_change(state: NetworkState, delta: NetworkDelta, since: float) -> None:
        say(
            reasons=[reason.text for reason in delta.reasons],
            uplinks={up.name: [str(address) for address in up.addresses] for up in delta.uplinks},
            gateways=[str(route.gateway) for route in state.default_routes],
        )

    try:
        await NetlinkMonitor(UplinkPolicy(), on_change).start()
    except KernelRefused as error:
        say(refused=str(error))
    monitor = PollingMonitor(UplinkPolicy(), on_change)
    await monitor.start()
    say(source=monitor.source, interval_s=monitor.interval_s)
    await asyncio.to_thread(sys.stdin.readline)
    await monitor.stop()
    say(looks=monitor.looks)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
