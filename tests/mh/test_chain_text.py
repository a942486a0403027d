from __future__ import annotations

from ipaddress import ip_network

import pytest

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.network_identity import NetworkPattern
from lispmob.mh.chain_text import Arrival, ChainText, Hooks, chain_text, matches
from lispmob.mh.kernel.packet_filter import removal_lines, restore_lines
from lispmob.mh.kernel.xtables import remedy
from lispmob.mh.policy import MarkMask, Policy, Rule, Selector, Uplink, Via
from lispmob.mh.selector import Span

CABLE, WIFI = Uplink("cable0", 2), Uplink("wlan0", 3)
QUEUES = Hooks("lmn0", (Arrival(2, 2), Arrival(3, 3)))


def text(*rules: Rule, family: int = 4, hooks: Hooks = QUEUES, keeps_replies: bool = True) -> ChainText:
    return chain_text(Policy(rules, keeps_replies=keeps_replies).compile((CABLE, WIFI)), hooks, family)


def test_a_rule_becomes_a_jump_to_the_chain_that_sets_its_mark() -> None:
    rule = Rule(
        "web",
        Selector((ip_network("10.2.0.0/16"),), protocols=(6,), destination_ports=(Span(80, 80),)),
        (Via("wlan*"),),
    )

    made = text(rule, keeps_replies=False)

    assert made.rules == (
        "-A LISPMOB-MARK -m mark ! --mark 0x0/0xffff -j RETURN",
        "-A LISPMOB-VIA-3 -j MARK --set-xmark 0x3/0xffff",
        '-A LISPMOB-MARK -d 10.2.0.0/16 -p tcp -m multiport --dports 80 -m comment --comment "web" -g LISPMOB-VIA-3',
        "-A LISPMOB-FORWARD -m mark ! --mark 0x0/0xffff -j RETURN",
        '-A LISPMOB-FORWARD -d 10.2.0.0/16 -p tcp -m multiport --dports 80 -m comment --comment "web" -g LISPMOB-VIA-3',
    )


def test_a_rule_stands_only_in_the_family_and_the_chain_that_can_match_it() -> None:
    ours = Rule("ours", Selector((ip_network("2001:db8::/32"),), users=(Span(5, 5),)), (Via("cable0"),))
    theirs = Rule("theirs", Selector(from_interface="br*"), (Via("cable0"),))

    v4 = [line for line in text(ours, theirs).rules if "comment" in line]
    v6 = [line for line in text(ours, theirs, family=6).rules if "comment" in line]

    assert v4 == ['-A LISPMOB-FORWARD -i br+ -m comment --comment "theirs" -g LISPMOB-VIA-2']
    assert v6[0].startswith("-A LISPMOB-MARK -d 2001:db8::/32 -m owner --uid-owner 5 ")
    assert len(v6) == 2


def test_lists_are_multiplied_and_many_ports_take_several_matches() -> None:
    ports = tuple(Span(port, port) for port in range(1, 21))
    selector = Selector((ip_network("10.2.0.0/16"), ip_network("10.3.0.0/16")), protocols=(6,), destination_ports=ports)

    lines = list(matches(selector, 4))

    assert len(lines) == 4
    assert lines[0].count(",") == 14


def test_each_match_but_the_last_has_as_many_ports_as_fit_and_a_range_takes_two_places() -> None:
    single = tuple(Span(port, port) for port in range(1, 32))
    ranges = tuple(Span(port, port + 1) for port in range(1, 32, 4))

    for ports, expected in ((single, [15, 15, 1]), (ranges, [7, 1])):
        lines = matches(Selector(protocols=(6,), destination_ports=ports), 4)
        assert [line.count(",") + 1 for line in lines] == expected


def test_icmp_is_another_number_in_the_other_family() -> None:
    selector = Selector(protocols=(1, 58))

    assert list(matches(selector, 4)) == ["-p 1 "]
    assert list(matches(selector, 6)) == ["-p 58 "]


