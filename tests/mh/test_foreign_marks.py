"""What rules of other programs do to a mark, by the output of iptables-save; rules that cannot be read are reported."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.mh.foreign_marks import Met, of_chain, split_at, walk
from lispmob.mh.selector import Flow

FLOW = Flow(ip_address("10.1.0.1"), ip_address("10.0.1.2"), 6, 40000, 443, uid=1000, gid=1000)
LISPMOB = "-A OUTPUT -d 10.0.1.2/32 -j MARK --set-xmark 0x2/0xffffffff"
OURS = "-A OUTPUT -o lmn0 -j LISPMOB-MARK"


def marks(*lines: str, mark: int = 0) -> list[int | None]:
    return [met.mark for met in walk(lines, FLOW, "lmn0", mark)]


def test_the_rule_of_lispmobs_manual_sets_its_mark() -> None:
    assert walk([LISPMOB], FLOW, "lmn0", 0) == [Met(LISPMOB, 2)]


@pytest.mark.parametrize(
    "selecting",
    [
        "-d 10.0.1.0/24",
        "! -d 10.0.2.0/24",
        "-s 10.1.0.1/32 -o lmn0",
        "-o lmn+",
        "-p tcp -m tcp --dport 443",
        "-p 6 -m tcp --sport 40000:40100",
        "-m owner --uid-owner 1000",
        "-m owner --gid-owner 0-1000",
        '-m comment --comment "calls -d 192.0.2.1" -p tcp',
        "-m mark --mark 0x0/0xffff",
    ],
)
def test_a_rule_that_matches_in_every_part_counts(selecting: str) -> None:
    assert marks(f"-A OUTPUT {selecting} -j MARK --set-xmark 0x5/0xffffffff") == [5]


@pytest.mark.parametrize(
    "selecting",
    [
        "-d 10.0.2.0/24",
        "-o eth0",
        "-p udp",
        "-p tcp -m tcp ! --dport 443",
        "-m owner ! --uid-owner 1000",
        "-m conntrack --ctstate NEW -p udp",
        "-d 2001:db8::/32",
        "-m mark ! --mark 0x0/0xffff",
    ],
)
def test_a_rule_that_does_not_match_in_one_part_does_not_count(selecting: str) -> None:
    assert marks(f"-A OUTPUT {selecting} -j MARK --set-xmark 0x5/0xffffffff") == []


def test_only_the_bits_of_a_mask_change_and_later_rules_see_it() -> None:
    first = "-A OUTPUT -j MARK --set-xmark 0x50000/0xff0000"
    second = "-A OUTPUT -m mark --mark 0x50000/0xff0000 -j MARK --set-xmark 0x3/0xffff"

    assert marks(first, second, mark=0x1001) == [0x51001, 0x50003]


@pytest.mark.parametrize(
    "line",
    [
        "-A OUTPUT -m set --match-set lte dst -j MARK --set-xmark 0x5/0xffffffff",
        "-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
        "-A OUTPUT -j VPN-MARKS",
        "-A OUTPUT -m conntrack --ctstate NEW -j RETURN",
    ],
)
def test_what_cannot_be_told_is_said_to_be_so(line: str) -> None:
    assert walk([line], FLOW, "lmn0", 0) == [Met(line, None)]


def test_what_leaves_the_mark_alone_is_passed_over_and_an_end_is_an_end() -> None:
    harmless = ["-A OUTPUT -j LOG", "-A OUTPUT -j CONNMARK --save-mark", "-A OUTPUT -p udp -j DROP"]

    assert marks(*harmless, "-A OUTPUT -d 10.0.1.2/32 -j ACCEPT", LISPMOB) == []


def test_rules_are_told_apart_by_where_our_jump_stands() -> None:
    saved = ["*mangle", ":OUTPUT ACCEPT", LISPMOB, OURS, "-A FORWARD -j LOG", "-A OUTPUT -j LOG", "COMMIT"]

    assert split_at(of_chain(saved, "OUTPUT"), "LISPMOB-") == ([LISPMOB], ["-A OUTPUT -j LOG"])
    assert split_at(of_chain(saved, "FORWARD"), "LISPMOB-") == (["-A FORWARD -j LOG"], [])
