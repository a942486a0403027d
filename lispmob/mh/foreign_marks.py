"""What other programs' rules in the mangle table do to a packet's mark, as far as their text shows; pure.

Used only for explanations: the kernel marks the packets. Selection by address, protocol, port, interface, user, group
and mark is understood. Of any other rule we say that it may change the mark.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Final

import msgspec

from lispmob.mh.selector import PROTOCOLS, Flow

_ENDING: Final = frozenset({"ACCEPT", "RETURN"})
_HARMLESS: Final = frozenset(
    {None, "DROP", "REJECT", "LOG", "NFLOG", "TCPMSS", "TTL", "HL", "DSCP", "TOS", "CT", "NOTRACK", "CLASSIFY"}
)
_FLAGS: Final = frozenset({"--restore-mark", "--save-mark"})
_MODULES: Final = frozenset({"tcp", "udp", "comment", "mark", "owner", "sctp"})


class Met(msgspec.Struct, frozen=True):
    """Another program's rule that matches the packet. `mark` is the result; None: unknown."""

    line: str
    mark: int | None


def split_at(lines: Iterable[str], jump_prefix: str) -> tuple[list[str], list[str]]:
    """The rules before and after the last one that jumps to a chain whose name begins with `jump_prefix`."""
    everything = list(lines)
    ours = [place for place, line in enumerate(everything) if f" -j {jump_prefix}" in line]
    if not ours:
        return everything, []
    mine = set(ours)
    return [line for place, line in enumerate(everything[: ours[-1]]) if place not in mine], everything[ours[-1] + 1 :]


def walk(lines: Iterable[str], flow: Flow, out_interface: str, mark: int | None) -> list[Met]:
    """The rules of one chain, in order, that may change the mark of this packet, whose mark is first `mark`."""
    met: list[Met] = []
    for line in lines:
        rule = _Rule.read(line)
        fits = rule.fits(flow, out_interface, mark)
        if fits is False or rule.is_harmless:
            continue
        if rule.target in _ENDING and fits:
            break
        if rule.target == "MARK" and rule.sets is not None and fits and mark is not None:
            value, mask = rule.sets
            mark = mark & ~mask & 0xFFFFFFFF ^ value
        else:
            mark = None
        met.append(Met(line, mark))
    return met


class _Rule(msgspec.Struct, frozen=True):
    """A parsed rule. `checks`: (option, value, is_negated); `is_clear` False: parts of it are not understood."""

    target: str | None
    sets: tuple[int, int] | None
    checks: tuple[tuple[str, str, bool], ...]
    is_clear: bool
    restores: bool

    @classmethod
    def read(cls, line: str) -> _Rule:
        checks: list[tuple[str, str, bool]] = []
        target, sets, is_clear, restores = None, None, True, False
        words = iter(shlex.split(line)[2:])
        is_negated = False
        for word in words:
            if word == "!":
                is_negated = True
                continue
            if not word.startswith("-"):  # no option that we know has more than one value
                is_clear = False
                continue
            if word in _FLAGS:
                restores = restores or word == "--restore-mark"
                continue
            value = next(words, "")
            if word in ("-j", "-g"):
                target = value
            elif word == "-m":
                is_clear = is_clear and value in _MODULES
            elif word == "--comment":
                pass
            elif word in ("--set-xmark", "--set-mark"):
                number, _, mask = value.partition("/")
                sets = int(number, 0), int(mask or "0xffffffff", 0)
            else:
                checks.append((word, value, is_negated))
            is_negated = False
        return cls(target, sets, tuple(checks), is_clear, restores)

    @property
    def is_harmless(self) -> bool:
        """True when it does not change the packet's mark."""
        return self.target in _HARMLESS or (self.target == "CONNMARK" and not self.restores)

    def fits(self, flow: Flow, out_interface: str, mark: int | None) -> bool | None:
        """None: unknown."""
        verdicts = [_check(*check, flow, out_interface, mark) for check in self.checks]
        if False in verdicts:
            return False
        return None if None in verdicts or not self.is_clear else True


def _check(option: str, value: str, is_negated: bool, flow: Flow, out: str, mark: int | None) -> bool | None:
    fits: bool | None = None
    with contextlib.suppress(ValueError):
        match option:
            case "-s":
                fits = flow.source in ip_network(value, strict=False)
            case "-d":
                fits = flow.destination in ip_network(value, strict=False)
            case "-p":
                fits = flow.protocol == PROTOCOLS.get("icmpv6" if value == "ipv6-icmp" else value, -1)
                if value.isdecimal():
                    fits = flow.protocol == int(value)
            case "-o":
                fits = _is_named(out, value)
            case "-i":
                fits = _is_named(flow.from_interface or "", value)
            case "--dport" | "--sport":
                port = flow.destination_port if option == "--dport" else flow.source_port
                fits = None if port is None else port in _span(value)
            case "--uid-owner" | "--gid-owner":
                who = flow.uid if option == "--uid-owner" else flow.gid
                fits = None if who is None else who in _span(value.replace("-", ":"))
            case "--mark":
                number, _, mask = value.partition("/")
                fits = None if mark is None else mark & int(mask or "0xffffffff", 0) == int(number, 0)
    return None if fits is None else fits is not is_negated


def _is_named(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def _span(text: str) -> range:
    first, _, last = text.partition(":")
    return range(int(first), int(last or first) + 1)


def of_chain(saved: Iterable[str], chain: str) -> Iterator[str]:
    """The rules of one chain in the output of iptables-save."""
    return (line for line in saved if line.startswith(f"-A {chain} "))
