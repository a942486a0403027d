"""Another program flushes chains of the packet filter: lispd notices, and flushes of other chains cost it little."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Collection
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.lab.namespace import Namespace, NamespaceSet, why_unavailable
from lispmob.mh.kernel.chain_watch import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    ChainWatch,
    concerns_us,
    is_about_marks,
)
from lispmob.mh.kernel.nat_chain import NatChain
from lispmob.netlink.message import messages

EIDS = [ip_network("10.1.0.1/32")]


def message(kind: int, table: str, chain: str, sender: int = 0) -> bytes:
    """A notification of nf_tables: nlmsghdr, nfgenmsg, NFTA_RULE_TABLE, NFTA_RULE_CHAIN."""
    body = struct.pack("=BBH", 2, 0, 0)
    for number, text in ((1, table), (2, chain)):
        octets = text.encode() + b"\0"
        body += struct.pack("=HH", 4 + len(octets), number) + octets + bytes(-len(octets) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, sender) + body


def has_loss(datagram: bytes, own: Collection[int] = ()) -> bool:
    return any(concerns_us(told, own) for told in messages(datagram))


def test_a_deletion_in_a_table_of_ours_is_a_loss_wherever_it_stands_in_the_datagram() -> None:
    new, old = message(NFT_MSG_NEWRULE, "nat", "POSTROUTING"), message(NFT_MSG_DELRULE, "nat", "POSTROUTING")

    assert has_loss(old)
    assert has_loss(new + message(NFT_MSG_DELCHAIN, "mangle", "LISPMOB-MARK"))
    assert not has_loss(new)


def test_other_tables_and_our_own_tools_are_no_loss() -> None:
    assert not has_loss(message(NFT_MSG_DELRULE, "filter", "INPUT"))
    assert not has_loss(message(NFT_MSG_DELRULE, "firewalld", "nat_POSTROUTING"))
    assert not has_loss(message(NFT_MSG_DELRULE, "nat", "POSTROUTING", sender=4711), own=[4711])


def new_chain(table: str, kind: str) -> bytes:
    """A notification of a new base chain: NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_TYPE."""
    body = struct.pack("=BBH", 2, 0, 0)
    for number, text in ((1, table), (3, "post"), (7, kind)):
        octets = text.encode() + b"\0"
        body += struct.pack("=HH", 4 + len(octets), number) + octets + bytes(-len(octets) % 4)
    return struct.pack("=IHHII", 16 + len(body), NFT_MSG_NEWCHAIN, 0, 1, 0) + body


def test_a_new_chain_for_nat_concerns_us_in_whatever_table_it_is() -> None:
    assert has_loss(new_chain("nat", "nat"))
    assert has_loss(new_chain("firewalld", "nat"))
    assert not has_loss(new_chain("nat", "filter"))
    assert not has_loss(new_chain("natty", "route"))


@given(st.binary(max_size=200))
def test_octets_of_any_kind_are_read_to_their_end(octets: bytes) -> None:
    assert has_loss(octets) in (True, False)


def attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


@pytest.mark.parametrize(
    ("expression", "is_about"),
    [
        (attribute(2, struct.pack(">I", 3)) + attribute(1, struct.pack(">I", 8)), True),  # meta mark, ct mark
        (attribute(1, b"MARK\0"), True),
        (attribute(1, b"connmark\0"), True),
        (attribute(2, struct.pack(">I", 5)), False),  # meta iif
        (attribute(1, b"KUBE-MARK-MASQ\0"), False),
        (attribute(1, b"comment\0"), False),
    ],
)
def test_a_new_rule_about_marks_is_told_from_others(expression: bytes, is_about: bool) -> None:
    octets = message(NFT_MSG_NEWRULE, "nat", "X", sender=4711)
    octets = struct.pack("=I", len(octets) + len(expression)) + octets[4:] + expression
    [told] = messages(octets)

    assert is_about_marks(told) is is_about
    assert not is_about_marks(told, own=[4711])


async def watched(doing: Callable[[], object]) -> int:
    """How often a watch called, within a second of `doing`."""
    calls = []
    watch = ChainWatch(lambda: calls.append(1))
    watch.start()
    try:
        await asyncio.to_thread(doing)
        await asyncio.sleep(1.0)
    finally:
        watch.stop()
    return len(calls)


def in_namespace(desk: Namespace, doing: Callable[[], object]) -> int:
    with desk.entered():
        return asyncio.run(watched(doing))


@pytest.mark.netns
@pytest.mark.skipif(why_unavailable() is not None, reason=why_unavailable() or "")
def test_a_flush_by_iptables_or_nft_is_heard_once_and_our_own_changes_never() -> None:
    def flush(*command: str) -> Callable[[], object]:
        return lambda: [desk.run(*command) for _ in range(3)]

    async def ours() -> int:
        calls: list[int] = []
        watch = ChainWatch(lambda: calls.append(1))
        watch.start()
        try:
            nat = NatChain()
            assert await nat.apply(EIDS, "lmn0") == ()
            await nat.clean_up()
            await asyncio.sleep(0.5)
        finally:
            watch.stop()
        return len(calls)

    with NamespaceSet() as namespaces:
        desk = namespaces.make("desk")
        with desk.entered():
            assert asyncio.run(ours()) == 0
            assert asyncio.run(NatChain().apply(EIDS, "lmn0")) == ()
        assert in_namespace(desk, flush("iptables", "-t", "filter", "-F")) == 0
        assert in_namespace(desk, flush("iptables", "-t", "nat", "-F")) == 1
        assert in_namespace(desk, flush("nft", "flush", "ruleset")) == 1
