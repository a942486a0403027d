"""Detects, in nftables and iptables-nft, the removal of our chains, NAT chains of others, and their rules about marks.

A firewall that starts or reloads may flush the rules of others. The kernel reports every change (NFNLGRP_NFTABLES);
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
NFT_MSG_NEWRULE: Final = 10 << 8 | 6
NFT_MSG_DELRULE: Final = 10 << 8 | 8
_DELETIONS: Final = (NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE)
_TABLES: Final = (
    b"\0nat\0",
    b"\0mangle\0",
    b"\0lispmob_nat\0",
    b"\0lispmob_mangle\0",
    b"\0lispmob_source\0",
)  # the tables of our chains: a name as a netlink attribute, after its length
_IS_MARK: Final = struct.pack("=HH", 8, 2) + struct.pack(">I", 3)
"""NFTA_META_KEY = NFT_META_MARK; the same octets are NFTA_CT_KEY = NFT_CT_MARK."""
_OF_XTABLES: Final = (b"\0MARK\0", b"\0CONNMARK\0", b"\0TPROXY\0", b"\0connmark\0", b"\0mark\0")
"""The targets and matches of iptables-nft that are about marks, as netlink attributes."""
_NAT_TYPE: Final = struct.pack("=HH", 8, 7) + b"nat\0"  # NFTA_CHAIN_TYPE
_DATAGRAMS_PER_TURN: Final = 64  # ours: one check covers the rest
SETTLE_S: Final = 0.2  # ours: a reload removes and restores; check afterwards
APART_S: Final = 2.0  # ours: a check runs four processes, and container engines change rules all day
MARKS_APART_S: Final = 20.0  # ours: reading all rules of a host costs more, and nothing waits for it

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


def is_about_marks(message: Raw, own: Collection[int] = ()) -> bool:
    """True for a new rule that compares or sets a mark, by another process than `own` (pids)."""
    if message.type != NFT_MSG_NEWRULE or message.port in own:
        return False
    return _IS_MARK in message.body or any(name in message.body for name in _OF_XTABLES)


class ChainWatch:
    """Calls `on_loss()` in the loop shortly after a loss, and never more often than every APART_S.

    `on_marks()` likewise after new rules about marks, every MARKS_APART_S at most. Deletions do not say what a rule was
    about; they count too while `has_conflict()` says that some rule is in our way.
    """

    def __init__(
        self,
        on_loss: Callable[[], None],
        on_marks: Callable[[], None] = lambda: None,
        has_conflict: Callable[[], bool] = lambda: False,
    ) -> None:
        self._socket: socket.socket | None = None
        self._losses = _Seldom(on_loss, APART_S)
        self._marks = _Seldom(on_marks, MARKS_APART_S)
        self._has_conflict = has_conflict

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
        self._losses.cancel()
        self._marks.cancel()

    def _on_readable(self) -> None:
        assert self._socket is not None
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                told = events(self._socket)
            except OSError:  # ENOBUFS: events were lost, perhaps ours
                self._losses.suspect()
                self._marks.suspect()
                continue
            if told is None:
                return
            if any(concerns_us(message, TOOL_PIDS) for message in told):
                self._losses.suspect()
            if any(self._concerns_marks(message) for message in told):
                self._marks.suspect()

    def _concerns_marks(self, message: Raw) -> bool:
        if message.type in _DELETIONS:
            return message.port not in TOOL_PIDS and self._has_conflict()
        return is_about_marks(message, TOOL_PIDS)


class _Seldom:
    """A call a moment after an event, with a pause between two of them."""

    def __init__(self, call: Callable[[], None], apart_s: float) -> None:
        self._call, self._apart_s = call, apart_s
        self._timer: asyncio.TimerHandle | None = None
        self._called_at = float("-inf")

    def suspect(self) -> None:
        """Something happened: call soon, once."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time() + SETTLE_S, self._called_at + self._apart_s), self._due)

    def cancel(self) -> None:
        """Forget the event. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._called_at = asyncio.get_running_loop().time()
        log.debug("another program changed the packet filter: what concerns us is read again")
        self._call()
