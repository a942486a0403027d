from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.iface_monitor.network_identity import Network, NetworkPattern
from lispmob.mh.app_unit import is_app
from lispmob.mh.policy import Flow, MarkMask, Outcome, Policy, Rule, Selector, Uplink, Verdict, Via
from lispmob.mh.rehearsal import FlowChange, rehearse
from lispmob.mh.selector import Span

CABLE = Uplink("cable0", 2, priority=1)
WIFI = Uplink("wlan0", 3, priority=2)
LTE = Uplink("wwan0", 4, priority=3, is_metered=True)
ALL = (CABLE, WIFI, LTE)

VIDEO = Rule("video", Selector(protocols=(17,), destination_ports=(Span(5000, 6000),)), (Via("cable0"), Via("wlan*")))
BACKUP = Rule("backup", Selector(users=(Span(34, 34),)), may_cost=False, otherwise="drop")
REST = Rule("rest", via=(Via("cable0", 3), Via("wlan*", 1)))


def flow(destination: str = "10.2.0.1", **given: Any) -> Flow:
    return Flow(ip_address("10.1.0.1"), ip_address(destination), **given)


CALL = flow(protocol=17, destination_port=5004)


def test_a_rule_sends_its_flows_by_the_first_of_its_uplinks_that_is_there() -> None:
    policy = Policy((VIDEO,))

    by_cable = policy.compile(ALL).evaluate(CALL)
    by_wifi = policy.compile((WIFI, LTE)).evaluate(CALL)
    by_none = policy.compile((LTE,)).evaluate(CALL)

    assert (by_cable.outcome, by_cable.mark, by_cable.uplinks) == (Outcome.UPLINK, 2, ("cable0",))
    assert (by_wifi.outcome, by_wifi.mark, by_wifi.uplinks) == (Outcome.UPLINK, 3, ("wlan0",))
    assert by_none.outcome is Outcome.DEFAULT


def test_a_rule_follows_its_uplink_to_a_new_ifindex() -> None:
    policy = Policy((VIDEO,))

    replugged = policy.compile((Uplink("cable0", 77),)).evaluate(CALL)

    assert replugged.mark == 77


def test_what_must_not_cost_stays_off_metered_uplinks_and_waits_if_it_says_so() -> None:
    policy = Policy((BACKUP,))
    backup = flow(uid=34)

    assert policy.compile(ALL).evaluate(backup).uplinks == ("cable0",)
    assert policy.compile((LTE,)).evaluate(backup).outcome is Outcome.DROP


def test_weights_spread_new_flows_over_what_is_there() -> None:
    policy = Policy((REST,))

    both, one = policy.compile(ALL).rules[0], policy.compile((WIFI,)).rules[0]

    assert both.verdict is Verdict.SPREAD
    assert [(share.mark, share.weight) for share in both.shares] == [(2, 3), (3, 1)]
    assert one.verdict is Verdict.MARK


def test_the_first_rule_that_matches_decides() -> None:
    first = Rule("first", via=(Via("wlan0"),))

    decision = Policy((first, VIDEO)).compile(ALL).evaluate(CALL)

    assert decision.rule == "first"


def test_a_mark_that_is_there_already_wins_over_every_rule() -> None:
    decision = Policy((VIDEO,)).compile(ALL).evaluate(flow(protocol=17, destination_port=5004, mark=4))

    assert decision.uplinks == ("wwan0",)
    assert decision.rule is None


@pytest.mark.parametrize(("unusable", "outcome"), [("fallback", Outcome.DEFAULT), ("drop", Outcome.DROP)])
def test_a_mark_without_an_uplink_follows_the_stated_policy(unusable: str, outcome: Outcome) -> None:
    policy = Policy(unusable_mark="drop" if unusable == "drop" else "fallback")

    assert policy.compile(ALL).evaluate(flow(mark=9)).outcome is outcome


def test_bits_outside_the_mask_belong_to_other_programs() -> None:
    policy = Policy(mask=MarkMask(0x00FF0000))
    compiled = policy.compile(ALL)

    assert compiled.evaluate(flow(mark=0xCA6C)).outcome is Outcome.DEFAULT
    assert compiled.evaluate(flow(mark=0x0003CA6C)).uplinks == ("wlan0",)
    assert policy.mask.mark(3) == 0x00030000


def test_an_uplink_whose_ifindex_does_not_fit_the_mask_is_no_target() -> None:
    compiled = Policy((VIDEO,), MarkMask(0xF)).compile((Uplink("cable0", 16), WIFI))

    assert compiled.evaluate(CALL).uplinks == ("wlan0",)


@pytest.mark.parametrize("bits", [0, -1, 0b101, 1 << 32])
def test_a_mask_has_adjacent_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="adjacent"):
        MarkMask(bits)


