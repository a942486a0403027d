"""Where our rules are among those of other programs, without a kernel."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.mh.plan import FULL_PRIORITY, GATEWAY_PRIORITY, ROOM, KernelState, KernelUplink, plan
from lispmob.mh.rule import IN_INTERFACE, INVERT, MARK, MARK_MASK, USERS, VRF, Rule
from lispmob.mh.rule_order import Arrangement, Others, RefusingTable, arrange
from lispmob.wire.address import EidPrefix

EID = EidPrefix.parse("10.1.0.1/32")
OVERLAY = ip_network("10.1.0.0/16")
SPLIT = KernelState("lmn0", (EID,), "split", (OVERLAY,))
FULL = KernelState("lmn0", (EID,), "full")
BOTH = KernelState("lmn0", (EID,), "full", (OVERLAY,))
LOCAL, MAIN = Rule(0, 4, 255, is_copy=True), Rule(32766, 4, 254, is_copy=True)
DEFAULT = Rule(32767, 4, 253, is_copy=True)


def their(priority: int, table: int = 77, **more: Any) -> Rule:
    return Rule(priority, 4, table, is_copy=True, **more)


def marked(priority: int, mark: int, mask: int, table: int = 77, **more: Any) -> Rule:
    selectors = ((MARK, struct.pack("=I", mark)), (MARK_MASK, struct.pack("=I", mask)))
    return their(priority, table, selectors=selectors, **more)


def of_users(priority: int, first: int, last: int, **more: Any) -> Rule:
    return their(priority, selectors=((USERS, struct.pack("=II", first, last)),), **more)


def arranged(state: KernelState, *theirs: Rule) -> Arrangement:
    everybody = sorted((LOCAL, *theirs, MAIN, DEFAULT), key=lambda rule: rule.priority)
    return arrange(plan(state).rules, Others(tuple(everybody)))


def entrance(found: Arrangement) -> int:
    """The priority of the first rule that routes our packets, or that looks up the overlay."""
    return min(rule.priority for rule in found.rules if rule.source is not None and not rule.udp_ports)


def looked_up(found: Arrangement, *, before: int) -> list[tuple[int, int | None]]:
    """The lookups (table, suppressed length) of a packet for the overlay until it finds our table, in order."""
    (target,) = {rule.target for rule in found.rules if rule.action == "goto" and rule.source is not None}
    asked = sorted((rule for rule in found.rules if rule.priority >= target), key=lambda rule: rule.priority)
    tables = [(rule.table, rule.suppressed_prefix_len) for rule in asked if rule.action == "lookup"]
    return tables[: next(at for at, (table, _) in enumerate(tables) if table == before)]


@pytest.mark.parametrize("state", [SPLIT, FULL, BOTH])
def test_on_a_host_that_looks_up_main_alone_the_plain_rules_stand(state: KernelState) -> None:
    found = arranged(state)

    assert not any(rule.action == "goto" for rule in found.rules)
    assert max(rule.priority for rule in found.rules) == (4342 if state is SPLIT else FULL_PRIORITY)


def test_a_table_of_another_mesh_behind_us_is_asked_for_what_is_nearer_in_the_order_of_the_rules() -> None:
    found = arranged(FULL, their(5270, 52))

    assert looked_up(found, before=4342) == [(52, 0), (254, 0), (254, 0)]  # main in two halves


def test_a_default_route_in_front_does_not_take_the_overlay() -> None:
    found = arranged(SPLIT, their(1000))

    assert entrance(found) < 1000
    assert looked_up(found, before=4341) == [(77, 16), (254, 16)]
    assert found.ahead == ()


@pytest.mark.parametrize(
    "rule",
    [
        marked(2001, 0x100, 0x3F00),
        of_users(1000, 1000, 1000),
        their(1000, flags=INVERT, selectors=((MARK, struct.pack("=I", 7)),)),
        their(1000, selectors=((IN_INTERFACE, b"lo\0"),)),
        their(1000, source=ip_network("10.0.0.0/8")),
        their(1000, destination=ip_network("10.0.0.0/8")),
        their(1000, 0, action="unreachable"),
        their(1000, 0, action="goto", target=32766),
    ],
    ids=str,
)
def test_no_rule_about_a_wider_prefix_takes_the_overlay_however_it_selects(rule: Rule) -> None:
    assert entrance(arranged(SPLIT, rule)) < rule.priority


@pytest.mark.parametrize(
    "rule",
    [
        their(1000, destination=ip_network("10.1.7.0/24")),
        their(1000, 0, destination=ip_network("10.1.7.0/24"), action="blackhole"),
        their(1000, source=ip_network("198.51.100.7/32")),
        their(1000, destination=ip_network("100.64.0.0/10")),
        their(1000, suppressed_prefix_len=16),
        their(1000, 0, selectors=((VRF, b"\1"),)),
        of_users(1000, 7, 7, action="blackhole"),
    ],
    ids=str,
)
def test_a_rule_about_something_nearer_or_something_else_keeps_its_place_in_front(rule: Rule) -> None:
    assert entrance(arranged(SPLIT, rule)) > rule.priority


@pytest.mark.parametrize(
    ("rule", "copy"),
    [
        (their(5000, destination=ip_network("10.1.7.0/24")), (77, None)),
        (their(5000, destination=ip_network("10.0.0.0/8")), (77, 16)),
        (their(5000, suppressed_prefix_len=24), (77, 24)),
        (their(32000, 255), (255, None)),
        (their(5000, 0, selectors=((VRF, b"\1"),)), (0, None)),
    ],
    ids=str,
)
def test_what_is_behind_us_is_asked_for_what_it_has_that_is_nearer(rule: Rule, copy: tuple[int, int | None]) -> None:
    assert looked_up(arranged(SPLIT, rule), before=4341)[0] == copy


def test_a_user_without_a_network_gets_none_by_us() -> None:
    found = arranged(FULL, of_users(5000, 7, 7, action="unreachable"))

    copies = [rule for rule in found.rules if rule.action == "unreachable"]
    ours = min(rule.priority for rule in found.rules if rule.table == 4342)
    assert min(rule.priority for rule in copies) < ours


def test_in_full_mode_rules_far_in_front_that_select_packets_keep_them_and_those_for_all_packets_do_not() -> None:
    assert entrance(arranged(FULL, marked(1000, 7, 0xFF))) > 1000
    assert entrance(arranged(FULL, their(1000))) < 1000
    assert entrance(arranged(FULL, their(1000, flags=INVERT, selectors=((MARK, struct.pack("=I", 7)),)))) < 1000
    assert entrance(arranged(FULL, marked(FULL_PRIORITY + 1 - ROOM, 7, 0xFF))) < FULL_PRIORITY + 1 - ROOM
    assert entrance(arranged(FULL, marked(FULL_PRIORITY - ROOM, 7, 0xFF))) > FULL_PRIORITY - ROOM


@pytest.mark.parametrize("state", [SPLIT, FULL, BOTH])
@pytest.mark.parametrize("priority", [1, 2, 3, 4])
def test_ours_stand_in_front_of_a_rule_with_one_of_the_first_priorities_and_behind_the_one_of_the_host(
    state: KernelState, priority: int
) -> None:
    found = arranged(state, their(priority))

    assert 1 <= entrance(found) <= priority
    assert min(rule.priority for rule in found.rules) >= 1


def test_a_mark_that_every_packet_gets_selects_none() -> None:
    theirs = (LOCAL, marked(2001, 0x100, 0x3F00), MAIN)

    found = arrange(plan(FULL).rules, Others(theirs, met_by_all=frozenset({(4, 2001)})))

    assert entrance(found) < 2001


def test_copies_stand_behind_what_they_are_copies_of() -> None:
    theirs = (their(1000), their(5270, 52), their(40000, 88))

    found = arranged(BOTH, *theirs)

    copies = [rule.priority for rule in found.rules if rule.is_copy]
    assert min(copies) > 40000
    assert {rule.table for rule in found.rules if rule.is_copy} == {77, 52, 88, 254}


def test_the_copy_of_a_gateway_stays_behind_all_rules() -> None:
    uplink = KernelUplink("eth0", (ip_address("192.0.2.2"),), (ip_address("192.0.2.1"),))
    found = arranged(replace(SPLIT, uplinks=(uplink,)), their(40000, 88))

    last = max(found.rules, key=lambda rule: rule.priority)
    assert (last.device, last.priority > 40000) == ("eth0", True)
    assert GATEWAY_PRIORITY in {rule.priority for rule in arranged(replace(SPLIT, uplinks=(uplink,))).rules}


def test_nested_overlay_prefixes_are_asked_by_the_longest_that_fits() -> None:
    found = arranged(replace(SPLIT, overlay_prefixes=(OVERLAY, ip_network("10.1.4.0/24"))), their(5270, 52))

    doors = sorted(
        (rule.priority, str(rule.destination)) for rule in found.rules if rule.source and rule.action == "goto"
    )
    assert [destination for _, destination in doors] == ["10.1.4.0/24"] * 2 + ["10.1.0.0/16"] * 2
    assert doors[1][0] < doors[2][0]


def test_an_inverted_rule_to_a_table_that_refuses_leads_to_its_nearer_routes_alone() -> None:
    kill_switch = their(100, flags=INVERT, selectors=((MARK, struct.pack("=I", 0xCA6C)),))
    nearer = (ip_network("10.1.7.0/24"), ip_network("10.0.0.0/8"))
    refusing = (RefusingTable(4, 77, nearer),)
    found = arrange(plan(SPLIT).rules, Others((LOCAL, kill_switch, MAIN, DEFAULT), refusing=refusing))

    copies = [rule for rule in found.rules if rule.table == 77]
    [jump] = [rule for rule in found.rules if rule.is_inverted and rule.action == "goto"]
    [near] = [rule for rule in copies if not rule.is_inverted]
    assert (jump.selectors, jump.target) == (kill_switch.selectors, near.priority)
    assert (near.destination, near.selectors, near.suppressed_prefix_len) == (nearer[0], (), None)
    [past] = [rule for rule in found.rules if rule.priority == jump.priority + 1]
    assert (past.action, past.target, past.selectors) == ("goto", near.priority + 1, ())


def test_a_goto_leads_past_a_rule_that_needs_several_priorities() -> None:
    kill_switch = their(200, 66, flags=INVERT, selectors=((MARK, struct.pack("=I", 0xCA6C)),))
    theirs = (LOCAL, marked(100, 1, 1, 0, action="goto", target=300), kill_switch, their(300, 70), MAIN, DEFAULT)
    found = arrange(plan(SPLIT).rules, Others(theirs, refusing=(RefusingTable(4, 66),)))

    gotos = [rule for rule in found.rules if rule.action == "goto" and rule.selector(MARK_MASK)]
    assert [rule.table for goto in gotos for rule in found.rules if rule.priority == goto.target] == [70, 70]


def test_containers_jump_into_the_overlay_part_and_not_into_that_for_everything() -> None:
    guests = ip_network("172.17.0.0/16")
    found = arranged(replace(BOTH, container_networks=(guests,)), their(1000), their(5270, 52))

    entered = [rule.destination for rule in found.rules if rule.source == guests and rule.action == "goto"]
    assert entered == [OVERLAY]


def test_a_rule_about_containers_alone_stays_in_front_of_the_part_for_everything() -> None:
    guests = ip_network("172.17.0.0/16")
    state = replace(BOTH, container_networks=(guests,))
    found = arranged(state, their(4340, source=guests))

    doors = {rule.destination: rule.priority for rule in found.rules if rule.action == "goto" and rule.source}
    assert doors[OVERLAY] < 4340
    assert all(rule.priority > 4340 for rule in found.rules if rule.source == EID.network and rule.table == 4342)


@pytest.mark.parametrize("target", [6500, 9000, 40000])
@pytest.mark.parametrize("state", [SPLIT, FULL])
def test_a_goto_to_a_priority_that_no_rule_has_is_passed_over_as_by_the_kernel(state: KernelState, target: int) -> None:
    lost = their(5000, 0, action="goto", target=target)
    rest = (their(6000, 60), their(7000, 70))

    assert arranged(state, lost, *rest) == arranged(state, *rest)


def test_a_goto_leads_to_the_copy_of_what_it_led_to() -> None:
    theirs = (marked(5000, 1, 1, 0, action="goto", target=7000), their(6000, 60), their(7000, 70))

    found = arranged(FULL, *theirs)

    gotos = [rule for rule in found.rules if rule.action == "goto" and rule.is_copy]
    for goto in gotos:
        (target,) = [rule for rule in found.rules if rule.priority == goto.target]
        assert target.table == 70


def test_a_rule_in_front_of_which_there_is_no_room_is_named() -> None:
    found = arranged(SPLIT, their(1))

    assert [str(rule) for rule in found.ahead] == ["1: lookup 77"]


@pytest.mark.parametrize("last", [900, 4345, 20000])
def test_the_place_of_our_rules_can_be_chosen(last: int) -> None:
    found = arrange(plan(BOTH).rules, Others((LOCAL, MAIN)), last)

    assert max(rule.priority for rule in found.rules) == last


def test_our_tables_can_be_numbered_otherwise() -> None:
    wanted = plan(replace(BOTH, first_table=900))

    assert {route.table for route in wanted.routes} == {901, 902}
    assert {rule.table for rule in wanted.rules} == {901, 902, 254}
