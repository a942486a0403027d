"""By which uplink a flow to a name leaves: wishes of programs, rules, classes. No kernel, no clock."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.mh.chain_text import Hooks, chain_text
from lispmob.mh.flow_marks import FlowMarks, FlowWish, UplinkFigures, nowhere
from lispmob.mh.policy import Policy, Rule, Uplink, Via
from lispmob.mh.selector import Flow, Selector, Span

CABLE, RADIO, LTE = 2, 3, 4
NAMES = {CABLE: "eth0", RADIO: "wlan0", LTE: "wwan0"}
UPLINKS = (Uplink("eth0", CABLE, 1), Uplink("wlan0", RADIO, 2), Uplink("wwan0", LTE, 3, is_metered=True))


def flow(name: str = "voice.nas", flow_class: str = "default", **facts: object) -> Flow:
    ends = ip_address("10.99.0.1"), ip_address("10.99.0.2")
    wanted = {"source_port": 50000, "destination_port": 40001, "flow_name": name, "flow_class": flow_class, **facts}
    return Flow(*ends, 17, **wanted)  # type: ignore[arg-type]


def figures(**rtts_ms: float) -> list[UplinkFigures]:
    """Round trips by name; an uplink that is left out is not measured."""
    return [UplinkFigures(up.name, up.ifindex, up.is_metered, rtt_ms=rtts_ms.get(up.name)) for up in UPLINKS]


def marked(
    wish: FlowWish,
    *rules: Rule,
    known: list[UplinkFigures] | None = None,
    without: tuple[int, ...] = (),
    **policy: object,
) -> str:
    """The uplink of a flow's mark; "" for none, "nowhere"."""
    there = [up for up in UPLINKS if up.ifindex not in without]
    compiled = Policy(rules, **policy).compile(there)  # type: ignore[arg-type]
    present = [figure for figure in known or figures() if figure.ifindex not in without]
    mark = FlowMarks().mark(compiled, wish, present, 0.0)
    return "nowhere" if mark == nowhere(compiled) else NAMES[mark] if mark else ""


def rule(via: str | None = "wlan0", **selector: object) -> Rule:
    otherwise = selector.pop("otherwise", "fallback")
    vias = (Via(via),) if via else ()
    return Rule(f"to {via}", Selector(**selector), vias, otherwise=otherwise)  # type: ignore[arg-type]


def test_without_a_wish_a_rule_or_a_class_priority_and_weight_decide() -> None:
    assert marked(FlowWish(flow())) == ""


def test_the_uplinks_that_a_program_names_come_before_all_rules() -> None:
    wish = FlowWish(flow(), via=("wwan*", "wlan0"))

    assert marked(wish, rule("eth0", flow_name="*")) == "wwan0"
    assert marked(wish, rule("eth0", flow_name="*"), without=(LTE,)) == "wlan0"
    assert marked(wish, without=(LTE, RADIO)) == ""
    assert marked(replace(wish, is_only=True), without=(LTE, RADIO)) == "nowhere"


@pytest.mark.parametrize(
    ("selector", "is_matched"),
    [
        ({"flow_name": "voice*"}, True), ({"flow_name": "*.nas"}, True), ({"flow_name": "video*"}, False),
        ({"flow_classes": ("video", "voice")}, True), ({"flow_classes": ("bulk",)}, False),
        ({"flow_name": "voice*", "flow_classes": ("bulk",)}, False),
        ({"flow_name": "*", "users": (Span(1000, 1000),)}, True), ({"flow_name": "*", "users": (Span(7, 7),)}, False),
        ({"dscp": (46,)}, True), ({"protocols": (6,)}, False),
        ({"protocols": (17,), "destination_ports": (Span(40001, 40001),)}, True),
        ({"flow_name": "*", "cgroup": "system.slice"}, False),
    ],
)  # fmt: skip
def test_the_first_rule_that_matches_decides_whatever_it_is_about(
    selector: dict[str, object], is_matched: bool
) -> None:
    wish = FlowWish(flow(flow_class="voice", dscp=46, uid=1000))

    assert marked(wish, rule("wlan0", **selector), rule("wwan0")) == ("wlan0" if is_matched else "wwan0")


def test_a_rule_about_flows_matches_no_other_packet_and_is_not_told_to_the_kernel() -> None:
    about, other = rule("wlan0", flow_name="*"), rule("wwan0", flow_classes=("voice",))
    compiled = Policy((about, other)).compile(UPLINKS)
    plain = replace(flow(), flow_name=None, flow_class=None)

    decision = compiled.evaluate(plain)

    assert decision.rule is None
    assert "the flow is no flow to a name" in decision.steps[1]
    assert not compiled.policy.has_kernel_rules
    assert not any("wlan0" in line or "mark 0x3" in line for line in chain_text(compiled, Hooks("lmn0"), 4).rules)


