"""Hears of it when somebody takes away what may be ours among the chains of nftables, iptables-nft included.

A firewall that starts or reloads may flush what it did not make. The kernel tells of every deletion (NFNLGRP_NFTABLES);
iptables-legacy tells nobody, and there it takes a nudge.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Collection
from typing import Final

from lispmob.mh.kernel.xtables import TOOL_PIDS

NETLINK_NETFILTER: Final = 12  # linux/netlink.h
NFNLGRP_NFTABLES: Final = 7  # linux/netfilter/nfnetlink.h
NFT_MSG_DELTABLE: Final = 10 << 8 | 2  # NFNL_SUBSYS_NFTABLES, linux/netfilter/nf_tables.h
NFT_MSG_DELCHAIN: Final = 10 << 8 | 5
NFT_MSG_DELRULE: Final = 10 << 8 | 8
_DELETIONS: Final = (NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE)
_TABLES: Final = (
    b"\0nat\0",
    b"\0mangle\0",
    b"\0lispmob_nat\0",
    b"\0lispmob_mangle\0",
)  # where our chains are: a name as a netlink attribute, its length before it
_HEADER: Final = struct.Struct("=IHHII")
_DATAGRAMS_PER_TURN: Final = 64  # ours: what is behind them is looked at by one look as well
SETTLE_S: Final = 0.2  # ours: a reload takes away and puts back; look when it is done
APART_S: Final = 2.0  # ours: a look takes four processes, and container engines change their rules all day

log = logging.getLogger(__name__)


def is_loss(datagram: bytes, own: Collection[int] = ()) -> bool:
    """True when it tells of a deletion in a table that holds chains of ours, by another process than `own` (pids)."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, _, _, sender = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= len(datagram) - at:
            return False
        body = datagram[at + _HEADER.size : at + length]
        if kind in _DELETIONS and sender not in own and any(table in body for table in _TABLES):
            return True
        at += (length + 3) & ~3
    return False


class ChainWatch:
    """Calls `on_loss()` inside the loop, a moment after a loss, and never more often than every APART_S."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self._on_loss = on_loss
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = float("-inf")

    def start(self) -> None:
        """Subscribe. A kernel without nftables has nothing to tell; that is no error."""
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, flags, NETLINK_NETFILTER)
            self._socket.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
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
                datagram, (sender, _) = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: something was not told; it may have been that
                self._suspect()
                continue
            if sender == 0 and is_loss(datagram, TOOL_PIDS):  # the kernel's port is 0
                self._suspect()

    def _suspect(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + SETTLE_S, self._looked_at + APART_S)
            self._timer = loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looked_at = asyncio.get_running_loop().time()
        log.debug("somebody changed the chains of the packet filter: checking that ours are still there")
        self._on_loss()
