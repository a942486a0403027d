"""Rules about marks, made with the tools that other programs use: lispd finds their bits, also of later ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lispd.tasks.kernel_task import KernelTask
from lispmob.mh.kernel import chain_watch, mark_listing
from lispmob.mh.kernel.chain_watch import ChainWatch
from lispmob.mh.plan import KernelState

pytestmark = pytest.mark.netns

KUBE_PROXY_NFT = """table ip kube-proxy {
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading { meta mark and 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }
}"""
BALANCER = """table inet balancer {
  chain out { type route hook output priority mangle; meta mark set ct mark and 0x00ff0000; ct mark and 0x300 != 0 accept; }
}"""  # noqa: E501


@pytest.fixture
def desk() -> Iterator[Namespace]:
    with NamespaceSet() as namespaces:
        desk = namespaces.make("desk")
        with desk.entered():
            yield desk


def bits() -> set[int]:
    return {use.bits for use in asyncio.run(mark_listing.uses())}


def chain(desk: Namespace, *rules: str, tool: str = "iptables") -> None:
    for rule in rules:
        desk.run(tool, *rule.split())


def test_bits_are_found_in_both_back_ends_of_both_families_and_in_nftables(desk: Namespace) -> None:
    assert bits() == set()

    chain(desk, "-t nat -N KUBE-MARK-MASQ", "-t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000", tool="iptables-nft")
    chain(desk, "-t mangle -A PREROUTING -j CONNMARK --restore-mark --mask 0x3f00", tool="ip6tables-nft")
    assert bits() == {0x4000, 0x3F00}

    chain(desk, "-t filter -A FORWARD -m mark --mark 0x40000/0xff0000 -j ACCEPT", tool="iptables-legacy")
    chain(desk, "-t mangle -A OUTPUT -j MARK --set-mark 0x20000000/0xf0000000", tool="ip6tables-legacy")
    assert bits() == {0x4000, 0x3F00, 0xFF0000, 0xF0000000}

    for tool in ("iptables-legacy", "ip6tables-legacy"):
        chain(desk, "-t filter -F", "-t mangle -F", tool=tool)
    desk.run("nft", "flush ruleset")
    desk.run("nft", BALANCER)
    assert bits() == {0xFF0000, 0x300}


def test_a_rule_about_our_bits_that_comes_later_is_a_problem_until_it_goes(
    desk: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_watch, "MARKS_APART_S", 0.3)

    async def watched() -> None:
        state = KernelState("lmn0", mark_mask=0xFFFF)
        task = KernelTask(lambda: state, lambda: None)
        watch = ChainWatch(task.suspect, task.on_marks, lambda: task.has_mark_conflict)
        await task.start()
        watch.start()
        try:
            await until(lambda: not task.problems)
            await asyncio.to_thread(desk.run, "nft", KUBE_PROXY_NFT)
            await until(lambda: bool(task.problems))
            [problem] = task.problems
            assert problem.key == "mark-in-use"
            assert "`ip kube-proxy mark-for-masquerade` of nftables uses 0x4000" in problem.cause
            await asyncio.to_thread(desk.run, "nft", "delete table ip kube-proxy")
            await until(lambda: not task.problems)
        finally:
            watch.stop()
            await task.stop()

    asyncio.run(watched())


async def until(is_so: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
