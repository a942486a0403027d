"""Imports pyroute2's requests late: that takes 40 ms, and no request is made before the registers are sent."""

from __future__ import annotations

from lispmob.partial_imports import only_submodules_of, without_mocks, without_tls

with only_submodules_of("pyroute2"), without_mocks(), without_tls():
    from pyroute2.iproute.linux import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["AsyncIPRoute", "NetlinkError"]
