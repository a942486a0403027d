"""The part of lispd.conf for steering, which traffic uses which uplink: `steering:` and `multihoming:`."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias, cast

from msgspec import field

from lispmob.config.reader import Section
from lispmob.config.values import (
    InterfacePattern,
    Network,
    NetworkName,
    Text,
    Weight,
    YesNo,
    duration,
    one_of,
    or_word,
    plain,
    whole,
)
from lispmob.mh.policy import COPIES_MAX, DEFAULT_MASK, MarkMask, Otherwise, Policy, Rule, Via
from lispmob.mh.selector import DSCP_MAX, ID_MAX, PORT_MAX, PROTOCOLS, Selector, Span

_DSCP_NAMES: Final = {"ef": 46, "va": 44, "le": 1, "cs0": 0} | {f"cs{n}": 8 * n for n in range(1, 8)}
FLOW_CLASSES: Final = ("default", "voice", "video", "interactive", "bulk", "background")
"""Of flows to names, as lispmob/flow/quality.py numbers them."""
_DSCP_AF: Final = {f"af{c}{d}": 8 * c + 2 * d for c in range(1, 5) for d in range(1, 4)}


def _mask(text: str) -> MarkMask:
    return MarkMask(int(text, 0))


def read_protocol(text: str) -> int:
    """The number of a protocol, from its number or name. Raises ValueError."""
    number = PROTOCOLS.get(text.lower())
    if number is None and not (text.isdecimal() and int(text) <= 255):
        raise ValueError
    return int(text) if number is None else number


def read_dscp(text: str) -> int:
    """A DSCP from its number or name. Raises ValueError."""
    number = (_DSCP_NAMES | _DSCP_AF).get(text.lower())
    if number is None and not (text.isdecimal() and int(text) <= DSCP_MAX):
        raise ValueError
    return int(text) if number is None else number


def _span(most: int) -> Callable[[str], Span]:
    def read(text: str) -> Span:
        found = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", text)
        if found is None:
            raise ValueError
        span = Span(int(found[1]), int(found[2] or found[1]))
        if not span.first <= span.last <= most:
            raise ValueError
        return span

    return read


def read_user(text: str) -> Span:
    """User ids: of a name, a number, or a range. Raises ValueError."""
    if text[:1].isdecimal():
        return _span(ID_MAX)(text)
    try:
        uid = pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError from None
    return Span(uid, uid)


def read_group(text: str) -> Span:
    """Group ids: of a name, a number, or a range. Raises ValueError."""
    if text[:1].isdecimal():
        return _span(ID_MAX)(text)
    try:
        gid = grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError from None
    return Span(gid, gid)


def _rule_name(text: str) -> str:
    return Rule(text).name


def _origin(text: str) -> str:
    return Selector(from_interface=text).from_interface or ""


def _app(text: str) -> str:
    return Selector(app=text).app or ""


def _flow_pattern(text: str) -> str:
    if not 1 <= len(text.encode()) <= 255 or not text.isprintable():
        raise ValueError
    return text.lower()


def read_cgroup(text: str) -> str:
    """The path of a control group. Raises ValueError."""
    return Selector(cgroup=text).cgroup or ""


class ViaSection(Section, frozen=True, kw_only=True):
    """An uplink of a rule in its long form, with its share of the rule's flows."""

    name: InterfacePattern
    weight: Weight = 0

    def to_via(self) -> Via:
        """The same, as steering knows it."""
        return Via(self.name, self.weight)


PortRange: TypeAlias = Annotated[Span, plain(_span(PORT_MAX), "a port from 0 to 65535, or a range such as 5000-5010")]
ViaEntry: TypeAlias = Annotated[
    Via,
    Text(
        lambda text, _directory: Via(text),
        "an uplink's name or pattern, or lines 'name:' and 'weight:'",
        mapping=ViaSection,
        from_mapping=ViaSection.to_via,
    ),
]


