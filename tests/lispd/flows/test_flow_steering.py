"""From a flow in the daemon to its mark: what the rules see of it, and when marks are computed again."""

from __future__ import annotations

import asyncio
import os
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from lispmob.control.probing.path import Pair, Path, State
from lispmob.flow.quality import FlowClass, Quality, Wish
from lispmob.flow.steered import Owner, SteeredFlow
from lispmob.lispd.flows.flow_steering import FlowSteering, round_trip_s
from lispmob.mh.policy import Policy, Rule, Uplink, Via
from lispmob.mh.selector import Selector, Span
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Locator

UPLINKS = (Uplink("eth0", 2, 1), Uplink("wlan0", 3, 2, is_metered=True))
WIRED, RADIO = LocalLocator(ip_address("192.0.2.1"), 2, "eth0"), LocalLocator(ip_address("192.0.2.2"), 3, "wlan0")
OWN = LocatorSet.of(1, [WIRED, RADIO])
US = Owner(os.getpid(), os.getuid(), os.getgid())


def steered(**facts: Any) -> SteeredFlow:
    ends: dict[str, Any] = {
        "name": "voice.nas", "own": ip_address("10.99.0.1"), "own_port": 50000, "peer": ip_address("10.99.0.2"),
        "peer_port": 40001, "quality": Quality(FlowClass.VOICE), "owner": US,
    }  # fmt: skip
    return SteeredFlow(**{**ends, **facts})


def mark_of(one: SteeredFlow, *rules: Rule) -> int:
    async def choose() -> int:
        policy = Policy(rules)
        steering: Any = SimpleNamespace(policy=policy, compiled=policy.compile(UPLINKS))
        steers = FlowSteering(steering, SimpleNamespace(locators=OWN, paths=()), lambda: None)  # type: ignore[arg-type]
        try:
            return steers.mark_of(one)
        finally:
            steers.stop()

    return asyncio.run(choose())


def rule(**selector: Any) -> Rule:
    return Rule("r", Selector(**selector), (Via("wlan0"),))


@pytest.mark.parametrize(
    "selector",
    [
        {"flow_name": "voice.*"}, {"flow_classes": ("voice",)}, {"dscp": (46,)}, {"protocols": (17,)},
        {"users": (Span(US.uid, US.uid),)}, {"groups": (Span(US.gid, US.gid),)}, {"cgroup": "/"},
        {"protocols": (17,), "source_ports": (Span(50000, 50000),), "destination_ports": (Span(40001, 40001),)},
    ],
)  # fmt: skip
def test_every_part_of_a_rule_is_compared_with_the_flow(selector: dict[str, Any]) -> None:
    assert mark_of(steered(), rule(**selector)) == 3


def test_a_service_that_lispd_has_started_has_no_user_that_a_rule_could_name() -> None:
    assert mark_of(steered(owner=None), rule(users=(Span(0, 65535),))) == 0


def test_wishes_and_patterns_of_a_program_are_heeded() -> None:
    assert mark_of(steered(via=("wlan*",))) == 3
    assert mark_of(steered(via=("",))) == 0
    assert mark_of(steered(quality=Quality(flags=Wish.CHEAP))) == 2
    assert mark_of(steered(quality=Quality(77))) == 0


@pytest.mark.parametrize(
    ("rtts_ms", "known"), [([], None), ([("near", 20)], 0.02), ([("near", 20), ("near", 80), ("far", 500)], 0.08)]
)
def test_the_round_trip_to_an_eid_is_the_slowest_of_those_to_its_locators(
    rtts_ms: list[tuple[str, float]], known: float | None
) -> None:
    near, far = ip_address("203.0.113.1"), ip_address("203.0.113.2")
    eid = EidPrefix.parse("10.99.0.0/24")
    entry = SimpleNamespace(locators=(Locator(near),))
    paths = []
    for where, rtt_ms in rtts_ms:
        made = Path(Pair(WIRED.address, near if where == "near" else far), eid, 0.0)
        made.state = State.UP
        made.quality.on_answer(rtt_ms / 1000)
        paths.append(made)
    node: Any = SimpleNamespace(paths=paths, map_cache=SimpleNamespace(lookup=lambda _eid, _instance: entry))

    assert round_trip_s(node, ip_address("10.99.0.2")) == known


def test_the_round_trip_to_an_eid_without_a_mapping_is_not_known() -> None:
    node: Any = SimpleNamespace(paths=(), map_cache=SimpleNamespace(lookup=lambda _eid, _instance: None))

    assert round_trip_s(node, ip_address("10.99.0.2")) is None


def test_marks_are_looked_at_again_while_flows_are_steered_by_their_class() -> None:
    async def watch() -> int:
        policy, reviews = Policy(), asyncio.Semaphore(0)
        steering: Any = SimpleNamespace(policy=policy, compiled=policy.compile(UPLINKS))
        node: Any = SimpleNamespace(locators=OWN, paths=())
        steers = FlowSteering(steering, node, reviews.release, review_s=0.01)
        steers.mark_of(steered(quality=Quality(FlowClass.BULK)))
        assert steers.is_watching is False
        for _ in range(3):
            steers.mark_of(steered())
            await asyncio.wait_for(reviews.acquire(), 5)
        return steers.is_watching

    assert asyncio.run(watch()) is False
