"""Rules with copies: the two uplinks that carry each packet, and how the datapath is told of them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.mh.chain_text import Hooks, chain_text
from lispmob.mh.policy import Compiled, Copying, Flow, MarkMask, Outcome, Policy, Rule, Selector, Uplink, Via
from lispmob.mh.rehearsal import FlowChange, rehearse
from lispmob.mh.selector import Span

CABLE = Uplink("cable0", 2, priority=1)
WIFI = Uplink("wlan0", 3, priority=2)
LTE = Uplink("wwan0", 4, priority=3, is_metered=True)
CALLS = Selector(protocols=(17,), destination_ports=(Span(5000, 6000),))
CALL = Flow(ip_address("10.1.0.1"), ip_address("10.2.0.1"), protocol=17, destination_port=5004)


def compiled(rule: Rule, *uplinks: Uplink) -> Compiled:
    return Policy((rule,)).compile(uplinks)


def pair(rule: Rule, *uplinks: Uplink) -> tuple[str, ...]:
    return compiled(rule, *uplinks).evaluate(CALL).uplinks


def test_a_packet_leaves_by_the_two_best_uplinks() -> None:
    rule = Rule("calls", CALLS, copies=2)

    assert pair(rule, WIFI, CABLE) == ("cable0", "wlan0")
    assert pair(rule, WIFI) == ("wlan0",)
    assert compiled(rule).evaluate(CALL).outcome is Outcome.DEFAULT


def test_an_order_of_uplinks_says_which_two() -> None:
    rule = Rule("calls", CALLS, (Via("wlan*"), Via("cable0")), copies=2)

    assert pair(rule, CABLE, WIFI, LTE) == ("wlan0", "cable0")


def test_no_copy_leaves_by_what_costs_by_volume_unless_the_rule_says_so() -> None:
    silent, told = Rule("calls", CALLS, copies=2), Rule("calls", CALLS, copies=2, may_copy_cost=True)

    assert pair(silent, CABLE, LTE) == ("cable0",)
    assert pair(told, CABLE, LTE) == ("cable0", "wwan0")
    assert pair(silent, LTE) == ("wwan0",)
    assert pair(Rule("calls", CALLS, (Via("wwan*"), Via("*")), copies=2), CABLE, LTE) == ("wwan0", "cable0")


def test_its_mark_stays_the_same_whichever_uplinks_there_are() -> None:
    rule = Rule("calls", CALLS, copies=2)

    marks = {compiled(rule, *uplinks).evaluate(CALL).mark for uplinks in ((CABLE, WIFI), (WIFI,), (CABLE,))}

    assert marks == {MarkMask().copying(0)}


def test_the_datapath_is_told_both_uplinks_and_none_for_a_copy_that_no_uplink_may_carry() -> None:
    rule = Rule("calls", CALLS, copies=2)
    mark = MarkMask().copying(0)

    assert compiled(rule, CABLE, WIFI).copying == (Copying(mark, mark, 2, 3),)
    assert compiled(rule, CABLE, LTE).copying == (Copying(mark, mark, 2, 0),)
    assert compiled(rule).copying == ()


def test_two_rules_have_marks_of_their_own_and_no_uplink_has_them() -> None:
    policy = Policy((Rule("calls", CALLS, copies=2), Rule("games", copies=2, via=(Via("wlan0"), Via("cable0")))))
    stranger = Uplink("eth9", MarkMask().copying(0))

    found = policy.compile((CABLE, WIFI, stranger))

    assert len({one.mark for one in found.copying}) == 2
    assert stranger not in found.uplinks
    assert all(found.usable(one.mark) for one in found.copying)
    assert not found.usable(MarkMask().copying(5))


def test_an_application_may_set_the_mark_itself() -> None:
    mark = MarkMask().copying(0)
    found = compiled(Rule("calls", CALLS, copies=2), CABLE, WIFI)

    decision = found.evaluate(Flow(CALL.source, CALL.destination, protocol=6, destination_port=22, mark=mark))

    assert (decision.uplinks, decision.rule) == (("cable0", "wlan0"), "calls")


def test_the_kernel_marks_its_packets_like_those_of_any_other_rule() -> None:
    rule = Rule("calls", CALLS, copies=2)

    text = chain_text(compiled(rule, CABLE, WIFI), Hooks("lmn0"), 4)

    mark = MarkMask().copying(0)
    assert f"-A LISPMOB-VIA-{mark:x} -j MARK --set-xmark {mark:#x}/0xffff" in text.rules


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: Rule("calls", copies=3), "'copies' is 1 or 2"),
        (lambda: Rule("calls", copies=0), "'copies' is 1 or 2"),
        (lambda: Rule("calls", via=(Via("a", 1), Via("b", 2)), copies=2), "have no weights"),
        (lambda: Rule("calls", via=(Via("native"),), copies=2), "stands alone"),
        (lambda: Policy((Rule("calls", copies=2),), MarkMask(0x7)), "a mask of more bits"),
        (lambda: Policy(tuple(Rule(f"r{n}", copies=2) for n in range(9))), "at most 8 rules"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(wrong: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        wrong()  # type: ignore[operator]


def test_the_loss_of_one_uplink_of_two_moves_a_flow_to_the_other_alone() -> None:
    policy = Policy((Rule("calls", CALLS, copies=2),))

    found = list(rehearse(policy, (CABLE, WIFI), (WIFI,), [CALL], lambda _flow, _uplinks: None))

    assert [(one.change, one.before, one.after) for one in found] == [
        (FlowChange.MOVES, ("cable0", "wlan0"), ("wlan0",))
    ]
