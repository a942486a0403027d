"""Process: a watch in a sandbox that forbids netlink, or only bind(); it prints what it is told about the network.

    sandboxed_watch.py bind|netlink

The sandbox is a seccomp filter. seccomp cannot look behind a pointer, so bind() is refused for every socket, which a
process that only watches does not miss; socket() is refused for AF_NETLINK alone.
"""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.polling import PollingMonitor
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy
from tests import seccomp

AF_NETLINK: Final = 16


def forbid(what: str) -> None:
    """Install the filter for this process and its children, for good."""
    if what == "bind":
        seccomp.install(seccomp.refusing("bind", errno.EACCES))
        return
    program = [
        (seccomp.LOAD, 0, 0, 0),
        (seccomp.EQUAL, 0, 3, seccomp.number("socket")),
        (seccomp.LOAD, 0, 0, 16),  # the first argument, on a little-endian machine
        (seccomp.EQUAL, 0, 1, AF_NETLINK),
        (seccomp.RETURN, 0, 0, seccomp.REFUSE | errno.EACCES),
        (seccomp.RETURN, 0, 0, seccomp.ALLOW),
    ]
    seccomp.install(program)


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