class RuleSection(Section, frozen=True, kw_only=True):
    """One steering rule; every key that is given must match, and of a list one entry."""

    name: Annotated[
        str, plain(_rule_name, "a name of 1 to 64 letters (a to z, without accents), digits, spaces and _.:/+-")
    ]
    to: tuple[Network, ...] = ()
    from_: tuple[Network, ...] = field(name="from", default=())
    protocol: tuple[
        Annotated[int, plain(read_protocol, f"a number to 255, or one of {', '.join(PROTOCOLS)}")], ...
    ] = ()
    ports: tuple[PortRange, ...] = ()
    source_ports: tuple[PortRange, ...] = ()
    dscp: tuple[Annotated[int, plain(read_dscp, "a number from 0 to 63, or a name such as ef, cs1 or af41")], ...] = ()
    user: tuple[Annotated[Span, plain(read_user, "a user of this host, a number, or a range of numbers")], ...] = ()
    group: tuple[Annotated[Span, plain(read_group, "a group of this host, a number, or a range of numbers")], ...] = ()
    cgroup: Annotated[str | None, plain(read_cgroup, "a control group's path, such as user.slice/backup.service")] = (
        None
    )
    app: Annotated[str | None, plain(_app, "a program or desktop file, such as firefox or org.gnome.Epiphany*")] = None
    from_interface: Annotated[str | None, plain(_origin, "an interface name, or the beginning of one and *")] = None
    flow: Annotated[str | None, plain(_flow_pattern, "a flow's name, or a pattern such as voice*")] = None
    class_: tuple[Annotated[str, one_of(*FLOW_CLASSES)], ...] = field(name="class", default=())
    network: tuple[NetworkName, ...] = ()
    via: tuple[ViaEntry, ...] = ()
    metered: YesNo | None = None
    copies: Annotated[int, whole(1, COPIES_MAX)] = 1
    otherwise: Annotated[str, one_of("fallback", "drop")] = "fallback"

    def __post_init__(self) -> None:
        self.to_rule()

    def to_rule(self) -> Rule:
        """The rule as steering knows it. Raises ValueError with a sentence for what cannot be."""
        selector = Selector(
            destinations=self.to,
            sources=self.from_,
            protocols=self.protocol,
            destination_ports=self.ports,
            source_ports=self.source_ports,
            dscp=self.dscp,
            users=self.user,
            groups=self.group,
            cgroup=self.cgroup,
            app=self.app,
            from_interface=self.from_interface,
            flow_name=self.flow,
            flow_classes=self.class_,
        )
        return Rule(
            self.name,
            selector,
            self.via,
            may_cost=self.metered is not False,
            otherwise=cast(Otherwise, self.otherwise),
            networks=self.network,
            copies=self.copies,
            may_copy_cost=self.metered is True,
        )


class SteeringSection(Section, frozen=True, kw_only=True):
    """Marks and rules. `mask` None: bits that no other routing rule uses when lispd starts."""

    mask: Annotated[MarkMask | None, or_word("auto", plain(_mask, "a mask of adjacent bits, such as 0xffff"))] = None
    unusable_mark: Annotated[str, one_of("fallback", "drop")] = "fallback"
    replies: YesNo = True
    rules: tuple[RuleSection, ...] = ()

    def __post_init__(self) -> None:
        self.to_policy()

    def to_policy(self) -> Policy:
        """The policy as steering knows it. Raises ValueError with a sentence for what cannot be."""
        rules = tuple(rule.to_rule() for rule in self.rules)
        return Policy(rules, self.mask or MarkMask(DEFAULT_MASK), cast(Otherwise, self.unusable_mark), self.replies)


class MultihomingSection(Section, frozen=True, kw_only=True):
    """How several uplinks are used together.

    `mode` legacy: all are registered and receive, and packets leave by the host's default one alone. `prefer`: what
    decides among uplinks, or remote locators, of one priority; a rival has to be clearly better for `hold_s`.
    """

    mode: Annotated[str, one_of("full", "legacy")] = "full"
    prefer: Annotated[str, one_of("weight", "latency", "loss", "cost")] = "weight"
    hold_s: Annotated[float, duration("s", 1, 600)] = field(name="hold", default=10.0)
