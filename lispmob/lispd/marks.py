"""The mask of our marks, chosen once, because the datapath's device is made for it."""

from __future__ import annotations

import logging

import msgspec

from lispmob.config.node import NodeFile
from lispmob.iface_monitor import rtnetlink
from lispmob.mh import mark_bits
from lispmob.mh.kernel import rule_message
from lispmob.mh.policy import DEFAULT_MASK, MarkMask

log = logging.getLogger(__name__)


def with_mask(file: NodeFile, former: MarkMask | None = None) -> NodeFile:
    """The configuration with a mask if it has none: the former one, or one that no other rule uses."""
    if file.steering.mask is not None:
        return file
    mask = former or _free_mask()
    return msgspec.structs.replace(file, steering=msgspec.structs.replace(file.steering, mask=mask))


def _free_mask() -> MarkMask:
    try:
        highest = max((link.ifindex for link in rtnetlink.dump_links()), default=1)
        mask = mark_bits.choose(rule_message.foreign_rules(), highest)
    except OSError as error:
        log.debug("routing rules are not read: the usual mask is used why=%s", error)
        mask = MarkMask(DEFAULT_MASK)
    if mask.bits != DEFAULT_MASK:
        log.info("marks use the bits %#x, since routing rules of others use some of %#x", mask.bits, DEFAULT_MASK)
    return mask
