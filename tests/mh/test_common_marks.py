"""The marks that chains of other programs give to all packets."""

from __future__ import annotations

import struct

import pytest

from lispmob.mh.common_marks import given_to_all, is_met
from lispmob.mh.rule import MARK, MARK_MASK, Rule

MWAN3 = """\
-A OUTPUT -j mwan3_hook
-A mwan3_hook -p ipv6-icmp -j RETURN
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_rules
-A mwan3_rules -p tcp -m multiport --dports 443 -m mark --mark 0x0/0x3f00 -j mwan3_rule_https
-A mwan3_rules -m mark --mark 0x0/0x3f00 -m comment --comment "default rule" -j mwan3_policy_balanced
-A mwan3_policy_balanced -m mark --mark 0x0/0x3f00 -m statistic --mode random --probability 0.4 -j MARK --set-xmark 0x200/0x3f00
-A mwan3_policy_balanced -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00
-A mwan3_rule_https -j MARK --set-xmark 0x300/0x3f00"""  # noqa: E501


def marked(mark: int, mask: int, family: int = 4) -> Rule:
    selectors = ((MARK, struct.pack("=I", mark)), (MARK_MASK, struct.pack("=I", mask)))
    return Rule(2001, family, 1, is_copy=True, selectors=selectors)


def test_the_marks_of_a_balancer_are_found_through_its_chains_and_those_for_some_are_not() -> None:
    assert set(given_to_all(MWAN3.splitlines())) == {(0x200, 0x3F00), (0x100, 0x3F00)}


@pytest.mark.parametrize(
    "line",
    [
        "-A OUTPUT -d 10.9.0.0/16 -j MARK --set-xmark 0x7/0xff",
        "-A OUTPUT -m owner --uid-owner 1000 -j MARK --set-xmark 0x7/0xff",
        "-A OUTPUT -o eth1 -j MARK --set-xmark 0x7/0xff",
        "-A OUTPUT -m cgroup --path vpn -j MARK --set-xmark 0x7/0xff",
        "-A PREROUTING -j MARK --set-xmark 0x7/0xff",
        "-A UNUSED -j MARK --set-xmark 0x7/0xff",
    ],
)
def test_a_mark_for_some_packets_only_is_not_given_to_all(line: str) -> None:
    assert given_to_all([line]) == ()


def test_chains_that_lead_to_one_another_come_to_an_end() -> None:
    assert given_to_all(["-A OUTPUT -j A", "-A A -j B", "-A B -j A"]) == ()


def test_a_rule_is_met_by_the_marks_that_it_asks_for() -> None:
    marks = given_to_all(MWAN3.splitlines())

    assert is_met(marked(0x100, 0x3F00), marks)
    assert not is_met(marked(0x3D00, 0x3F00), marks)
    assert not is_met(Rule(1000, 4, 77, is_copy=True), marks)