def test_a_rule_that_drops_flows_needs_marks_that_drop() -> None:
    drops = rule("tun-office", flow_name="*", otherwise="drop")

    assert marked(FlowWish(flow()), drops, unusable_mark="drop") == "nowhere"
    with pytest.raises(ValueError, match="needs 'unusable-mark: drop'"):
        Policy((drops,))


def test_what_a_rule_for_all_packets_drops_is_left_to_the_chains() -> None:
    assert marked(FlowWish(flow()), rule("tun-office", protocols=(17,), otherwise="drop")) == ""


def test_a_rule_whose_uplink_is_away_falls_back_unless_the_flow_would_rather_be_dropped() -> None:
    away = rule("tun-office", flow_name="*")

    assert marked(FlowWish(flow())) == marked(FlowWish(flow()), away) == ""
    assert marked(FlowWish(flow(), is_only=True), away) == "nowhere"


def test_flows_of_a_rule_with_weights_are_shared_and_stay() -> None:
    shares = Rule("shares", Selector(flow_name="*"), (Via("eth0", 3), Via("wlan0", 1)))
    places = [marked(FlowWish(flow(source_port=port)), shares) for port in range(40000, 40400)]
    kept = FlowWish(flow(source_port=40000, kept_by=RADIO), former=RADIO)

    assert 0.6 < places.count("eth0") / 400 < 0.9
    assert set(places) == {"eth0", "wlan0"}
    assert marked(kept, shares) == "wlan0"
    assert marked(kept, shares, without=(RADIO,)) == "eth0"


# --- classes


@pytest.mark.parametrize("flow_class", ["voice", "video", "interactive"])
def test_a_class_that_minds_delay_takes_the_quickest_uplink_whatever_its_priority(flow_class: str) -> None:
    assert marked(FlowWish(flow(flow_class=flow_class)), known=figures(eth0=80, wlan0=20)) == "wlan0"


@pytest.mark.parametrize("flow_class", ["default", "bulk", "unheard-of"])
def test_the_other_classes_have_no_preference(flow_class: str) -> None:
    assert marked(FlowWish(flow(flow_class=flow_class)), known=figures(eth0=80, wlan0=20)) == ""


@pytest.mark.parametrize("known", [{}, {"eth0": 80.0}, {"wwan0": 1.0}])
def test_a_class_without_two_measured_uplinks_has_no_preference(known: dict[str, float]) -> None:
    assert marked(FlowWish(flow(flow_class="voice")), known=figures(**known)) == ""


def test_what_costs_by_volume_is_preferred_by_no_class_while_there_is_something_else() -> None:
    assert marked(FlowWish(flow(flow_class="voice")), known=figures(eth0=80, wlan0=60, wwan0=1)) == "wlan0"


def test_voice_takes_little_loss_before_little_delay() -> None:
    eth, wlan, _ = figures(eth0=80, wlan0=20)
    lossy = [replace(eth, loss=0.0), replace(wlan, loss=0.08)]

    assert marked(FlowWish(flow(flow_class="voice")), known=lossy) == "eth0"
    assert marked(FlowWish(flow(flow_class="video")), known=lossy) == "wlan0"
    assert marked(FlowWish(flow(flow_class="voice")), known=[lossy[0], replace(lossy[1], loss=0.01)]) == "wlan0"


def test_background_takes_the_cheapest_uplink_where_they_differ() -> None:
    same = figures()
    dear = [replace(same[0], cost=10), replace(same[1], cost=1)]

    assert marked(FlowWish(flow(flow_class="background")), known=same) == ""
    assert marked(FlowWish(flow(flow_class="background")), known=dear) == "wlan0"


def test_a_class_changes_its_uplink_only_for_one_that_is_clearly_better_for_some_time() -> None:
    marks, compiled = FlowMarks(), Policy().compile(UPLINKS)
    wish = FlowWish(flow(flow_class="voice"))

    def choose(now: float, **rtts_ms: float) -> str:
        return NAMES[marks.mark(compiled, wish, figures(**rtts_ms), now)]

    assert choose(0.0, eth0=20, wlan0=40) == "eth0"
    assert choose(1.0, eth0=20, wlan0=18) == "eth0"
    assert choose(2.0, eth0=80, wlan0=18) == "eth0"
    assert choose(20.0, eth0=80, wlan0=18) == "wlan0"


def test_a_cheap_flow_leaves_by_no_metered_uplink_while_there_is_another_one() -> None:
    cheap = FlowWish(flow(), is_cheap=True)
    known = figures(eth0=80, wwan0=1)

    assert marked(cheap, known=known) == "eth0"
    assert marked(replace(cheap, via=("*",)), known=known) == "eth0"
    assert marked(cheap, without=(LTE,), known=known) == ""
    assert marked(cheap, without=(CABLE, RADIO), known=known) == ""
    assert marked(replace(cheap, is_only=True), without=(CABLE, RADIO), known=known) == "nowhere"
