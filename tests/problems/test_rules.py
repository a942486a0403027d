"""Evidence in, problems out: each state that a user may meet has a sentence of its own."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.control.diagnosis import Finding
from lispmob.problems.evidence import (
    AddressEvidence,
    DetourEvidence,
    DuplicateAddress,
    Evidence,
    FilteredEvidence,
    InsideEvidence,
    NameEvidence,
    NarrowEvidence,
    OwnEidEvidence,
    PeerEvidence,
    RefusedEvidence,
    RegistrationEvidence,
    SpoiledEvidence,
    UnusedInterface,
)
from lispmob.problems.problem import Problem, Severity, headline, verdict
from lispmob.problems.rules import problems_of

EID, OTHER_EID, SERVER, OTHER = "10.99.0.1/32", "2001:db8:99::1/128", "198.51.100.1", "198.51.100.2"
WIFI = AddressEvidence("wlan0", "192.0.2.7")
STANDS = RegistrationEvidence(EID, SERVER, stands=True)
OPEN = RegistrationEvidence(EID, SERVER, tries=4)
FINE = Evidence(families=frozenset({4}), addresses=(WIFI,), registrations=(STANDS,))


def of(*registrations: RegistrationEvidence, **more: object) -> tuple[Problem, ...]:
    return problems_of(replace(FINE, registrations=registrations, **more))


def keys(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.key for problem in problems]


def test_a_node_that_is_registered_has_no_problem() -> None:
    assert problems_of(FINE) == ()


@pytest.mark.parametrize(
    ("finding", "key", "what"),
    [
        (Finding.KNOWS_EID, "wrong-key", "Map-Server 198.51.100.1 has another key for 10.99.0.1/32"),
        (Finding.NO_SITE, "no-such-site", "Map-Server 198.51.100.1 has no site for 10.99.0.1/32"),
        (Finding.PORT_CLOSED, "nobody-listens", "198.51.100.1 runs no Map-Server"),
        (Finding.UNREACHABLE, "unreachable", "Map-Server 198.51.100.1 is not reached"),
        (Finding.PROHIBITED, "unreachable", "Map-Server 198.51.100.1 is not reached"),
        (Finding.REFUSED_HERE, "sending-refused", "this host's firewall stops packets to Map-Server 198.51.100.1"),
        (Finding.SILENT, "no-answer", "no answer from Map-Server 198.51.100.1"),
    ],
)
def test_each_finding_is_one_cause_and_never_a_list_of_guesses(finding: Finding, key: str, what: str) -> None:
    (problem,) = of(replace(OPEN, finding=finding))

    assert (problem.key, problem.severity, problem.what) == (key, Severity.BROKEN, what)
    assert problem.cause
    assert problem.remedy
    assert headline((problem,)) == f"not working: {what}"


def test_a_map_server_inside_of_the_network_of_an_uplink_is_looked_for_there() -> None:
    around = "198.51.0.0/16, the network of eth1"

    (problem,) = of(replace(OPEN, finding=Finding.UNREACHABLE, on_link=around))

    assert problem.what == "Map-Server 198.51.100.1 is not reached"
    assert around in problem.cause


@pytest.mark.parametrize("finding", [finding for finding in Finding if finding is not Finding.UNREACHABLE])
def test_a_map_server_on_the_link_about_which_the_kernel_says_nothing_is_told_of_as_any_other(finding: Finding) -> None:
    assert of(replace(OPEN, finding=finding, on_link="a network")) == of(replace(OPEN, finding=finding))


@pytest.mark.parametrize("tries", [0, 1])
def test_one_lost_answer_is_no_problem(tries: int) -> None:
    assert of(replace(OPEN, tries=tries, ever=True, finding=Finding.SILENT)) == ()


def test_while_the_reason_is_being_found_out_none_is_said_for_a_few_seconds() -> None:
    assert keys(of(replace(OPEN, tries=2))) == ["starting"]
    assert keys(of(replace(OPEN, tries=3))) == ["no-answer"]
    assert of(replace(STANDS, tries=2)) == ()


@pytest.mark.parametrize("tries", [0, 1, 2])
def test_before_the_first_confirmation_nothing_is_called_working(tries: int) -> None:
    found = of(replace(OPEN, tries=tries), replace(OPEN, eid=OTHER_EID, tries=tries))

    assert headline(found) == "not working: lispd is registering"


def test_one_confirmation_is_enough_to_be_working_and_an_earlier_one_too() -> None:
    first = replace(OPEN, tries=1)

    assert of(STANDS, replace(first, eid=OTHER_EID)) == ()
    assert of(replace(first, ever=True)) == ()


def test_a_reason_takes_the_place_of_the_word_that_lispd_is_registering() -> None:
    assert keys(of(replace(OPEN, tries=1), addresses=(replace(WIFI, stranded="no RTR"),))) == ["no-rtr"]
    assert keys(of(OPEN, families=frozenset(), addresses=())) == ["offline"]
    assert keys(of(replace(OPEN, tries=1), is_starting=True)) == ["starting"]


def test_without_a_map_server_there_is_nothing_to_wait_for() -> None:
    assert of() == ()


@pytest.mark.parametrize("finding", [Finding.PORT_CLOSED, Finding.SILENT, Finding.KNOWS_EID])
def test_a_family_that_is_missing_comes_after_the_map_server_that_could_be_reached(finding: Finding) -> None:
    resting = RegistrationEvidence(EID, "2001:db8::1", is_resting=True)

    found = of(resting, replace(OPEN, tries=9, finding=finding))

    assert len(found) == 2
    assert found[1].key == "no-address-of-family"
    assert keys(of(resting, replace(OPEN, tries=1)))[0] == "starting"


def test_old_nonces_are_not_called_a_wrong_key_while_the_registration_stands() -> None:
    refreshing = replace(STANDS, ever=True, finding=Finding.KNOWS_EID)

    assert of(replace(refreshing, tries=4)) == ()
    assert keys(of(replace(refreshing, tries=5))) == ["wrong-key"]
    assert keys(of(replace(refreshing, tries=2, stands=False))) == ["wrong-key"]


def test_a_map_server_that_was_there_and_is_gone_degrades_while_it_still_has_us() -> None:
    (problem,) = of(replace(STANDS, tries=5, finding=Finding.SILENT))

    assert (problem.key, problem.severity) == ("no-answer", Severity.DEGRADED)
    assert problem.cause.startswith("since its last confirmation")


def test_one_of_two_map_servers_that_is_silent_degrades() -> None:
    found = of(STANDS, RegistrationEvidence(EID, OTHER, tries=9, finding=Finding.PORT_CLOSED))

    assert keys(found) == ["nobody-listens"]
    assert verdict(found) == "degraded"


def test_one_of_two_eids_that_the_map_server_does_not_take_degrades() -> None:
    found = of(STANDS, RegistrationEvidence(OTHER_EID, SERVER, tries=9, finding=Finding.NO_SITE))

    assert keys(found) == ["no-such-site"]
    assert verdict(found) == "degraded"


def test_a_dead_map_server_is_one_problem_however_many_eids_there_are() -> None:
    found = of(*(replace(OPEN, eid=eid, finding=Finding.SILENT) for eid in (EID, OTHER_EID)))

    assert keys(found) == ["no-answer"]


def test_a_map_notify_with_another_mac_is_a_wrong_key() -> None:
    assert keys(of(replace(OPEN, refusal="Map-Notify refused: the digest differs"))) == ["wrong-key"]


def test_a_refusal_says_what_the_map_server_said() -> None:
    (problem,) = of(replace(OPEN, refusal="the Map-Server denies this registration by policy"))

    assert (problem.key, problem.cause) == ("register-refused", "the Map-Server denies this registration by policy")


@pytest.mark.parametrize(("server", "families"), [("198.51.100.1", {6}), ("2001:db8::1", {4})])
def test_a_network_of_the_other_family_is_named(server: str, families: set[int]) -> None:
    (problem,) = of(RegistrationEvidence(EID, server, is_resting=True), families=frozenset(families))

    assert (problem.key, problem.severity) == ("no-address-of-family", Severity.BROKEN)
    assert server in problem.what


RESTING = RegistrationEvidence(EID, SERVER, is_resting=True)
LTE = AddressEvidence("wwan0", "2001:db8::7", nat64="64:ff9b::/96")


@pytest.mark.parametrize(
    "evidence",
    [
        {"seeks_translator": True, "addresses": (replace(LTE, nat64=None),)},
        {"addresses": (LTE,)},
        {"addresses": (replace(LTE, nat64_answers=True),)},
        {"addresses": (replace(LTE, nat64_answers=False), replace(LTE, interface="wwan1", nat64_answers=True))},
    ],
    ids=["DNS is asked", "the Map-Server is asked", "it answers", "it answers by another one"],
)
def test_while_a_translator_may_lead_to_the_map_server_no_family_is_missed(evidence: dict[str, Any]) -> None:
    assert keys(of(RESTING, families=frozenset({6}), **evidence)) == ["starting"]
    assert of(replace(RESTING, ever=True), families=frozenset({6}), **evidence) == ()


def test_a_translator_that_leads_nowhere_is_named_with_what_to_do() -> None:
    (problem,) = of(RESTING, families=frozenset({6}), addresses=(replace(LTE, nat64_answers=False),))

    assert problem.key == "no-address-of-family"
    assert problem.cause.endswith("no translator (NAT64) leads to it behind 64:ff9b::/96")
    assert "natt: nat64" in problem.remedy


def test_a_translator_is_no_remedy_for_a_map_server_with_ipv6() -> None:
    (problem,) = of(RegistrationEvidence(EID, "2001:db8::1", is_resting=True), families=frozenset({4}))

    assert "NAT64" not in problem.cause + problem.remedy


def test_behind_a_translator_without_an_rtr_the_status_says_nat64() -> None:
    stranded = replace(LTE, stranded="the Map-Server names no RTR that can be used from here", nat64_answers=True)
    (problem,) = of(RESTING, families=frozenset({6}), addresses=(stranded,))

    assert headline((problem,)) == "not working: wwan0 (2001:db8::7) is behind NAT64, and there is no RTR"


def test_a_second_map_server_of_the_other_family_only_degrades() -> None:
    found = of(STANDS, RegistrationEvidence(EID, "2001:db8::1", is_resting=True))

    assert verdict(found) == "degraded"


def test_through_a_nat_silence_may_be_the_key_and_that_is_said() -> None:
    (problem,) = of(replace(OPEN, finding=Finding.SILENT, is_private=True))

    assert "behind a NAT" in problem.cause


def test_behind_a_nat_without_an_rtr_nothing_works() -> None:
    stranded = replace(WIFI, stranded="the Map-Server names no RTR that can be used from here")
    (problem,) = of(replace(OPEN, tries=0, is_resting=True), addresses=(stranded,))

    assert headline((problem,)) == "not working: wlan0 (192.0.2.7) is behind a NAT, and there is no RTR"
    assert "rtr: enabled: yes" in problem.remedy


def test_an_rtr_that_does_not_answer_is_the_problem_and_not_the_registration() -> None:
    (problem,) = of(replace(STANDS, stands=False, is_resting=True), addresses=(replace(WIFI, failed_rtr=SERVER),))

    assert headline((problem,)) == "not working: the RTR 198.51.100.1 does not answer wlan0 (192.0.2.7)"


def test_an_rtr_that_passes_nothing_on_is_named_although_the_registration_stands() -> None:
    (problem,) = of(STANDS, addresses=(replace(WIFI, deaf_rtr=SERVER),))

    assert headline((problem,)) == "not working: the RTR 198.51.100.1 passes nothing on to wlan0 (192.0.2.7)"


@pytest.mark.parametrize("is_by_nat", [False, True])
@pytest.mark.parametrize("is_spared", [False, True])
def test_data_that_its_port_does_not_take_is_a_notice_while_another_way_does(is_by_nat: bool, is_spared: bool) -> None:
    key = "odd-nat" if is_by_nat else "port-filtered"
    spoiled = SpoiledEvidence(SERVER, is_by_nat=is_by_nat, goes_on=True)
    (round_it,) = of(STANDS, addresses=(replace(WIFI, spoiled=spoiled),))
    lost = replace(WIFI, spoiled=replace(spoiled, goes_on=False, is_spared=is_spared))
    lte = AddressEvidence("lte0", "203.0.113.8")
    (alone,), (beside,) = of(STANDS, addresses=(lost,)), of(STANDS, addresses=(lost, lte))

    assert (round_it.key, verdict((round_it,))) == (key, "working")
    assert headline((alone,)) == "not working: data from wlan0 (192.0.2.7) does not get to its RTR"
    assert (beside.key, verdict((beside,))) == (key, "degraded")
    assert ("another uplink is used" in beside.remedy) == is_spared
    assert SERVER in beside.cause
    assert "4341" in beside.cause


@pytest.mark.parametrize(
    "fault",
    [{"stranded": "no RTR"}, {"failed_rtr": "198.51.100.9"}, {"deaf_rtr": "198.51.100.9"}, {"is_silent": True}],
)
def test_one_of_two_uplinks_that_does_not_work_degrades(fault: dict[str, object]) -> None:
    lte = replace(AddressEvidence("lte0", "203.0.113.8"), **fault)

    assert verdict(of(STANDS, addresses=(WIFI, lte))) == "degraded"


def test_a_family_that_leads_nowhere_beside_one_that_works_on_the_same_uplink_is_a_notice() -> None:
    silent = AddressEvidence("wlan0", "2001:db8::7", is_silent=True)

    beside = of(STANDS, addresses=(WIFI, silent))
    alone = of(STANDS, addresses=(replace(WIFI, interface="lte0"), silent))

    assert (keys(beside), verdict(beside)) == (["cannot-ask"], "working")
    assert (keys(alone), verdict(alone)) == (["cannot-ask"], "degraded")


def test_without_an_uplink_every_interface_says_why_it_is_none_and_the_registration_is_silent() -> None:
    found = of(
        OPEN,
        families=frozenset(),
        addresses=(),
        unused=(UnusedInterface("wlan0", "no carrier"), UnusedInterface("eth0", "set down")),
    )

    assert keys(found) == ["offline"]
    assert found[0].cause == "wlan0: no carrier; eth0: set down"


def test_a_login_page_on_the_only_uplink_is_the_reason_and_beside_another_uplink_a_notice() -> None:
    cafe = UnusedInterface("wlan0", "a login page is in the way (captive portal)", wants_login=True)

    alone = of(OPEN, families=frozenset(), addresses=(), unused=(cafe,))
    beside = of(STANDS, unused=(cafe,))

    assert headline(alone) == "not working: wlan0 requires a login on its portal page"
    assert (keys(beside), verdict(beside)) == (["portal"], "working")


def test_a_peer_that_does_not_answer_is_named() -> None:
    (problem,) = of(STANDS, peers=(PeerEvidence("10.99.0.2/32", ("10.0.3.2",)),))

    assert headline((problem,)) == "degraded: 10.99.0.2/32 does not answer"
    assert "10.0.3.2" in problem.cause


def test_steering_that_the_datapath_refuses_degrades() -> None:
    (problem,) = of(STANDS, chain_refusal="4097 rules: 4096 at most", has_rules=True)

    assert (problem.key, problem.severity, problem.cause) == ("no-chain", Severity.DEGRADED, "4097 rules: 4096 at most")


@pytest.mark.parametrize(("count", "words"), [(1, "1 packet was dropped"), (7, "7 packets were dropped")])
def test_packets_whose_mark_names_no_usable_uplink_are_counted(count: int, words: str) -> None:
    (problem,) = of(STANDS, dropped_by_mark=count)

    assert problem.what.startswith(words)


def test_a_state_directory_that_is_full_does_not_stop_anything_and_is_said() -> None:
    found = of(STANDS, state_refusal="/var/lib/lispmob: No space left on device")

    assert (keys(found), verdict(found)) == (["disk-full"], "working")


@pytest.mark.parametrize(
    ("is_out", "what", "where"),
    [
        (True, "data to 10.0.3.2 is lost, though it answers probes", "from this host to 10.0.3.2 (10.99.0.2/32)"),
        (False, "data from 10.0.3.2 is lost, though it answers probes", "from 10.0.3.2 (10.99.0.2/32) to this host"),
    ],
)
def test_a_filter_on_the_data_port_is_told_with_its_direction(is_out: bool, what: str, where: str) -> None:
    (problem,) = of(STANDS, filtered=(FilteredEvidence("10.99.0.2/32", "10.0.3.2", is_out=is_out),))

    assert (problem.key, problem.severity, problem.what) == ("data-filtered", Severity.DEGRADED, what)
    assert where in problem.cause


def test_a_filter_that_data_goes_around_is_a_notice_with_what_is_done_about_it() -> None:
    (problem,) = found = of(STANDS, filtered=(FilteredEvidence("10.99.0.2/32", "10.0.3.2", True, is_spared=True),))

    assert (problem.key, verdict(found)) == ("data-filtered", "working")
    assert problem.remedy.startswith("another locator of that peer is used until then; allow UDP port 4341")


@pytest.mark.parametrize(
    ("remotes", "words"), [(("10.0.3.2",), "on the path to 10.0.3.2,"), (("10.0.3.2", "10.0.4.2"), "to 2 locators,")]
)
def test_a_path_on_which_large_packets_vanish_is_a_notice_once_for_each_address(
    remotes: tuple[str, ...], words: str
) -> None:
    (problem,) = found = of(STANDS, narrow=(NarrowEvidence("192.0.2.7", 1400, remotes),))

    assert (problem.key, verdict(found)) == ("path-mtu", "working")
    assert "1400 octets from 192.0.2.7" in problem.what
    assert words in problem.cause


def test_what_a_part_reports_by_itself_stands_in_the_list_at_its_place() -> None:
    foreign = Problem("foreign-rule", Severity.BROKEN, "rule 100 of another program takes packets to 10.99.0.0/24")

    found = of(STANDS, reported=(foreign,), peers=(PeerEvidence("10.99.0.2/32", ("10.0.3.2",)),))

    assert keys(found) == ["foreign-rule", "peer-unreachable"]


def test_a_start_and_a_stop_are_no_working_state() -> None:
    assert headline(problems_of(replace(FINE, is_starting=True))) == "not working: lispd is starting"
    assert headline(problems_of(replace(FINE, is_stopping=True))) == "not working: lispd is stopping"


def test_every_headline_fits_a_terminal_of_80_columns_with_ipv4_addresses() -> None:
    worst = [
        *(of(replace(OPEN, eid="10.199.100.101/32", server="198.151.100.101", finding=finding)) for finding in Finding),
        of(addresses=(AddressEvidence("wlp0s20f3", "192.168.100.100", stranded="x"),)),
    ]

    assert max(len(headline(found)) for found in worst) <= 80


NAME = NameEvidence("hub.example.net", "Map-Server", "no DNS server answers")


def test_a_start_without_dns_is_the_whole_service_and_says_so() -> None:
    found = of(names=(NAME,))

    assert headline(found) == "not working: the host name of Map-Server hub.example.net is not found"
    assert found[0].cause == "no DNS server answers"
    assert "getent ahosts hub.example.net" in found[0].remedy


def test_a_name_that_is_not_found_beside_a_map_server_that_stands_degrades() -> None:
    assert verdict(of(STANDS, names=(NAME,))) == "degraded"
    assert verdict(of(STANDS, names=(replace(NAME, role="P-ETR"),))) == "degraded"


def test_a_name_that_was_found_earlier_takes_nothing_away() -> None:
    (problem,) = found = of(STANDS, names=(replace(NAME, has_addresses=True),))

    assert verdict(found) == "working"
    assert problem.cause.endswith("the addresses that it had stay in use")


def test_without_a_network_it_is_not_dns_that_fails() -> None:
    assert keys(of(names=(NAME,), families=frozenset())) == ["offline"]


UNHEARD = replace(WIFI, unheard_by=("10.0.3.2", "10.0.4.2"))


def test_an_uplink_whose_data_no_peer_gets_is_one_problem_and_not_one_for_each_peer() -> None:
    filtered = tuple(FilteredEvidence(f"{one}/32", one, is_out=True) for one in UNHEARD.unheard_by)

    (problem,) = found = of(STANDS, addresses=(UNHEARD,), filtered=filtered)

    assert (problem.key, problem.severity) == ("not-heard", Severity.BROKEN)
    assert headline(found) == "not working: no data from wlan0 (192.0.2.7) gets through"


def test_an_uplink_whose_data_no_peer_gets_degrades_beside_another_one() -> None:
    assert verdict(of(STANDS, addresses=(UNHEARD, AddressEvidence("lte0", "203.0.113.8")))) == "degraded"


def test_what_does_not_come_back_is_told_all_the_same() -> None:
    back = FilteredEvidence("10.99.0.2/32", "10.0.3.2", is_out=False)

    assert keys(of(STANDS, addresses=(UNHEARD,), filtered=(back,))) == ["not-heard", "data-filtered"]


def test_an_address_that_another_host_has_is_named_with_its_interface() -> None:
    (problem,) = of(STANDS, duplicates=(DuplicateAddress("eth0", "2001:db8::7"),))

    assert (problem.key, problem.severity) == ("duplicate-address", Severity.DEGRADED)
    assert problem.what == "another host in the network of eth0 has 2001:db8::7"


def test_the_only_address_being_another_hosts_too_is_why_there_is_no_uplink() -> None:
    found = of(families=frozenset(), addresses=(), duplicates=(DuplicateAddress("eth0", "2001:db8::7"),))

    assert keys(found) == ["offline", "duplicate-address"]


def test_a_peer_inside_our_own_prefix_is_named_and_takes_nothing_else_away() -> None:
    (problem,) = found = of(STANDS, inside=(InsideEvidence("10.99.0.9/32", "10.99.0.0/24"),))

    assert problem.what == "10.99.0.9/32 lies inside our own EID-Prefix 10.99.0.0/24"
    assert verdict(found) == "working"


@pytest.mark.parametrize("eid", ["10.99.0.9/32", "10.99.0.0/24", "2001:db8:99::9/128"])
def test_a_peer_that_a_nearer_route_hides_is_named_with_the_interface_and_the_command_that_shows_it(eid: str) -> None:
    (problem,) = found = of(STANDS, detours=(DetourEvidence(eid, "eth1"),))

    assert problem.what == f"packets to {eid} leave by eth1, past the overlay"
    assert problem.remedy is not None
    assert problem.remedy.endswith(f"ip route get {eid.split('/')[0]}")
    assert verdict(found) == "degraded"


def test_a_translator_between_the_families_is_named_with_what_it_takes_away() -> None:
    lte = AddressEvidence("wwan0", "2001:db8::7", translated_to="198.51.100.64")

    (problem,) = found = of(STANDS, addresses=(lte,), families=frozenset({6}))

    assert problem.what == "peers with IPv4 only do not reach wwan0 (2001:db8::7)"
    assert "198.51.100.64 (NAT64)" in problem.cause
    assert verdict(found) == "degraded"


PEER = PeerEvidence("10.99.0.2/32", ("203.0.113.5",))


def test_a_network_that_leads_nowhere_is_not_the_peers_fault() -> None:
    (problem,) = of(STANDS, peers=(PEER,), in_vain=("192.0.2.7",))

    assert (problem.key, problem.severity) == ("nobody-answers", Severity.BROKEN)
    assert problem.cause == "neither the mapping system nor a peer answers 192.0.2.7"


def test_a_family_that_no_map_server_has_is_named_where_it_would_help() -> None:
    (problem,) = of(STANDS, peers=(PEER,), in_vain=("192.0.2.7",), unasked=("2001:db8:1::2",))

    assert "2001:db8:1::2 cannot be used alone" in problem.cause
    assert "an address of both families at the Map-Server" in problem.remedy


def test_a_peer_that_is_silent_while_the_mapping_system_answers_is_named_as_before() -> None:
    assert keys(of(STANDS, peers=(PEER,), unasked=("2001:db8:1::2",))) == ["peer-unreachable"]
    assert keys(of(STANDS, in_vain=("192.0.2.7",))) == []


@pytest.mark.parametrize(
    ("families", "severity"), [({6}, Severity.NOTICE), (set(), Severity.BROKEN)], ids=["beside IPv6", "alone"]
)
def test_a_kill_switch_is_named_and_no_network_is_asked_for(families: set[int], severity: Severity) -> None:
    refused = RefusedEvidence("wlan0", 4, "the route `blackhole default metric 50`")

    (problem,) = of(families=frozenset(families), addresses=(), refused=(refused,))

    assert (problem.key, problem.severity) == ("refused-route", severity)
    assert problem.what == "this host refuses what leaves by wlan0 over IPv4"
    assert problem.cause.startswith("the route `blackhole default metric 50` comes before its default route")


def test_a_host_whose_map_server_is_stopped_is_not_cut_off_from_its_network() -> None:
    found = of(STANDS, in_vain=("192.0.2.7",), closed=(SERVER,), peers=(PEER,))

    assert keys(found) == ["nobody-listens", "peer-unreachable"]
    assert headline(found) == "degraded: 198.51.100.1 runs no Map-Server (and 1 more)"


def test_a_stopped_map_server_is_named_once_however_it_is_found_out() -> None:
    found = of(replace(OPEN, finding=Finding.PORT_CLOSED), in_vain=("192.0.2.7",), closed=(SERVER,))

    assert keys(found) == ["nobody-listens"]


def test_a_map_server_that_was_stopped_and_is_heard_again_is_no_problem() -> None:
    assert of(STANDS, closed=(SERVER,)) == ()


@pytest.mark.parametrize(
    "evidence",
    [
        {"registrations": (replace(STANDS, tries=2),)},
        {"registrations": (replace(STANDS, tries=3, finding=Finding.SILENT),)},
        {"registrations": (STANDS,), "in_vain": ("192.0.2.7",), "closed": (SERVER,)},
    ],
    ids=["unanswered lately", "silent", "stopped"],
)
def test_a_map_server_that_answers_nothing_is_not_blamed_for_lisp_sec(evidence: dict[str, Any]) -> None:
    unanswered = Problem("lisp-sec-unanswered", Severity.DEGRADED, "no mapping for 10.99.0.2/32", subject=SERVER)

    found = problems_of(replace(FINE, reported=(unanswered,), **evidence))

    assert "lisp-sec-unanswered" not in keys(found)


def test_a_map_server_that_answers_nothing_since_a_lookup_is_named_before_the_next_register() -> None:
    unanswered = Problem("lisp-sec-unanswered", Severity.DEGRADED, "no mapping for 10.99.0.2/32", subject=SERVER)
    unheard = {"reported": (unanswered,), "unheard": frozenset({SERVER})}

    assert of(STANDS, **unheard) == ()  # it is being asked
    assert keys(of(replace(STANDS, finding=Finding.SILENT), **unheard)) == ["no-answer"]
    assert keys(of(replace(STANDS, finding=Finding.PORT_CLOSED), **unheard)) == ["nobody-listens"]
    assert keys(of(replace(STANDS, finding=Finding.SILENT))) == []  # heard again


def test_a_map_server_that_answers_all_but_lisp_sec_is_named() -> None:
    unanswered = Problem("lisp-sec-unanswered", Severity.DEGRADED, "no mapping for 10.99.0.2/32", subject=SERVER)
    elsewhere = RegistrationEvidence(EID, OTHER, tries=5, finding=Finding.SILENT)

    assert "lisp-sec-unanswered" in keys(of(STANDS, elsewhere, reported=(unanswered,)))


def test_where_no_server_answers_lisp_sec_is_not_to_blame() -> None:
    unanswered = Problem("lisp-sec-unanswered", Severity.DEGRADED, "there is no mapping for 10.99.0.2/32")

    assert keys(of(STANDS, in_vain=("192.0.2.7",), reported=(unanswered,))) == ["nobody-answers"]
    assert keys(of(STANDS, reported=(unanswered,))) == ["lisp-sec-unanswered"]


def test_a_firewall_of_this_host_that_stops_data_is_named() -> None:
    (problem,) = of(STANDS, is_forbidden=True)

    assert (problem.key, problem.severity) == ("sending-refused", Severity.BROKEN)
    assert "UDP port 4341 (EPERM)" in problem.cause


@pytest.mark.parametrize(
    "registration",
    [OPEN, replace(OPEN, finding=Finding.PORT_CLOSED), replace(OPEN, finding=Finding.UNREACHABLE, ever=True)],
    ids=["silence", "closed port", "no route"],
)
def test_a_node_whose_peers_answer_is_degraded_and_not_dead_without_its_map_server(
    registration: RegistrationEvidence,
) -> None:
    (alone,), (with_peers,) = of(registration), of(registration, peers_answer=True)

    assert (alone.severity, with_peers.severity) == (Severity.BROKEN, Severity.DEGRADED)


def test_a_family_that_the_map_server_lacks_is_no_outage_while_peers_answer() -> None:
    resting = RegistrationEvidence(EID, SERVER, is_resting=True)

    (problem,) = of(resting, families=frozenset({6}), peers_answer=True)

    assert (problem.key, problem.severity) == ("no-address-of-family", Severity.DEGRADED)


@pytest.mark.parametrize("peers", [(PeerEvidence("10.99.0.2/32", (OTHER,)),), ()], ids=["a silent peer", "a question"])
def test_where_this_hosts_firewall_stops_us_it_is_blamed_and_not_the_network(peers: tuple[PeerEvidence, ...]) -> None:
    unanswered = Problem("lisp-sec-unanswered", Severity.DEGRADED, "there is no mapping for 10.99.0.2/32")

    found = of(STANDS, in_vain=("192.0.2.7",), refuses_control=True, peers=peers, reported=(unanswered,))

    assert (keys(found), found[0].severity) == (["sending-refused"], Severity.BROKEN)


OWN = OwnEidEvidence("wlan0", "10.99.0.1", EID)
AROUND = Problem("overlapping-prefix", Severity.DEGRADED, "our EID lies inside", "why", "do", f"{EID} wlan0")


def test_a_host_whose_only_address_is_its_eid_does_not_work_and_the_first_line_says_why() -> None:
    waiting = RegistrationEvidence(EID, SERVER)

    problems = of(waiting, addresses=(), own_eids=(OWN,), reported=(AROUND,))

    assert keys(problems) == ["eid-in-use"]
    assert verdict(problems) == "not-working"
    assert headline(problems) == "not working: our EID 10.99.0.1/32 is the address of wlan0"
    assert problems[0].remedy == "give this host another EID, or wlan0 another address"


def test_an_uplink_whose_address_is_our_eid_beside_one_that_works_degrades() -> None:
    problems = of(STANDS, own_eids=(OWN,), reported=(AROUND,))

    assert keys(problems) == ["eid-in-use"]
    assert verdict(problems) == "degraded"


def test_an_address_inside_a_wider_eid_prefix_is_named_with_it() -> None:
    (problem,) = of(STANDS, own_eids=(OwnEidEvidence("eth0", "10.99.0.5", "10.99.0.0/28"),))

    assert problem.what == "our EID 10.99.0.0/28 contains the address of eth0, 10.99.0.5"


def test_a_gateway_with_our_eid_degrades_although_packets_pass_for_now() -> None:
    problems = of(STANDS, own_eids=(replace(OWN, is_gateway=True),), reported=(AROUND,))

    assert keys(problems) == ["eid-in-use"]
    assert problems[0].what == "our EID 10.99.0.1/32 is the address of the gateway of wlan0"
    assert verdict(problems) == "degraded"


def test_a_network_around_our_eid_on_another_uplink_is_told_as_well() -> None:
    elsewhere = replace(AROUND, subject=f"{EID} eth7")

    problems = of(STANDS, own_eids=(OWN,), reported=(AROUND, elsewhere))

    assert sorted(keys(problems)) == ["eid-in-use", "overlapping-prefix"]


def test_offline_in_a_network_around_our_eid_the_first_line_names_the_gateway_that_the_kernel_refuses() -> None:
    unused = UnusedInterface("wlan0", "no default route", eid_inside=EID)

    problems = of(RegistrationEvidence(EID, SERVER), addresses=(), families=frozenset(), unused=(unused,))

    assert keys(problems) == ["eid-in-use"]
    assert "its gateway may have the address of our EID 10.99.0.1/32" in headline(problems)
    assert keys(of(addresses=(), families=frozenset(), unused=(replace(unused, eid_inside=""),))) == ["offline"]


def test_an_unused_network_around_our_eid_beside_an_uplink_that_works_is_no_problem() -> None:
    assert of(STANDS, unused=(UnusedInterface("wlan0", "no default route", eid_inside=EID),)) == ()
