"""Our chains in the language of nft, for hosts without iptables; pure.

`chain_text.py` and `nat_chain.py` write our rules in the syntax of iptables-restore. This translates just that part of
the syntax. One table per family and purpose holds all of it, and is created and removed in one transaction. Its chains
come right after those of iptables, so that the user's own rules come first, as with iptables.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from lispmob.mh.chain_text import ChainText

FAMILY_NAMES: Final = {4: "ip", 6: "ip6"}
LACKS: Final = frozenset({"bpf"})
"""Extensions of iptables that nft lacks: it cannot match the device queue that a packet came in by."""

_HOOKS: Final[Mapping[tuple[str, str], str]] = {
    ("mangle", "PREROUTING"): "type filter hook prerouting priority -149;",
    ("mangle", "FORWARD"): "type filter hook forward priority -149;",
    ("mangle", "OUTPUT"): "type route hook output priority -149;",
    ("nat", "POSTROUTING"): "type nat hook postrouting priority 101;",
    ("source", "POSTROUTING"): "type nat hook postrouting priority 50;",
}
"""One after the priorities of iptables (NF_IP_PRI_MANGLE, NF_IP_PRI_NAT_SRC); `source` before all that translate."""

_PLAIN: Final[Mapping[str, str]] = {
    "--sport": "th sport",
    "--dport": "th dport",
    "--uid-owner": "meta skuid",
    "--gid-owner": "meta skgid",
}


def table_name(table: str) -> str:
    """The name of our table in place of one of iptables'."""
    return f"lispmob_{table}"


def script(table: str, family: int, text: ChainText) -> str:
    """The transaction that makes our table hold exactly this, whatever it held before. Raises ValueError."""
    name = f"{FAMILY_NAMES[family]} {table_name(table)}"
    rules: defaultdict[str, list[str]] = defaultdict(list)
    for line in (*text.rules, *text.jumps):
        words = shlex.split(line)
        rules[words[1]].append(rule(words[2:], family))
    chains = dict.fromkeys((*text.chains, *rules))
    body = [f"  chain {chain} {{\n{_hook(table, chain)}{_lines(rules[chain])}  }}\n" for chain in chains]
    return f"add table {name}\ndelete table {name}\ntable {name} {{\n{''.join(body)}}}\n"


def with_groups_below(script: str, place: str) -> str:
    """The script with the control groups of the unified hierarchy below this place in nft's view."""
    return re.sub(r'(socket cgroupv2 level \d+ (?:!= )?")', rf"\1{place}/", script)


def removal(table: str, family: int) -> str:
    """The transaction that removes our table, if it exists."""
    name = f"{FAMILY_NAMES[family]} {table_name(table)}"
    return f"add table {name}\ndelete table {name}\n"


def rule(words: Iterable[str], family: int) -> str:
    """One rule, from the words after `-A CHAIN`. Raises ValueError for unsupported words."""
    given = iter(words)
    said: list[str] = []
    negation, module = "", ""
    for word in given:
        if word == "!":
            negation = "!= "
            continue
        value = next(given)
        if word == "-m":
            module = value
            continue
        if word == "--mark":
            said.append("ct mark" if module == "connmark" else "meta mark")
        said += _said(word, value, negation, family)
        negation = ""
    return " ".join(said)


def _said(word: str, value: str, negation: str, family: int) -> Iterator[str]:
    ip = FAMILY_NAMES[family]
    match word:
        case "-s" | "-d":
            yield f"{ip} {'saddr' if word == '-s' else 'daddr'} {negation}{value}"
        case "-i" | "-o":
            yield f'{"iifname" if word == "-i" else "oifname"} {negation}"{value.replace("+", "*")}"'
        case "-p":
            yield f"meta l4proto {negation}{value}"
        case "--sports" | "--dports":
            yield f"th {word[2:-1]} {negation}{{ {value.replace(':', '-').replace(',', ', ')} }}"
        case "--sport" | "--dport" | "--uid-owner" | "--gid-owner":
            yield f"{_PLAIN[word]} {negation}{value.replace(':', '-')}"
        case "--dscp":
            yield f"{ip} dscp {negation}{value}"
        case "--path":
            path = value.strip("/")
            yield f'socket cgroupv2 level {path.count("/") + 1} {negation}"{path}"'
        case "--mark":
            yield _mark(value, negation)
        case "--ctdir":
            yield f"ct direction {negation}{value.lower()}"
        case "--comment":  # nft allows it only after the verdict, and it is not needed there
            return
        case "--mode":
            return
        case "--probability":
            yield f"numgen random mod 1000000 < {max(1, round(float(value) * 1000000))}"
        case "--set-xmark":
            number, _, mask = value.partition("/")
            yield f"& {~int(mask, 0) & 0xFFFFFFFF:#x} | {number}"
        case "--to-source":
            yield f"snat to {value}"
        case "--to":
            yield f"snat prefix to {value}"
        case "-j" if value in ("SNAT", "NETMAP"):  # the address follows
            return
        case "-j" | "-g":
            yield _VERDICTS.get(value, f"{'goto' if word == '-g' else 'jump'} {value}")
        case _:
            raise ValueError(f"{word}: no word of nft stands for it")


def _mark(value: str, negation: str) -> str:
    number, _, mask = value.partition("/")
    return f"& {int(mask or '0xffffffff', 0):#x} {negation or '== '}{int(number, 0):#x}"


_VERDICTS: Final[Mapping[str, str]] = {
    "ACCEPT": "accept",
    "CONNMARK": "ct mark set ct mark",
    "DROP": "drop",
    "MARK": "meta mark set meta mark",
    "MASQUERADE": "masquerade",
    "RETURN": "return",
}


def _hook(table: str, chain: str) -> str:
    hook = _HOOKS.get((table, chain))
    return "" if hook is None else f"    {hook}\n"


def _lines(rules: Iterable[str]) -> str:
    return "".join(f"    {rule}\n" for rule in rules)
