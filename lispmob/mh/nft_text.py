"""Our chains in the language of nft, for hosts without iptables; pure.

`chain_text.py` and `nat_chain.py` write our rules once, as iptables-restore reads them. This translates that small part
of the language, no more. A table of ours holds all of it, one per family and purpose, so that it comes and goes in one
transaction. Its chains hang right behind those of iptables, so that rules of the user's own come first, as they do with
iptables.
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
"""Extensions of iptables that nft has no word for: it cannot tell by which queue of a device a packet came in."""

_HOOKS: Final[Mapping[tuple[str, str], str]] = {
    ("mangle", "PREROUTING"): "type filter hook prerouting priority -149;",
    ("mangle", "FORWARD"): "type filter hook forward priority -149;",
    ("mangle", "OUTPUT"): "type route hook output priority -149;",
    ("nat", "POSTROUTING"): "type nat hook postrouting priority 101;",
}
"""One behind the priorities that iptables has there (NF_IP_PRI_MANGLE, NF_IP_PRI_NAT_SRC)."""

_PLAIN: Final[Mapping[str, str]] = {
    "--sport": "th sport",
    "--dport": "th dport",
    "--uid-owner": "meta skuid",
    "--gid-owner": "meta skgid",
}


def table_name(table: str) -> str:
    """Our own table that stands for one of iptables'."""
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
    """The same, where the control groups of the unified hierarchy stand below this place in what nft looks up."""
    return re.sub(r'(socket cgroupv2 level \d+ (?:!= )?")', rf"\1{place}/", script)


def removal(table: str, family: int) -> str:
    """The transaction that takes our table out, also where it is not."""
    name = f"{FAMILY_NAMES[family]} {table_name(table)}"
    return f"add table {name}\ndelete table {name}\n"


def rule(words: Iterable[str], family: int) -> str:
    """One rule, from the words behind `-A CHAIN`. Raises ValueError for words that are not of our language."""
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
        case "--comment":  # nft takes it behind the verdict only, and nobody needs it there
            return
        case "--mode":
            return
        case "--probability":
            yield f"numgen random mod 1000000 < {max(1, round(float(value) * 1000000))}"
        case "--set-xmark":
            number, _, mask = value.partition("/")
            yield f"& {~int(mask, 0) & 0xFFFFFFFF:#x} | {number}"
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