def test_a_reply_leaves_by_the_uplink_that_its_flow_came_in_by_while_it_is_there() -> None:
    answer = flow(came_in_by=3, protocol=17, destination_port=5004)
    policy = Policy((VIDEO,))

    assert policy.compile(ALL).evaluate(answer).uplinks == ("wlan0",)
    assert policy.compile((CABLE, LTE)).evaluate(answer).uplinks == ("cable0",)
    assert Policy((VIDEO,), keeps_replies=False).compile(ALL).evaluate(answer).uplinks == ("cable0",)


def test_every_step_of_a_decision_is_told() -> None:
    decision = Policy((BACKUP, VIDEO)).compile(ALL).evaluate(CALL)

    assert decision.steps == (
        "the packet has none of our marks",
        "rule 'backup' does not match: the flow is of user None",
        "rule 'video' matches",
        "mark 0x2 names cable0 (ifindex 2)",
    )


@pytest.mark.parametrize(
    ("selector", "fitting", "other"),
    [
        (Selector(destinations=(ip_network("10.2.0.0/16"),)), flow(), flow("10.3.0.1")),
        (Selector(sources=(ip_network("10.1.0.1/32"),)), flow(), Flow(ip_address("10.9.0.1"), ip_address("10.2.0.1"))),
        (Selector(protocols=(6, 17)), flow(protocol=17), flow(protocol=1)),
        (Selector(protocols=(6,), source_ports=(Span(22, 22),)), flow(source_port=22), flow(source_port=23)),
        (Selector(dscp=(46,)), flow(dscp=46), flow()),
        (Selector(groups=(Span(1000, 1999),)), flow(gid=1500), flow(gid=2000)),
    ],
)
def test_each_part_of_a_selector_selects(selector: Selector, fitting: Flow, other: Flow) -> None:
    assert selector.mismatch(fitting) is None
    assert selector.mismatch(other) is not None


def test_a_control_group_holds_for_what_is_below_it() -> None:
    selector = Selector(cgroup="user.slice/backup")
    source, destination = ip_address("10.1.0.1"), ip_address("10.2.0.1")

    assert selector.mismatch(Flow(source, destination, cgroup="/user.slice/backup/job1")) is None
    assert selector.mismatch(Flow(source, destination, cgroup="/user.slice/backup2")) is not None


