"""Which bits of marks other programs use: read from what iptables-save and `nft -j list ruleset` print."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.mh.mark_uses import MarkUse, of_iptables, of_nftables

KUBE_PROXY = """\
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-SVC-TCOU7JCQXEZGVUNU ! -s 10.42.0.0/16 -d 10.43.0.10/32 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
COMMIT
*filter
-A KUBE-FIREWALL -m comment --comment "drop" -m mark --mark 0x8000/0x8000 -j DROP
COMMIT"""
PODMAN = """\
*nat
-A NETAVARK-HOSTPORT-MASQ -m comment --comment "netavark portfw masq mark" -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A NETAVARK-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
COMMIT"""
TAILSCALE = """\
*filter
-A ts-forward -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000
-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT
COMMIT"""
CILIUM = """\
*mangle
-A CILIUM_PRE_mangle -m socket --transparent -m mark ! --mark 0xe00/0xf00 -m comment --comment "x" -j MARK --set-xmark 0x200/0xffffffff
-A CILIUM_PRE_mangle -p tcp -m mark --mark 0x3b3e0200 -j TPROXY --on-port 16059 --on-ip 127.0.0.1 --tproxy-mark 0x200/0xffffffff
COMMIT"""  # noqa: E501
MWAN3 = """\
*mangle
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
-A mwan3_hook -j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00
COMMIT"""
UNIFI = """\
*mangle
-A UBIOS_WF_GROUP_1 -m connmark ! --mark 0x0/0x7e0000 -j CONNMARK --restore-mark --nfmask 0x7e0000 --ctmask 0x7e0000
-A UBIOS_WF_GROUP_1 -m statistic --mode random --probability 0.99 -j MARK --set-xmark 0x1a0000/0x7e0000
COMMIT"""
WHOLE = """\
*mangle
-A PREROUTING -p udp -m comment --comment "wg-quick(8) rule for wg0" -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A POSTROUTING -p udp -m mark --mark 0xca6c -m comment --comment "wg-quick(8)" -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A OUTPUT -p udp -m udp --dport 4789 -m u32 --u32 "0x0>>0x16&0x3c@0xc&0xffffff00=0x100100" -j MARK --set-xmark 0xd0c4e3/0xffffffff
-A OUTPUT -d 10.1.0.2/32 -j MARK --set-xmark 0x3/0xffffffff
COMMIT"""  # noqa: E501


@pytest.mark.parametrize(
    ("saved", "bits"),
    [
        (KUBE_PROXY, {0x4000, 0x8000}),
        (PODMAN, {0x2000}),
        (TAILSCALE, {0xFF0000}),
        (CILIUM, {0xF00}),
        (MWAN3, {0x3F00}),
        (UNIFI, {0x7E0000}),
        (WHOLE, set()),
        ("*mangle\n-A OUTPUT -j MARK --set-xmark 0x0/0xf0", {0xF0}),  # --and-mark
        ("*mangle\n-A OUTPUT -m connmark --mark 0x80/0x80 -j ACCEPT", {0x80}),
        ("*mangle\n-A PREROUTING -p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1", {0x1}),
        ('*mangle\n-A OUTPUT -m comment --comment "see --mark 0x1/0x7 below" -j ACCEPT', set()),
        ("*mangle\n-A LISPMOB-VIA-3 -j MARK --set-xmark 0x3/0xffff", set()),
        ("*raw\n-A PREROUTING -m recent --rcheck --mask 255.255.255.255 --name x", set()),
        ("*mangle\n-A OUTPUT -j MARK --set-xmark", set()),
        ("", set()),
    ],
    ids=[
        "kube-proxy", "podman", "tailscale", "cilium", "mwan3", "unifi", "whole marks", "and", "connmark", "tproxy",
        "comment", "ours", "another mask", "truncated", "empty",
    ],
)  # fmt: skip
def test_bits_in_rules_of_iptables_are_found_by_their_masks(saved: str, bits: set[int]) -> None:
    assert {use.bits for use in of_iptables(saved.splitlines(), "iptables")} == bits


def test_a_use_names_the_table_and_the_rule() -> None:
    [use] = of_iptables(PODMAN.replace("-m mark --mark 0x2000/0x2000 ", "").splitlines(), "iptables-nft")

    assert use == MarkUse(
        0x2000, "`iptables-nft -t nat` has `-A NETAVARK-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000`"
    )


META = {"meta": {"key": "mark"}}
CT = {"ct": {"key": "mark"}}


def ruleset(*expressions: object, table: str = "other", chain: str = "c") -> object:
    rule = {"family": "inet", "table": table, "chain": chain, "expr": list(expressions)}
    return {"nftables": [{"metainfo": {}}, {"rule": rule}]}


def matching(left: object, right: object, op: str = "==") -> object:
    return {"match": {"op": op, "left": left, "right": right}}


def setting(key: object, value: object) -> object:
    return {"mangle": {"key": key, "value": value}}


@pytest.mark.parametrize(
    ("expression", "bits"),
    [
        (setting(META, {"|": [META, 0x4000]}), {0x4000}),
        (setting(META, {"^": [META, 0x4000]}), {0x4000}),
        (matching({"&": [META, 0x4000]}, 0), {0x4000}),
        (matching({"&": [CT, 0xFF0000]}, 0x40000, "!="), {0xFF0000}),
        (setting(META, {"&": [CT, 0x3F00]}), {0x3F00}),
        (setting(CT, {"&": [META, 0xFF0000]}), {0xFF0000}),
        (setting(META, {"|": [{"&": [META, 0xFFFF00FF]}, 0x100]}), {0xFF00}),
        (setting(META, {"&": [META, 0xFFFF0000]}), {0xFFFF}),
        (setting(CT, {"|": [{"&": [CT, 0xFFFFFF00]}, {"&": [META, 0xF]}]}), {0xFF}),
        ({"vmap": {"key": {"&": [META, 0xFF]}, "data": {"set": [[1, {"accept": None}]]}}}, {0xFF}),
        (matching({"&": [META, 0xF0]}, {"set": [16, 32]}), {0xF0}),
        (setting(META, {"map": {"key": {"&": [CT, 0x30]}, "data": {"set": [[16, 1]]}}}), {0x30}),
        (setting(META, 7), set()),
        (setting(META, CT), set()),
        (matching(META, 0xCA6C), set()),
        (matching(CT, {"range": [1, 9]}), set()),
        (setting(META, {"map": {"key": {"numgen": {"mode": "random", "mod": 2}}, "data": {"set": [[0, 256]]}}}), set()),
        (matching({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, 6]}, 2), set()),
        ({"xt": {"type": "target", "name": "MARK"}}, set()),
    ],
)
def test_bits_in_rules_of_nftables_are_found_in_masks_and_in_what_changes(expression: object, bits: set[int]) -> None:
    assert {use.bits for use in of_nftables(ruleset({"counter": None}, expression))} == bits


def test_our_own_tables_of_nftables_and_our_chains_in_those_of_iptables_are_no_use_of_others() -> None:
    mine = setting(META, {"|": [{"&": [META, 0xFFFF0000]}, 3]})

    assert of_nftables(ruleset(mine, table="lispmob_mangle")) == ()
    assert of_nftables(ruleset(mine, table="mangle", chain="LISPMOB-VIA-3")) == ()
    assert [use.where for use in of_nftables(ruleset(mine))] == ["the chain `inet other c` of nftables uses 0xffff"]


words = st.recursive(
    st.none() | st.integers(-1, 1 << 33) | st.sampled_from(["mark", "meta", "&"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["&", "|", "^", "mangle", "match", "key", "value", "meta", "left"]), inner)
    ),
)


@given(words)
def test_a_ruleset_of_any_shape_is_read(expression: object) -> None:
    for entry in (ruleset(expression), {"nftables": expression}, expression, json.loads(json.dumps(expression))):
        assert all(0 < use.bits < 0xFFFFFFFF for use in of_nftables(entry))


@given(st.text(st.characters(codec="ascii")))
def test_a_listing_of_any_text_is_read(text: str) -> None:
    assert all(use.bits for use in of_iptables(f"*nat\n-A X --mark {text}".splitlines(), "iptables"))