def test_a_flow_keeps_the_uplink_that_it_got_at_random() -> None:
    made = text(Rule("rest", via=(Via("cable0", 3), Via("wlan0", 1))), keeps_replies=False)

    spread = [line for line in made.rules if line.startswith("-A LISPMOB-SPREAD-")]
    assert spread == [
        "-A LISPMOB-SPREAD-0 -m connmark --mark 0x2/0xffff -g LISPMOB-VIA-2",
        "-A LISPMOB-SPREAD-0 -m connmark --mark 0x3/0xffff -g LISPMOB-VIA-3",
        "-A LISPMOB-SPREAD-KEEP-2 -j CONNMARK --set-xmark 0x2/0xffff",
        "-A LISPMOB-SPREAD-KEEP-2 -g LISPMOB-VIA-2",
        "-A LISPMOB-SPREAD-0 -m statistic --mode random --probability 0.75000000 -g LISPMOB-SPREAD-KEEP-2",
        "-A LISPMOB-SPREAD-KEEP-3 -j CONNMARK --set-xmark 0x3/0xffff",
        "-A LISPMOB-SPREAD-KEEP-3 -g LISPMOB-VIA-3",
        "-A LISPMOB-SPREAD-0 -g LISPMOB-SPREAD-KEEP-3",
    ]


def test_our_jumps_stand_where_packets_enter_and_leave_the_tun() -> None:
    by_queue = QUEUES.jumps(4)
    by_device = Hooks("lmn0", (Arrival(2, 1),), (ip_network("10.1.0.1/32"), ip_network("2001:db8::/64"))).jumps(4)

    assert by_queue == [
        "-A PREROUTING -i lmn0 -j LISPMOB-CAME-IN",
        "-A FORWARD -o lmn0 -j LISPMOB-FORWARD",
        "-A OUTPUT -o lmn0 -j LISPMOB-MARK",
    ]
    assert by_device == [
        "-A PREROUTING -i lmn0 -j LISPMOB-CAME-IN",
        "-A PREROUTING -s 10.1.0.1/32 -j LISPMOB-ROUTE",
        "-A FORWARD -o lmn0 -j LISPMOB-FORWARD",
        "-A OUTPUT -o lmn0 -j LISPMOB-MARK",
    ]


def test_where_marks_decide_the_route_others_are_marked_before_it_and_dropped_behind_it() -> None:
    hooks = Hooks("lmn0", sources=(ip_network("10.1.0.0/24"),))
    gone = Rule("gone", Selector(protocols=(6,)), (Via("wwan0"),), otherwise="drop")
    kept = Rule("kept", Selector(protocols=(17,)), (Via("wlan0"),))

    made = [
        line.split(" ", 2) for line in text(gone, kept, hooks=hooks, keeps_replies=False).rules if "comment" in line
    ]
    verdicts = {(chain, rest.split()[-2], rest.split()[-1]) for _, chain, rest in made}

    assert {verdict for verdict in verdicts if verdict[0] == "LISPMOB-ROUTE"} == {
        ("LISPMOB-ROUTE", "-j", "RETURN"),
        ("LISPMOB-ROUTE", "-g", "LISPMOB-VIA-3"),
    }
    assert ("LISPMOB-FORWARD", "-j", "DROP") in verdicts


def test_a_rule_about_a_control_group_that_is_not_there_is_left_out_and_named() -> None:
    rule = Rule("job", Selector(cgroup="backup"), (Via("cable0"),))

    made = chain_text(Policy((rule,)).compile((CABLE,)), QUEUES, 4, has_cgroup=lambda _path: False)

    assert made.skipped == ("job",)
    assert not any("cgroup" in line for line in made.rules)


def test_bits_of_others_are_never_touched() -> None:
    rules = Policy((Rule("all", via=(Via("cable0", 1), Via("wlan0", 1))),), MarkMask(0x00FF0000))

    made = chain_text(rules.compile((CABLE, WIFI)), QUEUES, 4)

    assert all(line.endswith("/0xff0000") for line in made.rules if "set-xmark" in line)


