"""A problem: what does not work, why, and what to do about it.

A part of the daemon that notices something makes a `Problem` of it; `rules.py` makes one of what several parts know
together. All of them are in one list, in the order of `worst_first`, and everything that tells a user about them reads
that list: `lispctl status` and its exit code, D-Bus, the journal, `systemctl status`.

Sentences are short: `what` is one clause that still makes sense in `degraded: <what>`; `cause` and `remedy` are whole
and may be empty. None of them ends with a full stop. A name or a text from the network goes through `printable` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, Literal, TypeAlias

import msgspec

Verdict: TypeAlias = Literal["working", "degraded", "not-working"]


class Severity(IntEnum):
    """How much of the service a problem takes away."""

    NOTICE = 1
    """Nothing: everything works, and something is hardly meant or can be better."""
    DEGRADED = 2
    """A part: some peers, one of several uplinks, one of several Map-Servers."""
    BROKEN = 3
    """All: no packet gets through, or no peer can find this node."""


KEYS: Final[dict[str, str]] = {
    # the daemon
    "starting": "lispd has not finished its start, or no Map-Server has confirmed a registration yet",
    "stopping": "lispd is stopping",
    "kernel-refused": "the kernel does not hold an address, a route or a rule that is needed",
    "no-chain": "steering rules are not in the kernel: neither iptables nor nft could be used",
    "chain-incomplete": "steering rules do without an extension that the kernel or the tool lacks",
    "no-translation": "what leaves natively from an EID is not translated",
    "translated-source": "another program's NAT may replace the source of packets for the overlay",
    "foreign-rule": "a routing rule of another program takes our packets",
    "nearer-route": "a route of this host leads packets for a peer past the overlay",
    "mark-in-use": "another program has rules about bits of the mark that are ours",
    "unusable-mark": "packets were dropped because their mark names no usable uplink",
    "disk-full": "the state directory cannot be written",
    # the uplinks
    "offline": "no interface has an address and a default route",
    "refused-route": "a route or a rule of this host refuses what an uplink would send, such as a kill switch",
    "portal": "a network requires a login on its portal page",
    "no-address-of-family": "no uplink has an address of the Map-Server's family",
    "cannot-ask": "no Map-Request by this uplink is answered",
    "not-heard": "what this uplink sends is not received",
    "nobody-answers": "neither the mapping system nor a peer answers this host",
    "translated-family": "the Map-Server has IPv4 only, and is reached through a translator of unknown prefix (NAT64)",
    "no-rtr": "this uplink is behind a NAT, and no RTR is offered",
    "rtr-dead": "the RTR of this uplink does not answer",
    "rtr-deaf": "the RTR of this uplink confirms its registers, and passes nothing on to it",
    "port-filtered": "the network drops UDP port 4341, by which data goes to the RTR of this uplink",
    "odd-nat": "the NAT of this uplink gives data another outside address than registrations",
    "data-filtered": "UDP port 4341 is filtered: probes pass and data do not",
    "lossy-path": "packets are lost on a path that works otherwise",
    "path-mtu": "full-sized packets vanish on a path",
    "duplicate-address": "another host uses an address of an uplink",
    # the registration
    "name-not-found": "the host name of a server is not found",
    "no-answer": "a Map-Server answers nothing",
    "nobody-listens": "a Map-Server's host has no Map-Server",
    "unreachable": "the network says that it cannot reach a Map-Server",
    "sending-refused": "this host's own firewall refuses what goes to a Map-Server or to peers",
    "wrong-key": "a Map-Server has another key for this EID",
    "no-such-site": "a Map-Server has no site for this EID",
    "register-refused": "a Map-Server refuses the registration",
    "duplicate-eid": "another node registers the same EID",
    # the configuration
    "key-example": "the key is still the one of the example",
    "key-comment": "the rest of a line after a key was taken for a comment",
    "no-overlay-prefixes": "only replies go into the overlay",
    "eid-outside-overlay": "our EID lies in none of overlay-prefixes",
    "map-server-in-overlay": "a Map-Server's address lies inside overlay-prefixes",
    "overlapping-prefix": "an overlay prefix or EID covers the network of an uplink",
    "eid-in-use": "our EID is the address of an uplink, or of its gateway",
    "own-prefix": "a peer's EID lies inside our own EID-Prefix",
    "eid-without-address": "an EID-Prefix is no single address, so the host has none of it",
    "no-such-uplink": "a rule names an uplink that no interface matches",
    "rule-never-counts": "a rule never counts, because an earlier one matches all of it",
    "odd-domain": "the domain of names is reserved, or in use elsewhere",
    # names
    "no-names": "lispd answers no DNS for the domain that is configured",
    "no-resolver": "systemd-resolved refuses the domain that lispd wants to serve",
    # genuine mappings
    "no-key-wrap": "this build has no LISP-SEC, so mappings are not proved",
    "lisp-sec-recording": "lispd makes a recording, which has no keys, so mappings are not proved",
    "no-lisp-sec": "a Map-Resolver's answers have no LISP-SEC, and are not accepted",
    "lisp-sec-unanswered": "a Map-Resolver does not answer Map-Requests with LISP-SEC",
    "lisp-sec-forged": "an answer was forged or changed on the way",
    "lisp-sec-algorithm": "an answer uses other algorithms of LISP-SEC than were asked for",
    "lisp-sec-overclaim": "an ETR answers for more than its Map-Server lets it",
    "lisp-sec-unsigned": "an ETR cannot sign its answer, and LISP-SEC is required",
    "lisp-sec-relayed": "an RTR asks in our place, so LISP-SEC proves nothing to us",
    # the peers
    "peer-unreachable": "no locator of a peer answers",
    "site-removed": "the Map-Server removed this site",
}
"""Every key, and what it means. Keys are stable: programs compare them, and the documentation lists them."""

EXIT_CODES: Final[dict[Verdict, int]] = {"working": 0, "degraded": 4, "not-working": 5}
"""What `lispctl status` ends with."""


class Problem(msgspec.Struct, frozen=True):
    """One problem. `subject` is what it is about, such as an EID-Prefix, an address, an interface; "": the whole node.

    Two problems of one key and subject are the same problem, however their sentences change.
    """

    key: str
    severity: Severity
    what: str
    cause: str = ""
    remedy: str = ""
    subject: str = ""

    def __post_init__(self) -> None:
        if self.key not in KEYS:
            raise ValueError(f"{self.key!r} is no key of a problem; KEYS has them all")

    @property
    def identity(self) -> tuple[str, str]:
        """What stays while it lasts."""
        return self.key, self.subject

    @property
    def sentence(self) -> str:
        """All of it in one line, for the journal."""
        cause = f": {self.cause}" if self.cause else ""
        return f"{self.what}{cause}" + (f"; {self.remedy}" if self.remedy else "")


def worst_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, the gravest first, and otherwise in the order of KEYS and as they came."""
    unique = {problem.identity: problem for problem in problems}
    order = {key: place for place, key in enumerate(KEYS)}
    return tuple(sorted(unique.values(), key=lambda one: (-one.severity, order[one.key])))


def verdict(problems: Iterable[Problem]) -> Verdict:
    """What the problems leave of the service."""
    worst = max((problem.severity for problem in problems), default=Severity.NOTICE)
    return "not-working" if worst is Severity.BROKEN else "degraded" if worst is Severity.DEGRADED else "working"


def headline(problems: Sequence[Problem]) -> str:
    """ "working", "degraded: <what>" or "not working: <what>"; `problems` in the order of `worst_first`."""
    found = verdict(problems)
    if found == "working":
        return "working"
    more = sum(problem.severity > Severity.NOTICE for problem in problems) - 1
    return f"{found.replace('-', ' ')}: {problems[0].what}" + (f" (and {more} more)" if more else "")


def printable(text: str) -> str:
    """A text from outside as it may stand in a sentence: no line breaks, no escapes of a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
