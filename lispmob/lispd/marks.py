"""The mask of our marks, chosen once, because the datapath's device is made for it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from lispmob.config.node import NodeFile
from lispmob.iface_monitor import rtnetlink
from lispmob.mh import mark_bits, mark_uses
from lispmob.mh.kernel import mark_listing, rule_message
from lispmob.mh.mark_uses import MarkUse
from lispmob.mh.policy import DEFAULT_MASK, MarkMask

READ_S: Final = 2.0  # ours: iptables and nft take 20 ms, with thousands of rules 1 s; status names what was missed

log = logging.getLogger(__name__)


async def with_mask(file: NodeFile, former: MarkMask | None = None) -> NodeFile:
    """The configuration with a mask if it has none: the former one, or one that no other program uses."""
    if file.steering.mask is not None:
        return file
    mask = former or await _free_mask()
    return msgspec.structs.replace(file, steering=msgspec.structs.replace(file.steering, mask=mask))


async def _free_mask() -> MarkMask:
    uses = (*_in_rules(), *await _in_packet_filters())
    mask = mark_bits.choose(uses, _highest_ifindex())
    if mask.bits != DEFAULT_MASK:
        log.info("marks use the bits %#x, since other programs use some of %#x", mask.bits, DEFAULT_MASK)
    return mask


def _in_rules() -> tuple[MarkUse, ...]:
    try:
        return mark_uses.of_rules(rule_message.foreign_rules())
    except OSError as error:
        log.debug("routing rules are not read: as if there were none about marks why=%s", error)
        return ()


async def _in_packet_filters() -> tuple[MarkUse, ...]:
    try:
        return await asyncio.wait_for(mark_listing.uses(), READ_S)
    except TimeoutError:
        log.debug("packet filters are not read in time: as if there were no rules about marks")
        return ()


def _highest_ifindex() -> int:
    try:
        return max((link.ifindex for link in rtnetlink.dump_links()), default=1)
    except OSError:
        return 1
