"""The DNS domain of the overlay: how a question is answered, and which name has to be found for it. Pure.

`Zone.question` says what has to be known for a question, and `Zone.answer` makes the answer from it. A question outside
of the domain and the overlay's reverse zones is refused at once, so that a resolver asks its next server. When it
cannot be found out whether a name exists, the answer is a server failure and not "no such name".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from ipaddress import IPv4Address, ip_address
from typing import Final, TypeAlias

import msgspec

from lispmob.protocol.effect import NameResolved
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork

TTL_S: Final = 60  # ours: how long resolvers may cache it; the node hears of changes at once
FLOW_SERVICE: Final = ("_lispflow", "_udp")  # docs/flows.md
FLOW_PORT: Final = 3359
MAX_REVERSE_ZONES: Final = 32  # ours: a prefix that does not end at a label takes several
_LABEL: Final = re.compile(rb"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class RCode(IntEnum):
    """Response codes (RFC 1035, 4.1.1; RFC 6891, 9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


Labels: TypeAlias = tuple[bytes, ...]
"""A name as its labels, without the root."""


class Record(msgspec.Struct, frozen=True):
    """One record of an answer; `value` is an address, a target as labels, or (port, target) for SRV."""

    kind: str
    value: IpAddress | Labels | tuple[int, Labels] | None = None


class Answer(msgspec.Struct, frozen=True):
    """The answer to a question. Without records it carries the SOA of `zone`."""

    rcode: RCode
    records: tuple[Record, ...] = ()
    zone: Labels | None = None


class Wanted(msgspec.Struct, frozen=True):
    """What has to be known before an answer can be made: a name in the mapping system."""

    name: bytes
    zone: Labels
    is_service: bool = False


REFUSED: Final = Answer(RCode.REFUSED)


def served_prefixes(overlay: Sequence[IpNetwork], own: Iterable[EidPrefix]) -> tuple[IpNetwork, ...]:
    """The prefixes whose reverse names lispd answers: those of the overlay, and our own EIDs outside of them."""
    networks = (eid.network for eid in own if not eid.instance_id)
    outside = (one for one in networks if not any(_is_inside(one, prefix) for prefix in overlay))
    return tuple(dict.fromkeys((*overlay, *outside)))


def _is_inside(one: IpNetwork, other: IpNetwork) -> bool:
    return one.version == other.version and one.prefixlen >= other.prefixlen and one.network_address in other


class Zone:
    """One domain, and the reverse zones of some prefixes. Names are compared in lower case."""

    def __init__(self, domain: str, prefixes: Iterable[IpNetwork]) -> None:
        self.domain = _labels(domain)
        self.prefixes = tuple(dict.fromkeys(prefixes))
        self.reverse = tuple(_labels(reverse_zone) for reverse_zone in reverse_zones(self.prefixes))

    def question(self, name: Labels, kind: str) -> Answer | Wanted:
        """What has to be known for this question, or the answer where nothing has."""
        folded = tuple(label.lower() for label in name)
        if (below := _below(folded, self.domain)) is not None:
            return self._forward(below, kind)
        for zone in self.reverse:
            if (below := _below(folded, zone)) is not None:
                return self._reverse(folded, below, zone, kind)
        return REFUSED

    def answer(self, wanted: Wanted, kind: str, known: NameResolved) -> Answer:
        """The answer, from what the mapping system has said."""
        if not known.is_answered:
            return Answer(RCode.SERVFAIL)
        if not known.eids and not known.names:
            return Answer(RCode.NXDOMAIN, zone=wanted.zone)
        if wanted.zone != self.domain:
            targets = [(*name.split(b"."), *self.domain) for name in known.names if _is_host(name)]
            found = [Record("PTR", target) for target in targets if kind in ("PTR", "ANY")]
        elif wanted.is_service:
            target = (*wanted.name.split(b"."), *self.domain)
            found = [Record("SRV", (FLOW_PORT, target))] if kind in ("SRV", "ANY") else []
        else:
            kinds = {4: "A", 6: "AAAA"}
            found = [Record(kinds[eid.version], eid) for eid in known.eids if kind in (kinds[eid.version], "ANY")]
        return Answer(RCode.NOERROR, tuple(found), wanted.zone)

    def _forward(self, below: Labels, kind: str) -> Answer | Wanted:
        if not below:
            return self._apex(self.domain, kind)
        is_service = below[:2] == FLOW_SERVICE_LABELS and len(below) > 2
        host = below[2:] if is_service else below
        name = b".".join(host)
        if not _is_host(name) or len(host) != name.count(b".") + 1:
            return Answer(RCode.NXDOMAIN, zone=self.domain)
        return Wanted(name, self.domain, is_service)

    def _reverse(self, name: Labels, below: Labels, zone: Labels, kind: str) -> Answer | Wanted:
        if not below:
            return self._apex(zone, kind)
        address = address_of(name)
        if address is None:  # too short or too long: a prefix of an address's name exists, any other name does not
            labels = 4 if name[-2] == b"in-addr" else 32
            is_between = len(name) < labels + 2
            return Answer(RCode.NOERROR if is_between else RCode.NXDOMAIN, zone=zone)
        if not any(address in prefix for prefix in self.prefixes if prefix.version == address.version):
            return REFUSED
        return Wanted(b".".join(name), zone)

    def _apex(self, zone: Labels, kind: str) -> Answer:
        kinds = [name for name in ("SOA", "NS") if kind in (name, "ANY")]
        return Answer(RCode.NOERROR, tuple(map(Record, kinds)), zone)


FLOW_SERVICE_LABELS: Final = tuple(label.encode() for label in FLOW_SERVICE)


def reverse_zones(prefixes: Iterable[IpNetwork]) -> tuple[str, ...]:
    """The DNS zones that hold the reverse names of these prefixes (RFC 1035, 3.5; RFC 3596, 2.5), at most 32.

    A zone ends at a whole label: 10.0.0.0/15 takes two of them. A zone is never wider than the prefix, since the rest
    may belong to others.
    """
    found: dict[str, None] = {}
    for prefix in prefixes:
        step = 8 if prefix.version == 4 else 4
        longer = -(-prefix.prefixlen // step) * step
        if longer == 0 or 2 ** (longer - prefix.prefixlen) > MAX_REVERSE_ZONES:
            continue
        for part in prefix.subnets(new_prefix=longer):
            labels = part.network_address.reverse_pointer.split(".")
            found[".".join(labels[(part.max_prefixlen - longer) // step :])] = None
    return tuple(found)[:MAX_REVERSE_ZONES]


def address_of(name: Labels) -> IpAddress | None:
    """The address whose reverse name this is, in lower case; None where it is none."""
    try:
        text = b".".join(name).decode("ascii")
        if name[-2] == b"in-addr":
            found: IpAddress = IPv4Address(".".join(text.split(".")[3::-1]))
        else:
            found = ip_address(bytes.fromhex("".join(text.split(".")[31::-1])))
    except ValueError:
        return None
    return found if found.reverse_pointer == text else None


def _labels(name: str) -> Labels:
    return tuple(label.encode("ascii") for label in name.lower().strip(".").split("."))


def _below(name: Labels, zone: Labels) -> Labels | None:
    """The labels in front of a zone; None when the name is outside of it."""
    return name[: len(name) - len(zone)] if name[-len(zone) :] == zone else None


def _is_host(name: bytes) -> bool:
    """True for labels that a host may have; other octets are in no name of the overlay."""
    return all(_LABEL.fullmatch(label) is not None for label in name.split(b"."))