def test_a_change_leaves_the_jumps_where_they_stand_and_the_rules_of_other_programs_alone() -> None:
    present = [
        "*mangle",
        ":OUTPUT ACCEPT [0:0]",
        ":LISPMOB-MARK - [0:0]",
        ":LISPMOB-VIA-9 - [0:0]",
        ":DOCKER - [0:0]",
        "-A OUTPUT -d 10.0.1.2/32 -j MARK --set-xmark 0x2/0xffffffff",
        "-A OUTPUT -o lmn0 -j LISPMOB-MARK",
        "-A OUTPUT -o old0 -j LISPMOB-MARK",
        "-A LISPMOB-MARK -g LISPMOB-VIA-9",
        "COMMIT",
    ]

    lines = restore_lines(present, text(keeps_replies=False, hooks=Hooks("lmn0")))

    assert ":LISPMOB-VIA-9 - [0:0]" in lines
    assert lines[-1] == "-X LISPMOB-VIA-9"
    assert "-D OUTPUT -o old0 -j LISPMOB-MARK" in lines
    assert "-A OUTPUT -o lmn0 -j LISPMOB-MARK" not in lines
    assert not any("DOCKER" in line or "10.0.1.2" in line for line in lines)


def test_removal_takes_all_of_ours_and_nothing_else() -> None:
    present = [":LISPMOB-MARK - [0:0]", ":X - [0:0]", "-A OUTPUT -o lmn0 -j LISPMOB-MARK", "-A X -j MARK --set-mark 1"]

    assert removal_lines(present) == [
        ":LISPMOB-MARK - [0:0]",
        "-D OUTPUT -o lmn0 -j LISPMOB-MARK",
        "-X LISPMOB-MARK",
    ]
    assert removal_lines([":X - [0:0]"]) == []


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        (
            "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set: Permission denied (you must be root)",
            "CAP_NET_ADMIN",
        ),
        ("Another app is currently holding the xtables lock; still -9s 0us time ahead", "lock"),
        ("line 2: RULE_APPEND failed (Invalid argument): rule in chain X", "kernel lacks a match"),
        ("Couldn't load match `cgroup':No such file or directory", "extension"),
    ],
)
def test_a_refusal_says_what_would_help(said: str, helps: str) -> None:
    refusal = KernelRefused(remedy("iptables-restore", said, "*mangle\n-A X -m cgroup\nCOMMIT\n"))

    assert helps in str(refusal)
    assert ("-A X -m cgroup" in str(refusal)) == ("line 2" in said)


def test_a_program_has_a_line_for_each_control_group_that_it_runs_in_and_none_while_it_does_not_run() -> None:
    rule = Rule("web", Selector(app="firefox"), (Via("wlan0"),))
    compiled = Policy((rule,), keeps_replies=False).compile((CABLE, WIFI))
    running = {"firefox": ("user.slice/app-a-1.scope", "user.slice/app-b-2.scope")}

    made = chain_text(compiled, QUEUES, 4, cgroups_of_app=running.__getitem__)
    off = chain_text(compiled, QUEUES, 4)

    lines = [line for line in made.rules if "cgroup" in line]
    assert [line.split("--path ")[1].split()[0] for line in lines] == list(running["firefox"])
    assert (made.skipped, off.skipped) == ((), ("web",))
    assert not [line for line in off.rules if "comment" in line]


def test_native_packets_are_marked_only_where_they_are_routed_again() -> None:
    made = text(Rule("games", via=(Via("native"),)), keeps_replies=False)

    assert "-A LISPMOB-VIA-fffe -j MARK --set-xmark 0xfffe/0xffff" in made.rules
    assert '-A LISPMOB-MARK -m comment --comment "games" -g LISPMOB-VIA-fffe' in made.rules
    assert '-A LISPMOB-FORWARD -m comment --comment "games" -j RETURN' in made.rules


def test_a_rule_of_another_network_is_not_told_to_the_kernel() -> None:
    made = text(Rule("at home", via=(Via("wlan0"),), networks=(NetworkPattern.parse("Home"),)))

    assert not [line for line in made.rules if "comment" in line]


def test_a_flow_that_others_begin_is_stored_with_the_uplink_of_the_queue_that_it_came_by() -> None:
    unmarked = Arrival(0, 7)
    hooks = Hooks("lmn0", (*QUEUES.arrivals, unmarked))

    stored = [line for line in text(hooks=hooks).rules if "CONNMARK --set-xmark" in line and "-i lmn0" in line]

    assert [line.rpartition(" ")[2] for line in stored] == ["0x2/0xffff", "0x3/0xffff"]
