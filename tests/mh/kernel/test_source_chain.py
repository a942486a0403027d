"""A host whose own rules translate all that leaves it: what enters the overlay keeps its EID, the rest is theirs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.mh.kernel.chain import OTHERS, PROGRAMS
from lispmob.mh.kernel.nat_chain import NatChain
from lispmob.mh.kernel.source_chain import in_listing

EIDS = [ip_network(text) for text in ("10.1.0.1/32", "10.1.1.0/24", "2001:db8:e::1/128")]
BY_IPTABLES = [
    "iptables-nft -t nat -A POSTROUTING -j SNAT --to-source 198.51.100.2",
    "iptables-nft -t nat -A POSTROUTING ! -o lo -j SNAT --to-source 198.51.100.2-198.51.100.9",
    "ip6tables-nft -t nat -A POSTROUTING -j SNAT --to-source 2001:db8:1::2",
]
BY_NFT = """
table inet mine {{
  chain out {{
    type nat hook postrouting priority {priority};
    ip saddr 10.0.0.0/8 snat ip to 198.51.100.2
    ip6 saddr 2001:db8::/32 snat ip6 to 2001:db8:1::2
  }}
}}
"""


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """A host with EIDs at a device `lmn0`, and what is behind it."""
    with NamespaceSet("src") as spaces:
        host, behind = spaces.make("host"), spaces.make("behind")
        host.run("ip", "link", "add", "lmn0", "type", "veth", "peer", "name", "far", "netns", behind.name)
        host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wan", "netns", behind.name)
        for space in (host, behind):
            space.sysctl("ipv6/conf/all/accept_dad", "0")
            space.sysctl("ipv6/conf/default/accept_dad", "0")
        for space, device, *addresses in (
            (host, "lmn0", "10.1.0.1/16", "10.1.1.7/32", "2001:db8:e::1/64"),
            (host, "eth0", "198.51.100.1/24", "2001:db8:1::1/64"),
            (behind, "far", "10.1.0.2/16", "2001:db8:e::2/64"),
            (behind, "wan", "198.51.100.3/24", "2001:db8:1::3/64"),
        ):
            space.run("ip", "link", "set", device, "up")
            for address in addresses:
                space.run("ip", "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        yield host, behind


def seen(pair: tuple[Namespace, Namespace], source: str, destination: str) -> str:
    """The source of one UDP packet, as the other side sees it."""
    host, behind = pair
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with behind.socket(family, socket.SOCK_DGRAM) as receiver, host.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.settimeout(5)
        receiver.bind((destination, 0))
        sender.bind((source, 0))
        sender.sendto(os.urandom(8), receiver.getsockname()[:2])
        return str(receiver.recvfrom(64)[1][0])


def keep(host: Namespace, nat: NatChain, *, is_repair: bool = False) -> list[str]:
    with host.entered():
        return [found.key for found in asyncio.run(nat.apply([], "lmn0", "lmn0-", kept=EIDS, is_repair=is_repair))]


def by_nft(host: Namespace, priority: int) -> None:
    host.run("nft", BY_NFT.format(priority=priority))


def assert_kept(pair: tuple[Namespace, Namespace]) -> None:
    assert seen(pair, "10.1.0.1", "10.1.0.2") == "10.1.0.1"
    assert seen(pair, "10.1.1.7", "10.1.0.2") == "10.1.1.7"
    assert seen(pair, "2001:db8:e::1", "2001:db8:e::2") == "2001:db8:e::1"


@pytest.mark.netns
@pytest.mark.parametrize("command", BY_IPTABLES)
def test_a_translation_by_iptables_leaves_the_eids_alone(pair: tuple[Namespace, Namespace], command: str) -> None:
    host, _ = pair
    host.run(*command.split())
    source, destination = ("2001:db8:e::1", "2001:db8:e::2") if "ip6" in command else ("10.1.0.1", "10.1.0.2")
    assert seen(pair, source, destination) != source

    assert keep(host, NatChain()) == []

    assert_kept(pair)


@pytest.mark.netns
@pytest.mark.parametrize("priority", [100, 60, 300])
def test_a_translation_by_nft_leaves_the_eids_alone(pair: tuple[Namespace, Namespace], priority: int) -> None:
    by_nft(pair[0], priority)
    assert seen(pair, "10.1.0.1", "10.1.0.2") == "198.51.100.2"

    assert keep(pair[0], NatChain()) == []

    assert_kept(pair)


@pytest.mark.netns
def test_a_translation_by_legacy_iptables_leaves_the_eids_alone(pair: tuple[Namespace, Namespace]) -> None:
    pair[0].run(*BY_IPTABLES[0].replace("-nft", "-legacy").split())

    assert keep(pair[0], NatChain()) == []

    assert_kept(pair)


@pytest.mark.netns
def test_without_nft_iptables_does_it_and_rules_that_come_later_are_behind(
    pair: tuple[Namespace, Namespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = pair
    for program in ("iptables", "iptables-save", "iptables-restore", "iptables-nft", "iptables-nft-save"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
        (tmp_path / f"ip6{program[2:]}").symlink_to(str(shutil.which(f"ip6{program[2:]}")))
    host.run(*BY_IPTABLES[0].split())
    nat = NatChain([program for program in PROGRAMS if program.name != "nft"])

    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        assert keep(host, nat) == []
        assert keep(host, nat, is_repair=True) == []
    host.run(*BY_IPTABLES[1].split())

    assert seen(pair, "10.1.0.1", "10.1.0.2") == "10.1.0.1"
    assert seen(pair, "10.1.1.7", "10.1.0.2") == "10.1.1.7"
    assert host.run("iptables-nft", "-t", "nat", "-S", "POSTROUTING").splitlines()[1].endswith("LISPMOB-SOURCE")
    with host.entered(), monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        asyncio.run(nat.clean_up())
    assert "LISPMOB" not in host.run("iptables-nft", "-t", "nat", "-S")


@pytest.mark.netns
def test_what_leaves_natively_and_what_has_no_eid_is_translated_as_the_host_wants(
    pair: tuple[Namespace, Namespace],
) -> None:
    host, _ = pair
    host.run("ip", "addr", "add", "10.9.0.1/32", "dev", "eth0")
    host.run(*BY_IPTABLES[0].split())
    keep(host, NatChain())

    assert seen(pair, "10.9.0.1", "10.1.0.2") == "198.51.100.2"
    assert seen(pair, "10.1.0.1", "198.51.100.3") == "198.51.100.2"


@pytest.mark.netns
def test_a_host_without_such_chains_gets_none_and_one_that_comes_later_is_found(
    pair: tuple[Namespace, Namespace],
) -> None:
    host, _ = pair
    nat = NatChain()
    keep(host, nat)
    before = host.run("nft", "list", "tables")
    by_nft(host, 100)

    keep(host, nat, is_repair=True)

    assert before == ""
    assert_kept(pair)
    host.run("nft", "delete", "table", "inet", "mine")
    keep(host, nat, is_repair=True)
    assert host.run("nft", "list", "tables") == ""


@pytest.mark.netns
def test_a_flush_is_repaired_and_nothing_is_left_behind(pair: tuple[Namespace, Namespace]) -> None:
    host, _ = pair
    nat = NatChain()
    by_nft(host, 100)
    keep(host, nat)
    host.run("nft", "flush", "ruleset")
    by_nft(host, 100)

    keep(host, nat, is_repair=True)

    assert_kept(pair)
    with host.entered():
        asyncio.run(NatChain((*PROGRAMS, *OTHERS)).clean_up())
    assert "lispmob" not in host.run("nft", "list", "ruleset")


CHAIN = {"family": "ip", "table": "nat", "name": "POSTROUTING", "type": "nat", "hook": "postrouting", "prio": 100}


@pytest.mark.parametrize(
    ("change", "families"),
    [
        ({}, [4]),
        ({"family": "ip6"}, [6]),
        ({"family": "inet", "table": "firewalld"}, [4, 6]),
        ({"hook": "prerouting"}, []),
        ({"type": "filter"}, []),
        ({"table": "lispmob_nat"}, []),
        ({"table": "lispmob_source"}, []),
        ({"type": None, "hook": None}, []),
    ],
)
def test_a_chain_of_others_for_source_translation_is_told_from_the_rest(
    change: dict[str, str | None], families: list[int]
) -> None:
    listing = json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, {"chain": CHAIN | change}]})

    assert [family for family in (4, 6) if in_listing(listing, family)] == families


@pytest.mark.parametrize("listing", ["", "[]", '{"nftables": 3}', '{"nftables": [3]}', '{"nftables": [{"chain": 3}]}'])
def test_a_listing_that_is_none_names_no_chain(listing: str) -> None:
    assert not in_listing(listing, 4)
