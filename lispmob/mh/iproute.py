"""The door to pyroute2's requests; imported late: it takes 40 ms, and nothing is asked before the registers left."""

from __future__ import annotations

from lispmob.iface_monitor.rtnetlink import only_submodules_of

with only_submodules_of("pyroute2"):
    from pyroute2.iproute.linux import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["AsyncIPRoute", "NetlinkError"]
