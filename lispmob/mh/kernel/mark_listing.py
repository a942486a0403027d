"""Reads the packet filters of this host for what they do with marks: iptables in both back ends, and nftables.

That takes a process for each program and family, so none is run where the kernel has no rules at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from pathlib import Path
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh import mark_uses
from lispmob.mh.kernel.xtables import ToolMissing, run_tool
from lispmob.mh.mark_uses import MarkUse
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import DUMP, NETLINK_NETFILTER

LISTING_MAX: Final = 4 << 20  # ours: octets of a ruleset; reading a larger one would block everything else

_NAMES: Final = {4: "iptables", 6: "ip6tables"}
_LEGACY_TABLES: Final = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}
_NFT_MSG_GETTABLE: Final = 10 << 8 | 1  # NFNL_SUBSYS_NFTABLES, linux/netfilter/nf_tables.h
_EVERY_FAMILY: Final = struct.pack("=BBH", 0, 0, 0)  # struct nfgenmsg

log = logging.getLogger(__name__)


async def uses() -> tuple[MarkUse, ...]:
    """Which bits of marks the packet filters use; none of a program that is missing or refuses."""
    readings = [_iptables_uses(family, "legacy") for family in _NAMES if has_legacy_tables(family)]
    if has_nft_tables():
        readings += [*(_iptables_uses(family, "nft") for family in _NAMES), _nftables_uses()]
    return tuple(dict.fromkeys([use for found in await asyncio.gather(*readings) for use in found]))


async def iptables(family: int, back_end: str, table: str = "") -> list[str]:
    """The lines of iptables-save, of one table or of all. Raises KernelRefused.

    `back_end`: "nft" or "legacy". Reading unused legacy tables would load kernel modules.
    """
    only = ("-t", table) if table else ()
    try:
        listing = await run_tool(f"{_NAMES[family]}-{back_end}-save", *only)
    except ToolMissing:  # a system with one back end only
        listing = await run_tool(f"{_NAMES[family]}-save", *only)
    return listing.splitlines() if len(listing) <= LISTING_MAX else []


async def nftables() -> object:
    """The output of `nft -j list ruleset`, without the elements of sets; None if it is too large.

    Raises KernelRefused.
    """
    listing = await run_tool("nft", "-j", "-t", "list", "ruleset")
    try:
        return json.loads(listing) if len(listing) <= LISTING_MAX else None
    except ValueError:
        return None


def has_nft_tables() -> bool:
    """True when nftables, or iptables by way of it, has tables in this network namespace."""
    try:
        with open_netlink(NETLINK_NETFILTER) as kernel:
            return any(True for _ in ask(kernel, _NFT_MSG_GETTABLE, DUMP, _EVERY_FAMILY))
    except OSError as error:
        log.debug("tables of nftables are not listed why=%s", error)
        return False


def has_legacy_tables(family: int) -> bool:
    """True when iptables-legacy has tables in this network namespace."""
    try:
        return bool(_LEGACY_TABLES[family].read_text().strip())
    except OSError:
        return False


async def _iptables_uses(family: int, back_end: str) -> tuple[MarkUse, ...]:
    try:
        return mark_uses.of_iptables(await iptables(family, back_end), f"{_NAMES[family]}-{back_end}")
    except KernelRefused as refused:
        log.debug("marks of others are not known family=%d back_end=%s why=%s", family, back_end, refused)
        return ()


async def _nftables_uses() -> tuple[MarkUse, ...]:
    try:
        return mark_uses.of_nftables(await nftables())
    except KernelRefused as refused:
        log.debug("marks of others in nftables are not known why=%s", refused)
        return ()
