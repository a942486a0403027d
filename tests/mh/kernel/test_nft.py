"""Chains by nft alone, and chains without some extension: what is possible is done, and the rest is reported."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from lispmob.datapath.device.lanes import DEFAULT, UNUSABLE
from lispmob.mh.chain_text import TRIALS, ChainText, chain_text
from lispmob.mh.kernel import cgroups
from lispmob.mh.kernel.chain import MarkChain
from lispmob.mh.kernel.nat_chain import NatChain
from lispmob.mh.kernel.packet_filter import Nftables
from lispmob.mh.nft_text import LACKS, rule, script
from lispmob.mh.policy import Policy, Rule, Via
from lispmob.mh.selector import Span
from tests.mh.kernel.lane_host import PEER, LaneHost
from tests.mh.kernel.steered import ALL, CABLE, WIFI, Steered, send_as, sender, via
from tests.mh.test_chain_text import QUEUES

CALLS = via("calls", "cable0", protocols=(17,), destination_ports=(Span(5000, 5999), Span(80, 80)))
SPREAD = Rule("rest", via=(Via("cable0", 3), Via("wlan0", 1)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-m mark ! --mark 0x0/0xffff -j RETURN", "meta mark & 0xffff != 0x0 return"),
        ("-m connmark --mark 0x3/0xffff -g A", "ct mark & 0xffff == 0x3 goto A"),
        ("-m conntrack --ctdir REPLY -g A", "ct direction reply goto A"),
        ("-j MARK --set-xmark 0x3/0xffff", "meta mark set meta mark & 0xffff0000 | 0x3"),
        ("-s 10.1.0.1/32 ! -o lmn0 -j MASQUERADE", 'ip saddr 10.1.0.1/32 oifname != "lmn0" masquerade'),
        ("-o lmn0-+ -j RETURN", 'oifname "lmn0-*" return'),
        ("-p udp -m multiport --dports 80,5000:5999 -g A", "meta l4proto udp th dport { 80, 5000-5999 } goto A"),
        ("-m owner --uid-owner 5-9 -j DROP", "meta skuid 5-9 drop"),
        ("-m cgroup --path a/b -j DROP", 'socket cgroupv2 level 2 "a/b" drop'),
        ("-m statistic --mode random --probability 0.75000000 -g A", "numgen random mod 1000000 < 750000 goto A"),
    ],
)  # fmt: skip
def test_our_rules_are_said_in_the_words_of_nft(line: str, said: str) -> None:
    assert rule(line.split(), 4) == said


def test_what_nft_has_no_word_for_is_an_error_and_not_a_wider_rule() -> None:
    with pytest.raises(ValueError, match="no word of nft"):
        rule(["-m", "bpf", "--bytecode", "4"], 4)


@pytest.mark.parametrize("missing", sorted(TRIALS))
def test_no_rule_uses_an_extension_that_is_missing(missing: str) -> None:
    rules = (CALLS, SPREAD, via("user", "wlan0", users=(Span(5, 5),)), via("voice", "cable0", dscp=(46,)))
    compiled = Policy(rules).compile((CABLE, WIFI))

    made = chain_text(compiled, QUEUES, 4, missing=frozenset({missing}))

    if missing not in ("mark", "MARK"):  # without these nothing can be steered
        assert missing not in made.extensions
    assert "LISPMOB-VIA-2" in made.chains


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("bpf", ["replies by the uplink that the question came in by"]),
        ("comment", []),
        ("multiport", []),
        ("owner", ["rule 'user' (needs owner)"]),
        ("statistic", ["the weights of rule 'rest'"]),
        ("connmark", ["replies by the uplink that the question came in by", "the weights of rule 'rest'"]),
    ],
)
def test_what_is_lost_without_an_extension_is_named(missing: str, lost: list[str]) -> None:
    compiled = Policy((CALLS, SPREAD, via("user", "wlan0", users=(Span(5, 5),)))).compile((CABLE, WIFI))

    assert list(chain_text(compiled, QUEUES, 4, missing=frozenset({missing})).lost) == lost


@pytest.fixture
def by_nft(host: LaneHost) -> Iterator[Steered]:
    """One device, a queue for each lane, and chains by nft."""
    steered = Steered(host, "nft")
    steered.chain = MarkChain((Nftables(4), Nftables(6)))
    yield steered
    with host.namespace.entered():
        asyncio.run(steered.chain.clean_up())


@pytest.mark.netns
@pytest.mark.parametrize("family", [4, 6])
def test_nft_steers_by_port_user_and_dscp_and_says_that_replies_are_left_out(by_nft: Steered, family: int) -> None:
    user = via("backup", "wlan0", users=(Span(34, 34),), protocols=(17,))
    by_nft.apply(CALLS, via("voice", "wwan0", dscp=(46,)), user)

    def voice(sock: socket.socket) -> None:
        level, option = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}[family]
        sock.setsockopt(level, option, 46 << 2)

    assert by_nft.host.lane_of(PEER[family], 5004) == 2
    assert by_nft.host.lane_of(PEER[family], 81) == DEFAULT
    assert by_nft.host.lane_of(PEER[family], 81, prepare=voice) == 4
    assert [problem.key for problem in by_nft.problems] == ["chain-incomplete"] * 2
    assert "nft does not take the extension bpf" in by_nft.problems[0].cause
    if family == 4:
        assert send_as(by_nft.host, 34, 0) == 3


@pytest.mark.netns
@pytest.mark.skipif(cgroups.root() is None, reason="no unified control group hierarchy")
@pytest.mark.parametrize("family", [4, 6])
def test_nft_steers_by_the_program_that_sends(by_nft: Steered, family: int) -> None:
    base = cgroups.root()
    assert base is not None
    app, other = (
        f"user.slice/app-{name}-{os.getpid()}.scope" for name in ("gnome-org.mozilla.lmfirefox", "org.example.lmother")
    )
    rules = (via("browser", "wwan0", app="lmfirefox"), via("rest", "cable0"))
    groups = [base / path for path in (app, other)]
    try:
        for group in groups:
            group.mkdir(parents=True)
        by_nft.apply(*rules)

        lanes = {path: lane_from_group(by_nft.host, base / path, PEER[family]) for path in (app, other)}
    finally:
        for group in groups:
            group.rmdir()
        with contextlib.suppress(OSError):
            groups[0].parent.rmdir()

    assert lanes == {app: 4, other: 2}
    assert "cgroup" not in " ".join(problem.cause for problem in by_nft.problems)


def lane_from_group(host: LaneHost, group: Path, peer: str) -> int | None:
    """The lane of a packet that a process in this control group sends."""
    token = os.urandom(8).hex()
    into = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    inside = ["nsenter", f"--net=/run/netns/{host.namespace.name}"]
    subprocess.run([*inside, "sh", "-ec", into, "sh", *sender(peer, token)], check=True, timeout=10)
    return host.find(token.encode())


@pytest.mark.netns
def test_nft_leaves_marks_of_others_alone_spreads_by_weight_and_takes_itself_out_again(by_nft: Steered) -> None:
    host = by_nft.host
    before = host.run("nft list ruleset")
    host.run("iptables-nft -t mangle -A OUTPUT -d 10.0.1.2 -j MARK --set-mark 9")
    by_nft.apply(SPREAD)
    sockets = [host.open_socket() for _ in range(120)]
    try:
        rounds = []
        for number in range(2):
            for flow, sock in enumerate(sockets):
                sock.sendto(f"{number}/{flow}".encode(), (PEER[4], 9))
            rounds.append([host.find(f"{number}/{flow}".encode()) for flow in range(len(sockets))])
    finally:
        for sock in sockets:
            sock.close()

    assert host.lane_of("10.0.1.2") == UNUSABLE
    assert rounds[0] == rounds[1]
    assert 0.55 < Counter(rounds[0])[2] / len(sockets) < 0.95
    host.run("iptables-nft -t mangle -F OUTPUT")
    with host.namespace.entered():
        asyncio.run(by_nft.chain.clean_up())
    assert "lispmob" not in host.run("nft list ruleset")
    assert "lispmob" not in before


@pytest.mark.netns
def test_chains_by_nft_that_were_flushed_are_repaired(by_nft: Steered) -> None:
    host = by_nft.host
    nat = NatChain((Nftables(4), Nftables(6)))
    by_nft.apply(CALLS)
    with host.namespace.entered():
        eids = [ip_network("10.1.0.1/32")]
        assert asyncio.run(nat.apply(eids, "lmn0")) == ()
        host.run("nft flush ruleset")
        asyncio.run(nat.apply(eids, "lmn0", is_repair=True))
        compiled = Policy((CALLS,)).compile(ALL)
        asyncio.run(by_nft.chain.apply(compiled, host.hooks(), is_repair=True))
        tables = host.run("nft list tables")
        asyncio.run(nat.clean_up())

    assert {"table ip lispmob_nat", "table ip lispmob_mangle", "table ip6 lispmob_mangle"} <= set(tables.splitlines())
    assert host.lane_of(PEER[4], 5004) == 2


@pytest.mark.netns
@pytest.mark.parametrize("missing", ["-m bpf", "connmark", "conntrack", "comment", "multiport", "statistic"])
def test_a_rule_works_although_iptables_lacks_an_extension_and_all_of_it_comes_back(
    host: LaneHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    for name in ("iptables-nft", "ip6tables-nft"):
        wrapper = tmp_path / f"{name}-restore"
        wrapper.write_text(
            f'#!/bin/sh\nt=$(cat)\nif [ -e {broken} ] && echo "$t" | grep -qie "{missing}"; then\n'
            f'echo "line 1: failed" >&2; exit 1; fi\necho "$t" | exec /usr/sbin/{name}-restore "$@"\n'
        )
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    steered = Steered(host, "nft")
    steered.apply(CALLS, SPREAD)

    assert steered.host.lane_of(PEER[4], 80) == 2
    assert steered.host.lane_of(PEER[4], 9) in (2, 3)
    assert [problem.key for problem in steered.problems] == ["chain-incomplete"] * 2

    broken.unlink()
    with host.namespace.entered():
        compiled = Policy((CALLS, SPREAD)).compile(ALL)
        assert asyncio.run(steered.chain.apply(compiled, host.hooks(), is_repair=True)) == ()
    assert missing.split()[-1] in "\n".join(steered.saved()).lower()
    steered.clean_up()


class Fake:
    """A program that answers as the test says."""

    lacks: frozenset[str] = frozenset()
    family = 4

    def __init__(self, name: str, refusal: Exception | None = None) -> None:
        self.name = name
        self.refusal = refusal
        self.holds: dict[str, ChainText] = {}

    async def put(self, table: str, text: ChainText) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.holds[table] = text

    async def stands(self, table: str, text: ChainText) -> bool:
        return self.holds.get(table) == text

    async def remove(self, table: str) -> None:
        self.holds.pop(table, None)

    async def takes(self, table: str, extension: str) -> bool:
        return True


def test_every_trial_is_a_rule_that_real_programs_can_be_asked_about() -> None:
    for extension, line in TRIALS.items():
        assert ChainText((), (f"-A X {line}",), ()).extensions >= {extension}
        if extension not in LACKS:
            script("mangle", 4, ChainText(("X",), (f"-A X {line}",), ()))
