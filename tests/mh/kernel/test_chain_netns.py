"""Steering with the real iptables, in both back ends: by which lane of the TUN device real packets leave."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from ipaddress import ip_network

import pytest

from lispmob.datapath.device.lanes import DEFAULT, UNUSABLE
from lispmob.mh.chain_text import Hooks
from lispmob.mh.kernel.chain import MarkChain
from lispmob.mh.kernel.packet_filter import Iptables
from lispmob.mh.kernel.xtables import Tool
from lispmob.mh.policy import Policy, Rule, Selector, Via
from lispmob.mh.selector import Span
from tests.mh.kernel.lane_host import EID, PEER, udp
from tests.mh.kernel.steered import (
    ALL,
    CABLE,
    LTE,
    SERVICE,
    UNIFIED,
    WIFI,
    Steered,
    client_behind,
    send_as,
    sender,
    via,
)

pytestmark = pytest.mark.netns


def test_a_rule_that_the_user_wrote_for_lispmob_works_with_and_without_ours(steered: Steered) -> None:
    steered.host.run(f"{steered.iptables[4]} -t mangle -I OUTPUT -d 10.0.1.2 -j MARK --set-mark 2")
    alone = steered.host.lane_of("10.0.1.2")

    steered.apply(via("all", "wlan0"))

    assert alone == steered.host.lane_of("10.0.1.2") == 2
    assert steered.host.lane_of(PEER[4]) == 3


def test_a_rule_that_the_user_appends_later_wins_too(steered: Steered) -> None:
    steered.apply(via("all", "wlan0"))

    steered.host.run(f"{steered.iptables[4]} -t mangle -A OUTPUT -d 10.0.1.2 -j MARK --set-mark 4")

    assert steered.host.lane_of("10.0.1.2") == 4


@pytest.mark.parametrize("family", [4, 6])
def test_destination_protocol_and_ports_select(steered: Steered, family: int) -> None:
    steered.apply(
        via("calls", "cable0", protocols=(17,), destination_ports=(Span(5000, 5999), Span(80, 80))),
        via("peer", "wlan*", destinations=(ip_network("10.2.0.0/16"), ip_network("2001:db8:e:2::/64"))),
    )

    assert steered.host.lane_of(PEER[family], 5004) == 2
    assert steered.host.lane_of(PEER[family], 80) == 2
    assert steered.host.lane_of(PEER[family], 81) == 3
    assert steered.host.lane_of({4: "10.3.0.1", 6: "2001:db8:e:3::1"}[family], 81) == DEFAULT


def test_dscp_selects(steered: Steered) -> None:
    steered.apply(via("voice", "cable0", dscp=(46,)))

    def voice(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2)

    assert steered.host.lane_of(PEER[4], prepare=voice) == 2
    assert steered.host.lane_of(PEER[4]) == DEFAULT


@pytest.mark.parametrize("what", ["users", "groups"])
def test_the_user_and_the_group_of_the_sender_select(steered: Steered, what: str) -> None:
    steered.apply(via("backup", "wlan0", **{what: (Span(34, 34),)}))

    mine, theirs = send_as(steered.host, 0, 0), send_as(steered.host, *((34, 0) if what == "users" else (0, 34)))

    assert (mine, theirs) == (DEFAULT, 3)


def test_the_control_group_of_the_sender_selects_and_one_that_is_not_there_harms_nothing(steered: Steered) -> None:
    if not UNIFIED:
        pytest.skip("no unified control group hierarchy")
    group = f"lm{os.getpid()}"
    rules = (
        via("other", "wlan0", destination_ports=(Span(7, 7),), protocols=(17,)),
        via("job", "cable0", cgroup=group),
    )
    steered.apply(*rules)
    without = steered.host.lane_of(PEER[4], 7), steered.chain.skipped

    (UNIFIED[0] / group).mkdir()
    try:
        steered.apply(*rules)
        lane = send_as(steered.host, 0, 0, f"echo $$ > {UNIFIED[0] / group / 'cgroup.procs'}; ")
        steered.clean_up()
    finally:
        (UNIFIED[0] / group).rmdir()

    assert without == (3, ("job",))
    assert lane == 2


@pytest.mark.parametrize("family", [4, 6])
def test_forwarded_packets_are_selected_by_where_they_came_in(steered: Steered, family: int) -> None:
    host = steered.host
    with client_behind(host, family) as inside:
        steered.apply(via("guests", "wlan0", from_interface="br-*"))

        own = host.lane_of(PEER[family])
        token = os.urandom(8).hex()
        subprocess.run([*inside, *sender(PEER[family], token)], check=True, timeout=10)

        assert (own, host.find(token.encode())) == (DEFAULT, 3)


def test_a_mark_of_an_uplink_that_is_gone_goes_to_the_lane_of_unusable_marks(steered: Steered) -> None:
    steered.host.run(f"{steered.iptables[4]} -t mangle -A OUTPUT -d 10.0.1.2 -j MARK --set-mark 9")
    steered.apply(via("all", "cable0"))

    assert steered.host.lane_of("10.0.1.2") == UNUSABLE


def test_marks_of_others_beside_our_bits_survive(steered: Steered) -> None:
    command = f"{steered.iptables[4]} -t mangle"
    steered.host.run(f"{command} -I OUTPUT -d 10.0.1.2 -j MARK --set-xmark 0x80000/0xff0000")
    steered.host.run(f"{command} -A POSTROUTING -d 10.0.1.2 -m mark --mark 0x80003 -j TOS --set-tos 0x20")

    steered.apply(via("all", "wlan0"))

    assert steered.host.lane_of("10.0.1.2") == 3
    assert " 1 " in steered.host.run(f"{command} -nvxL POSTROUTING | grep TOS").replace("  ", " ")


def test_what_must_not_go_elsewhere_is_dropped(steered: Steered) -> None:
    rule = Rule(
        "backup", Selector(protocols=(17,), destination_ports=(Span(873, 873),)), (Via("cable0"),), True, "drop"
    )

    steered.apply(rule, uplinks=(WIFI,))

    assert steered.host.lane_of(PEER[4], 873) is None
    assert steered.host.lane_of(PEER[4], 874) == DEFAULT


@pytest.mark.parametrize("lane", [2, 3])
def test_a_reply_leaves_by_the_uplink_that_its_flow_came_in_by(steered: Steered, lane: int) -> None:
    steered.apply(via("all", "wwan0"))
    with steered.host.open_socket(4, SERVICE) as service:
        service.settimeout(2)
        steered.host.inject(lane, udp(PEER[4], 7777, EID[4], SERVICE, b"question"))
        question, who = service.recvfrom(100)
        service.sendto(b"first answer", who)
        first = steered.host.find(b"first answer")
        steered.apply(via("all", "wwan0"), uplinks=(LTE,))
        service.sendto(b"second answer", who)
        second = steered.host.find(b"second answer")

    assert question == b"question"
    assert (first, second) == (lane, 4)
    assert steered.host.lane_of(PEER[4]) == 4


@pytest.mark.parametrize("family", [4, 6])
def test_rules_marks_and_replies_work_with_a_device_per_uplink_too(steered_devices: Steered, family: int) -> None:
    host = steered_devices.host
    host.run(f"{steered_devices.iptables[4]} -t mangle -I OUTPUT -d 10.0.1.2 -j MARK --set-mark 2")
    steered_devices.apply(
        via("calls", "cable0", protocols=(17,), destination_ports=(Span(5004, 5004),)), uplinks=(CABLE, WIFI)
    )

    with host.open_socket(4, SERVICE) as service:
        service.settimeout(2)
        host.inject(3, udp(PEER[4], 7777, EID[4], SERVICE, b"question"))
        _, who = service.recvfrom(100)
        service.sendto(b"answer", who)

    assert host.find(b"answer") == 3
    assert host.lane_of(PEER[family], 5004) == 2
    assert host.lane_of(PEER[family], 5005) == DEFAULT
    assert host.lane_of("10.0.1.2", 5005) == 2


def test_forwarded_packets_are_routed_by_mark_with_a_device_per_uplink(steered_devices: Steered) -> None:
    with client_behind(steered_devices.host, 4) as inside:
        steered_devices.apply(via("guests", "wlan0", from_interface="br-*"), uplinks=(CABLE, WIFI))
        token = os.urandom(8).hex()
        subprocess.run([*inside, *sender(PEER[4], token)], check=True, timeout=10)

        assert steered_devices.host.find(token.encode()) == 3


def test_flows_are_spread_by_weight_each_stays_and_only_those_of_a_lost_uplink_move(steered: Steered) -> None:
    rest = Rule("rest", via=(Via("cable0", 3), Via("wlan0", 1)))
    steered.apply(rest)
    host, count = steered.host, 240
    sockets = [host.open_socket() for _ in range(count)]
    try:
        rounds = []
        for number in range(3):
            if number == 2:
                steered.apply(rest, uplinks=(WIFI, LTE))
            for flow, sock in enumerate(sockets):
                sock.sendto(f"{number}/{flow}".encode(), (PEER[4], 9))
            rounds.append([host.find(f"{number}/{flow}".encode()) for flow in range(count)])
    finally:
        for sock in sockets:
            sock.close()

    share = Counter(rounds[0])
    assert set(share) == {2, 3}
    assert 0.6 < share[2] / count < 0.9
    assert rounds[1] == rounds[0]
    assert set(rounds[2]) == {3}


def test_a_thousand_rules_are_replaced_under_a_stream_that_loses_no_packet(steered: Steered) -> None:
    def rules(version: int) -> list[Rule]:
        filler = [
            via(
                f"r{version}-{number}",
                "wlan0",
                destinations=(ip_network(f"10.{9 + version}.{number // 250}.{number % 250}/32"),),
            )
            for number in range(999)
        ]
        return [*filler, via("stream", "cable0", destinations=(ip_network(f"{PEER[4]}/32"),))]

    steered.apply(*rules(0))
    stop = threading.Event()

    def stream() -> int:
        number = 0
        with steered.host.open_socket() as sock:
            while not stop.is_set():
                sock.sendto(b"s%d" % number, (PEER[4], 4444))
                number += 1
                time.sleep(0.0004)
        return number

    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(stream()))
    thread.start()
    time.sleep(0.1)
    for version in range(1, 7):
        steered.apply(*rules(version))
    stop.set()
    thread.join(10)
    sent = done[0]
    assert steered.host.find(b"s%d" % (sent - 1)) == 2

    arrived = {lane: sum(1 for port, _ in packets if port == 4444) for lane, packets in steered.host.got.items()}
    assert {lane: count for lane, count in arrived.items() if count} == {2: sent}
    assert sent > 100
    assert "-A LISPMOB-MARK -d 10.15.0.7/32 -m comment --comment r6-7 -g LISPMOB-VIA-3" in "\n".join(
        line.replace('"', "") for line in steered.saved()
    )


def test_a_change_takes_effect_with_the_next_packet(steered: Steered) -> None:
    for name, lane in (("cable0", 2), ("wlan0", 3), ("wwan0", 4)) * 2:
        steered.apply(via("all", name))
        assert steered.host.lane_of(PEER[4]) == lane


def test_after_a_crash_everything_of_ours_goes_and_nothing_of_the_users(steered: Steered) -> None:
    for family in (4, 6):
        steered.host.run(f"{steered.iptables[family]} -t mangle -N MINE")
        steered.host.run(f"{steered.iptables[family]} -t mangle -A OUTPUT -j MINE")
    before = {family: steered.saved(family) for family in (4, 6)}
    steered.apply(via("all", "cable0"), Rule("rest", via=(Via("cable0", 3), Via("wlan0", 1))))
    steered.host.run(f"{steered.iptables[4]} -t mangle -A OUTPUT -o lmn0 -j LISPMOB-MARK")
    during = steered.saved()

    steered.clean_up()

    assert sum("LISPMOB-MARK" in line and "OUTPUT" in line for line in during) == 2
    assert {family: steered.saved(family) for family in (4, 6)} == before


def test_applying_again_changes_nothing_and_repairs_what_others_flushed(steered: Steered) -> None:
    steered.apply(via("all", "cable0"))
    once = steered.saved()
    steered.host.run(f"{steered.iptables[4]} -t mangle -F OUTPUT")

    with steered.host.namespace.entered():
        compiled = Policy((via("all", "cable0"),)).compile(ALL)
        asyncio.run(steered.chain.apply(compiled, steered.host.hooks(), is_repair=True))
        asyncio.run(steered.chain.apply(compiled, steered.host.hooks(), is_repair=True))

    assert steered.saved() == once


def test_a_rule_that_the_kernel_refuses_is_told_of_and_the_others_stand(steered: Steered) -> None:
    steered.apply(via("all", "cable0"))
    steered.chain = MarkChain(steered.tools, has_cgroup=lambda _path: True)

    steered.apply(via("gone", "wlan0", cgroup="lm-no-such-group"), via("all", "wlan0"))

    assert [problem.key for problem in steered.problems] == ["chain-incomplete"] * 2
    assert "rule 'gone' (needs cgroup)" in steered.problems[0].what
    assert steered.host.lane_of(PEER[4]) == 3


def test_without_iptables_there_is_a_sentence_about_it() -> None:
    chain = MarkChain((Iptables(Tool("iptables-of-nobody", 4)),))

    (problem,) = asyncio.run(chain.apply(Policy().compile(()), Hooks("lmn0"), families=[4]))

    assert problem.key == "no-chain"
    assert "iptables-of-nobody-save: not found" in problem.cause
    assert "install iptables or nftables" in problem.remedy
    assert chain.refused == 1
