"""Detects the removal of our chains from nftables, including iptables-nft, and the first chain of others for NAT.

A firewall that starts or reloads may flush the rules of others. The kernel reports every deletion (NFNLGRP_NFTABLES);
iptables-legacy reports none, so there other events cause a check.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Collection
from typing import Final

from lispmob.mh.kernel.xtables import TOOL_PIDS
from lispmob.netlink.connection import events, subscribe
from lispmob.netlink.message import NETLINK_NETFILTER, Raw

NFNLGRP_NFTABLES: Final = 7  # linux/netfilter/nfnetlink.h
NFT_MSG_NEWCHAIN: Final = 10 << 8 | 3
NFT_MSG_DELTABLE: Final = 10 << 8 | 2  # NFNL_SUBSYS_NFTABLES, linux/netfilter/nf_tables.h
NFT_MSG_DELCHAIN: Final = 10 << 8 | 5
NFT_MSG_DELRULE: Final = 10 << 8 | 8
_DELETIONS: Final = (NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE)
_TABLES: Final = (
    b"\0nat\0",
    b"\0mangle\0",
    b"\0lispmob_nat\0",
    b"\0lispmob_mangle\0",
    b"\0lispmob_source\0",
)  # the tables of our chains: a name as a netlink attribute, after its length
_NAT_TYPE: Final = struct.pack("=HH", 8, 7) + b"nat\0"  # NFTA_CHAIN_TYPE
_DATAGRAMS_PER_TURN: Final = 64  # ours: one check covers the rest
SETTLE_S: Final = 0.2  # ours: a reload removes and restores; check afterwards
APART_S: Final = 2.0  # ours: a check runs four processes, and container engines change rules all day

log = logging.getLogger(__name__)


def concerns_us(message: Raw, own: Collection[int] = ()) -> bool:
    """True for a deletion in a table that holds our chains, or a new NAT chain, by another process than `own` (pids).

    A NAT chain can replace the source of our packets (source_chain.py).
    """
    if message.port in own:
        return False
    if message.type == NFT_MSG_NEWCHAIN:
        return _NAT_TYPE in message.body
    return message.type in _DELETIONS and any(name in message.body for name in _TABLES)


class ChainWatch:
    """Calls `on_loss()` in the loop shortly after a loss, and never more often than every APART_S."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self._on_loss = on_loss
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = float("-inf")

    def start(self) -> None:
        """Subscribe. A kernel without nftables has no such events; that is no error."""
        try:
            self._socket = subscribe(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,))
        except OSError as error:
            log.info("firewalls are not watched: after a reload of yours, use lispctl nudge why=%s", error)
            self.stop()
            return
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_readable)

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_readable(self) -> None:
        assert self._socket is not None
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                told = events(self._socket)
            except OSError:  # ENOBUFS: events were lost, perhaps ours
                self._suspect()
                continue
            if told is None:
                return
            if any(concerns_us(message, TOOL_PIDS) for message in told):
                self._suspect()

    def _suspect(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + SETTLE_S, self._looked_at + APART_S)
            self._timer = loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looked_at = asyncio.get_running_loop().time()
        log.debug("another program changed the packet filter: checking that our chains are still there")
        self._on_loss()
