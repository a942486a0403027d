"""Keeps the EID as the source of packets that enter the overlay, whatever other programs translate.

A host may translate all that leaves it (`iptables -t nat -A POSTROUTING -j SNAT --to-source 198.51.100.2`). The
datapath's device is an interface like another, so an EID would be replaced too, and lispd drops what has no EID as
source. The kernel asks no further chain about a flow that one has translated. Therefore a chain of ours in front of all
others translates each EID to itself.

It is made only where others have a chain for source translation: it makes the kernel track each flow, which costs time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh import nft_text
from lispmob.mh.chain_text import ChainText
from lispmob.mh.kernel.chain_keeper import ChainKeeper
from lispmob.mh.kernel.packet_filter import Nftables, is_legacy_in_use
from lispmob.mh.kernel.xtables import Tool, ToolBusy, ToolMissing, run_tool
from lispmob.wire.address import IpNetwork

log = logging.getLogger(__name__)

TABLE: Final = "source"
_NAT: Final = "nat"
_WITHOUT_NFT: Final = {4: Tool("iptables-nft", 4), 6: Tool("ip6tables-nft", 6)}


class SourceChain:
    """The chain of one family, made by nft. Without nft, `NatChain` writes `accepting` into the chains of iptables."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._keeper = ChainKeeper(TABLE, [Nftables(family)])
        self._is_needed: bool | None = None
        self._is_there = False

    async def apply(self, eids: Collection[IpNetwork], devices: Iterable[str], *, is_repair: bool = False) -> bool:
        """Protect these EIDs at these devices, in the form of iptables' `-o`. True when iptables has to do it instead.

        Raises ToolBusy: a retry may work.
        """
        if self._is_needed is None or is_repair:
            self._is_needed = await has_others(self._family)
        if not eids or not self._is_needed:
            await self._remove()
            return False
        lines = [f"-A POSTROUTING {line}" for device in devices for line in keeping(eids, device)]
        try:
            await self._keeper.apply(lambda _missing: ChainText((), tuple(lines), ()), is_repair=is_repair)
        except ToolBusy:
            raise
        except KernelRefused as refused:
            log.debug("nft does not keep the source of our packets: %s", refused)
            return True
        self._is_there = True
        return False

    async def clean_up(self) -> None:
        """Remove the chain, also that of an earlier lispd. Raises KernelRefused."""
        self._is_needed, self._is_there = None, False
        await self._keeper.clean_up()

    async def _remove(self) -> None:
        if self._is_there:
            await self._keeper.clean_up()
            self._is_there = False


async def has_others(family: int) -> bool:
    """True when another program has a chain for source translation. What cannot be read counts as none.

    Reading the table of iptables-legacy would create it; the kernel says whether it is in use.
    """
    if is_legacy_in_use(family, _NAT):
        return True
    try:
        return in_listing(await run_tool("nft", "-j", "list", "chains"), family)
    except ToolMissing:
        pass
    except KernelRefused as refused:
        log.debug("chains of others are not known family=%d why=%s", family, refused)
    try:
        return any(line.startswith(":POSTROUTING ") for line in await _WITHOUT_NFT[family].save(_NAT))
    except KernelRefused as refused:
        log.debug("chains of others are not known family=%d why=%s", family, refused)
        return False


def in_listing(listing: str, family: int) -> bool:
    """True when `nft -j list chains` names a chain of others for source translation; pure."""
    try:
        found = json.loads(listing)["nftables"]
        chains = [item["chain"] for item in found if "chain" in item]
    except (ValueError, KeyError, TypeError):
        return False
    own = nft_text.table_name("")
    return any(
        (chain.get("type"), chain.get("hook")) == ("nat", "postrouting")
        and chain.get("family") in (nft_text.FAMILY_NAMES[family], "inet")
        and not str(chain.get("table")).startswith(own)
        for chain in chains
        if isinstance(chain, Mapping)
    )


def keeping(eids: Iterable[IpNetwork], device: str) -> list[str]:
    """Rules that translate each EID to itself, in the form of iptables, in a stable order."""
    return [f"-s {eid} -o {device} {_to_itself(eid)}" for eid in sorted(eids, key=str)]


def accepting(eids: Iterable[IpNetwork], device: str) -> list[str]:
    """Rules that end the way through iptables' own chain, in a stable order."""
    return [f"-s {eid} -o {device} -j ACCEPT" for eid in sorted(eids, key=str)]


def _to_itself(eid: IpNetwork) -> str:
    if eid.prefixlen == eid.max_prefixlen:
        return f"-j SNAT --to-source {eid.network_address}"
    return f"-j NETMAP --to {eid}"