def test_an_interface_of_origin_selects_forwarded_packets_only() -> None:
    selector = Selector(from_interface="br-*")
    source, destination = ip_address("10.1.0.1"), ip_address("10.2.0.1")

    assert selector.mismatch(Flow(source, destination, from_interface="br-lan")) is None
    assert selector.mismatch(Flow(source, destination, from_interface="eth0")) is not None
    assert selector.mismatch(Flow(source, destination)) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"destination_ports": (Span(80, 80),)},
        {"destination_ports": (Span(80, 80),), "protocols": (1,)},
        {"protocols": (256,)},
        {"protocols": (6,), "destination_ports": (Span(9, 8),)},
        {"protocols": (6,), "destination_ports": (Span(65535, 65536),)},
        {"users": (Span(4294967295, 4294967295),)},
        {"groups": (Span(-1, 0),)},
        {"dscp": (64,)},
        {"from_interface": "eth0; reboot"},
        {"from_interface": "eth?"},
        {"cgroup": "../../etc"},
        {"cgroup": 'a" -j ACCEPT'},
        {"from_interface": "eth0", "users": (Span(1, 1),)},
        {"dscp": tuple(range(64)), "users": tuple(Span(uid, uid) for uid in range(65))},
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".{20}"):
        Selector(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "largest",
    [
        {"protocols": (255,)},
        {"protocols": (6,), "destination_ports": (Span(65535, 65535),)},
        {"users": (Span(0, 4294967294),)},
        {"dscp": (0, 63)},
    ],
)
def test_the_largest_number_of_each_kind_can_be_chosen(largest: dict[str, object]) -> None:
    assert Selector(**largest).families() == (4, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", 'a" -j DROP', "a\nCOMMIT", "x" * 65])
def test_a_rules_name_cannot_break_out_of_its_comment(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Rule(name)


def test_a_policy_has_a_bounded_size_and_no_name_twice() -> None:
    many = Selector(dscp=tuple(range(64)), users=tuple(Span(uid, uid) for uid in range(64)))

    with pytest.raises(ValueError, match="36864 combinations: 32768 at most"):
        Policy(tuple(Rule(f"r{number}", many) for number in range(9)))
    with pytest.raises(ValueError, match="two rules have the name 'video'"):
        Policy((VIDEO, VIDEO))


def test_a_rehearsal_says_which_flows_move_break_and_stay() -> None:
    policy = Policy((VIDEO, BACKUP))

    def default(_flow: Flow, uplinks: tuple[Uplink, ...]) -> str | None:
        return uplinks[-1].name if uplinks else None

    told = list(rehearse(policy, ALL, (LTE,), [CALL, flow(uid=34), flow(uid=1)], default))

    assert [(rehearsed.change, rehearsed.before, rehearsed.after) for rehearsed in told] == [
        (FlowChange.MOVES, ("cable0",), ("wwan0",)),
        (FlowChange.BREAKS, ("cable0",), ()),
        (FlowChange.STAYS, ("wwan0",), ("wwan0",)),
    ]
    assert told[1].steps[-1].endswith("drop")


uplinks = st.lists(
    st.builds(
        Uplink,
        st.sampled_from(["cable0", "wlan0", "wlan1", "wwan0"]),
        st.integers(1, 70000),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=5,
    unique_by=(lambda one: one.name, lambda one: one.ifindex),
)


@given(uplinks, st.integers(0, 0xFFFFFFFF))
def test_whatever_the_uplinks_are_a_decision_names_only_those_that_are_there(present: list[Uplink], mark: int) -> None:
    compiled = Policy((VIDEO, BACKUP, REST)).compile(present)

    for one in (CALL, flow(uid=34), flow(), flow(mark=mark)):
        decision = compiled.evaluate(one)
        assert set(decision.uplinks) <= {uplink.name for uplink in present}
        assert bool(decision.uplinks) == (decision.outcome is Outcome.UPLINK)
        assert decision.steps


HOME = NetworkPattern.parse("Home")


def test_a_rule_about_a_network_holds_only_while_an_uplink_is_in_it() -> None:
    policy = Policy((Rule("at home", via=(Via("wlan0"),), networks=(HOME,)),))
    at_home = replace(WIFI, network=Network(ssid="Home"))

    away, home = policy.compile(ALL), policy.compile((CABLE, at_home))

    assert (away.evaluate(CALL).outcome, home.evaluate(CALL).uplinks) == (Outcome.DEFAULT, ("wlan0",))
    assert "does not hold now: no uplink is in the network Home" in " ".join(away.evaluate(CALL).steps)


def test_what_leaves_natively_has_a_mark_that_names_no_uplink() -> None:
    policy = Policy((Rule("games", via=(Via("native"),)),))

    decision = policy.compile(ALL).evaluate(CALL)
    forwarded = policy.compile(ALL).evaluate(flow(from_interface="br0"))

    assert (decision.outcome, decision.mark) == (Outcome.NATIVE, 0xFFFE)
    assert policy.mask.mark(0xFFFE) == 0
    assert policy.compile(ALL).evaluate(flow(mark=0xFFFE)).outcome is Outcome.NATIVE
    assert forwarded.outcome is Outcome.DEFAULT


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"via": (Via("native"), Via("eth0"))}, "stands alone"),
        ({"via": (Via("native"),), "otherwise": "drop"}, "stands alone"),
        ({"via": (Via("native"),), "selector": Selector(flow_name="x")}, "flows to names"),
        ({"via": (Via("native"),), "selector": Selector(from_interface="br0")}, "own packets"),
    ],
)
def test_a_native_rule_that_cannot_be_is_refused_with_the_reason(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule("odd", **given)


def test_a_mask_of_one_bit_has_no_room_for_native() -> None:
    with pytest.raises(ValueError, match="two bits"):
        Policy((Rule("games", via=(Via("native"),)),), MarkMask(0x100))


@pytest.mark.parametrize(
    ("unit", "pattern", "is_it"),
    [
        ("app-gnome-org.mozilla.firefox-4711.scope", "firefox", True),
        ("app-gnome-org.mozilla.firefox-4711.scope", "org.mozilla.firefox.desktop", True),
        ("app-org.kde.konsole@0815.service", "Konsole", True),
        (r"app-gnome-firefox\x2desr-99.scope", "firefox-esr", True),
        (r"app-gnome-firefox\x2desr-99.scope", "firefox*", True),
        ("app-flatpak-org.gnome.Epiphany-1.scope", "epiphany", True),
        ("snap.firefox.firefox-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f.scope", "firefox", True),
        ("syncthing.service", "syncthing", True),
        ("app-gnome-org.mozilla.firefox-4711.scope", "fire", False),
        ("session-3.scope", "session*", False),
        ("app-.scope", "*", False),
    ],
)
def test_a_program_is_known_by_the_unit_that_its_desktop_starts_it_in(unit: str, pattern: str, is_it: bool) -> None:
    selector = Selector(app=pattern)
    source = ip_address("10.1.0.1")

    of_unit = Flow(source, source, cgroup=f"/user.slice/user-1000.slice/{unit}/below")

    assert is_app(unit, pattern) is is_it
    assert (selector.mismatch(of_unit) is None) is is_it


@pytest.mark.parametrize("app", ["", 'fire" -j ACCEPT', "/usr/bin/firefox", "a b"])
def test_a_program_that_could_not_be_written_into_a_rule_is_refused(app: str) -> None:
    with pytest.raises(ValueError, match="name of a program"):
        Selector(app=app)


def test_marks_of_no_current_uplink_are_not_usable_and_bits_of_others_do_not_count() -> None:
    compiled = Policy((VIDEO,), mask=MarkMask(0xFF00)).compile((CABLE, WIFI))
    mark = compiled.evaluate(CALL).mark

    assert mark & 0xFF00 == mark != 0
    assert [compiled.usable(one) for one in (0, 0x0001, mark, mark | 0x0001)] == [True] * 4
    assert not compiled.usable(0x7700)
