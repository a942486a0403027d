"""From evidence to the list of problems. What explains another problem takes its place in the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lispmob.problems import lossy, registering
from lispmob.problems.evidence import (
    AddressEvidence,
    Evidence,
    FilteredEvidence,
    OwnEidEvidence,
    SpoiledEvidence,
    UnusedInterface,
)
from lispmob.problems.problem import Problem, Severity, worst_first

UNANSWERED: Final = "lisp-sec-unanswered"


def problems_of(evidence: Evidence) -> tuple[Problem, ...]:
    """Everything that is wrong, the gravest first."""
    if evidence.is_stopping:
        return (Problem("stopping", Severity.BROKEN, "lispd is stopping"),)
    found = [*_daemon(evidence), *_uplinks(evidence), *registering.problems(evidence), *_peers(evidence)]
    found += lossy.problems(evidence)
    found += (problem for problem in evidence.reported if not _is_explained(problem, evidence))
    if registering.is_first(evidence) and not any(problem.severity is Severity.BROKEN for problem in found):
        cause = "no Map-Server has confirmed a registration yet"
        found.append(Problem("starting", Severity.BROKEN, "lispd is registering", cause))
    return worst_first(found)


def _is_explained(problem: Problem, evidence: Evidence) -> bool:
    """True where nothing is answered, or this host may not ask: that is why questions with LISP-SEC stay unanswered.

    True as well for a network around our EID in which the EID itself is in use.
    """
    if problem.key == "overlapping-prefix":
        return any(problem.subject == f"{used.eid} {used.interface}" for used in evidence.own_eids)
    is_silent = bool(evidence.in_vain) or evidence.refuses_control
    return (is_silent or registering.is_unanswered(problem.subject, evidence)) and problem.key == UNANSWERED


def _daemon(evidence: Evidence) -> Iterator[Problem]:
    if evidence.is_starting:
        yield Problem("starting", Severity.BROKEN, "lispd is starting", "the kernel's routes are not in place yet")
    if evidence.chain_refusal is not None:
        yield Problem(
            "no-chain",
            Severity.DEGRADED,
            "the kernel does not have the steering rules" if evidence.has_rules else "replies may change their uplink",
            evidence.chain_refusal,
            "traffic goes by priority and weight until lispd can put the rules in; it tries again every few seconds",
        )
    if evidence.is_forbidden:
        yield Problem(
            "sending-refused",
            Severity.BROKEN,
            "this host's firewall stops data to peers",
            "the kernel refuses to send to UDP port 4341 (EPERM)",
            "allow outgoing UDP to ports 4341 and 4342; see: nft list ruleset",
            "data",
        )
    if evidence.state_refusal is not None:
        yield Problem(
            "disk-full",
            Severity.NOTICE,
            "lispd cannot save its identifier",
            evidence.state_refusal,
            "free some space there, or correct its owner and mode",
        )
    if evidence.dropped_by_mark:
        plural = "packet was" if evidence.dropped_by_mark == 1 else "packets were"
        yield Problem(
            "unusable-mark",
            Severity.DEGRADED,
            f"{evidence.dropped_by_mark} {plural} dropped because of their mark",
            "the mark names no usable uplink, and steering: unusable-mark says drop",
            "compare lispctl uplinks with the steering rules; 'unusable-mark: fallback' sends them by another uplink",
        )


def _uplinks(evidence: Evidence) -> Iterator[Problem]:
    login = [interface for interface in evidence.unused if interface.wants_login]
    if not evidence.families and not login and not evidence.refused:
        yield from _offline(evidence)
    for interface in login:
        yield Problem(
            "portal",
            Severity.NOTICE if evidence.families else Severity.BROKEN,
            f"{interface.name} requires a login on its portal page",
            interface.note,
            f"open a browser and log in; to use {interface.name} without a login, set network-manager: portal: use",
            interface.name,
        )
    for refused in evidence.refused:
        yield Problem(
            "refused-route",
            Severity.NOTICE if evidence.families else Severity.BROKEN,
            f"this host refuses what leaves by {refused.interface} over IPv{refused.family}",
            f"{refused.by} comes before its default route, as a VPN's kill switch does",
            "switch it off in the program that made it, or delete it; lispd then uses the uplink at once",
            f"{refused.interface} IPv{refused.family}",
        )
    nothing_works = not any(_works(known) for known in evidence.addresses)
    for taken in evidence.duplicates:
        yield Problem(
            "duplicate-address",
            Severity.DEGRADED,
            f"another host in the network of {taken.interface} has {taken.address}",
            "the kernel found it there when the address was added, and does not use it (duplicate address detection)",
            "give this host or the other one another address, and connect again",
            f"{taken.interface} {taken.address}",
        )
    for used in evidence.own_eids:
        yield _own_eid(used, Severity.DEGRADED if evidence.addresses else Severity.BROKEN)
    for address in evidence.addresses:
        is_spared = any(_works(known) for known in evidence.addresses if known.interface == address.interface)
        yield from _address(address, Severity.BROKEN if nothing_works else Severity.DEGRADED, is_spared=is_spared)


def _own_eid(used: OwnEidEvidence, severity: Severity) -> Problem:
    """`severity`: where no uplink has an address that can be a locator, nothing works."""
    is_same = used.eid.partition("/")[0] == used.address
    relation, subject = "is" if is_same else "contains", f"{used.eid} {used.interface}"
    if used.is_gateway:
        return Problem(
            "eid-in-use",
            Severity.DEGRADED,
            f"our EID {used.eid} {relation} the address of the gateway of {used.interface}",
            f"this host has {used.address} itself, so the kernel refuses new routes by that gateway: "
            "once the network is connected again, nothing passes",
            "give this host another EID, or use another network",
            subject,
        )
    return Problem(
        "eid-in-use",
        severity,
        f"our EID {used.eid} {relation} the address of {used.interface}" + ("" if is_same else f", {used.address}"),
        "an EID is no locator: packets in the tunnel would go into the tunnel again, so nothing is sent from there",
        f"give this host another EID, or {used.interface} another address",
        subject,
    )


def _offline(evidence: Evidence) -> Iterator[Problem]:
    around = [interface for interface in evidence.unused if interface.eid_inside]
    yield from map(_no_gateway, around)
    if around:
        return
    why = "; ".join(f"{interface.name}: {interface.note}" for interface in evidence.unused)
    yield Problem(
        "offline",
        Severity.BROKEN,
        "there is no uplink",
        why or "no interface has an address and a default route",
        "connect to a network",
    )


def _no_gateway(interface: UnusedInterface) -> Problem:
    return Problem(
        "eid-in-use",
        Severity.BROKEN,
        f"{interface.name} has no default route: its gateway may have the address of our EID {interface.eid_inside}",
        "the EID lies inside this network, and the kernel refuses a route by an address that this host has itself",
        "if that is so, give this host another EID, or use another network",
        f"{interface.eid_inside} {interface.name}",
    )


def _works(one: AddressEvidence) -> bool:
    is_lost = one.spoiled is not None and not one.spoiled.goes_on
    return one.stranded is None and not (one.failed_rtr or one.deaf_rtr or one.unheard_by or one.is_silent or is_lost)


def _address(one: AddressEvidence, severity: Severity, *, is_spared: bool) -> Iterator[Problem]:
    """`is_spared`: its interface has another address that works, such as one of the other family."""
    place = f"{one.interface} ({one.address})"
    if one.stranded is not None:
        yield Problem(
            "no-rtr",
            severity,
            f"{place} is behind {'NAT64' if one.nat64_answers else 'a NAT'}, and there is no RTR",
            one.stranded,
            "have the Map-Server's operator enable one (hub.conf: rtr: enabled: yes), or name one in natt: rtrs",
            f"{one.interface} {one.address}",
        )
    if one.failed_rtr is not None:
        yield Problem(
            "rtr-dead",
            severity,
            f"the RTR {one.failed_rtr} does not answer {place}",
            "behind a NAT, everything comes and goes through it",
            "check that its machine is up, that firewalls on the path pass UDP ports 4341 and 4342, "
            "and that this is its address (public-address in its hub.conf)",
            f"{one.interface} {one.address}",
        )
    if one.deaf_rtr is not None:
        yield Problem(
            "rtr-deaf",
            severity,
            f"the RTR {one.deaf_rtr} passes nothing on to {place}",
            "it confirms the registration, but sends data elsewhere: it may still use an old binding of the NAT",
            "lispd has registered there by another name; if data still does not arrive, name another RTR in natt: rtrs",
            f"{one.interface} {one.address}",
        )
    if one.spoiled is not None:
        yield _spoiled(one, one.spoiled, severity)
    if one.translated_to is not None:
        yield Problem(
            "translated-family",
            Severity.DEGRADED,
            f"peers with IPv4 only do not reach {place}",
            f"this network has IPv6 only, and the Map-Server IPv4 only: it sees {one.translated_to} (NAT64)",
            "give the Map-Server an IPv6 address, and AAAA records to its name: then it relays between the families",
            f"{one.interface} {one.address}",
        )
    if one.unheard_by:
        yield Problem(
            "not-heard",
            severity,
            f"no data from {place} gets through",
            f"probes to {', '.join(one.unheard_by)} are answered (UDP port 4342), but data is lost (UDP port 4341)",
            "allow UDP port 4341 in the firewall of this host and of its network; or use another uplink",
            f"{one.interface} {one.address}",
        )
    if one.is_silent:
        yield Problem(
            "cannot-ask",
            Severity.NOTICE if is_spared else Severity.DEGRADED,
            f"{place} reaches no Map-Resolver",
            "no Map-Request from it is answered, but those from other addresses of this host are",
            "check the network of this uplink; lispd uses it again as soon as an answer comes",
            f"{one.interface} {one.address}",
        )


def _spoiled(one: AddressEvidence, spoiled: SpoiledEvidence, severity: Severity) -> Problem:
    place, rtr = f"{one.interface} ({one.address})", spoiled.rtr
    if spoiled.is_by_nat:
        cause = (
            f"its NAT gives data (UDP port 4341) another public address than registrations, against RFC 6888, so {rtr}"
        )
        cause += " takes the data for a stranger's"
        remedy = "ask the network's operator for 'paired' address pooling (RFC 4787)"
    else:
        cause = f"something on the path to {rtr} drops UDP port 4341, and lets 4342 pass"
        remedy = "let UDP port 4341 out in the firewall of this network, and in at the one of the RTR"
    if spoiled.goes_on:
        what = f"data from {place} goes to UDP port 4342 of the RTR"
        remedy = f"nothing has to be done; data would be faster by port 4341: {remedy}"
        severity = Severity.NOTICE
    else:
        what = f"data from {place} does not get to its RTR"
        remedy += "; an RTR of a newer release would take the data at port 4342"
        if spoiled.is_spared:
            remedy += "; another uplink is used until then"
    key = "odd-nat" if spoiled.is_by_nat else "port-filtered"
    return Problem(key, severity, what, cause, remedy, f"{one.interface} {one.address}")


def _no_answer_at_all(evidence: Evidence) -> Problem:
    if evidence.refuses_control:
        return Problem(
            "sending-refused",
            Severity.BROKEN,
            "this host's firewall stops what lispd sends",
            "the kernel refuses to send to UDP port 4342 (EPERM)",
            "allow outgoing UDP to ports 4341 and 4342; see: nft list ruleset",
            "control",
        )
    cause = f"neither the mapping system nor a peer answers {', '.join(evidence.in_vain)}"
    remedy = "check that this network reaches the Internet, or use another network"
    if evidence.unasked:
        cause += (
            f"; {', '.join(evidence.unasked)} cannot be used alone, since no Map-Server has an address of its family"
        )
        remedy += "; an address of both families at the Map-Server would let this host use the other family"
    return Problem("nobody-answers", Severity.BROKEN, "this host gets no answer at all", cause, remedy)


def _peers(evidence: Evidence) -> Iterator[Problem]:
    is_cut_off = bool(evidence.in_vain) and not evidence.closed  # an ICMP error of a server is an answer
    if is_cut_off and (evidence.peers or any(problem.key == UNANSWERED for problem in evidence.reported)):
        yield _no_answer_at_all(evidence)
    for peer in () if is_cut_off else evidence.peers:
        where = ", ".join(peer.locators)
        yield Problem(
            "peer-unreachable",
            Severity.DEGRADED,
            f"{peer.eid} does not answer",
            f"no probe to {where} is answered",
            "check that its machine is up; lispd continues to probe it",
            peer.eid,
        )
    for narrow in evidence.narrow:
        remotes = narrow.remotes[0] if len(narrow.remotes) == 1 else f"{len(narrow.remotes)} locators"
        yield Problem(
            "path-mtu",
            Severity.NOTICE,
            f"packets of more than {narrow.mtu_bytes} octets from {narrow.address} vanish",
            f"probes of that size are lost on the path to {remotes}, and no ICMP error reports it",
            "lispd sends smaller packets there; better have the firewall on the path pass ICMP errors 'too big'",
            narrow.address,
        )
    for inside in evidence.inside:
        yield Problem(
            "own-prefix",
            Severity.NOTICE,
            f"{inside.eid} lies inside our own EID-Prefix {inside.own}",
            "packets to such addresses stay on this host, so that peer is not reached",
            "list in eids only what this host has, or give that peer an EID outside of it",
            inside.eid,
        )
    for detour in evidence.detours:
        yield Problem(
            "nearer-route",
            Severity.DEGRADED,
            f"packets to {detour.eid} leave by {detour.interface}, past the overlay",
            "a route of this host is nearer than the overlay prefix",
            f"delete that route if it is not meant; see: ip route get {detour.eid.partition('/')[0]}",
            detour.eid,
        )
    unheard = {remote for address in evidence.addresses for remote in address.unheard_by}
    for blocked in evidence.filtered:
        if not blocked.is_out or blocked.locator not in unheard:
            yield _filtered(blocked)


def _filtered(one: FilteredEvidence) -> Problem:
    there, here = f"{one.locator} ({one.eid})", "this host"
    towards, from_ = (there, here) if one.is_out else (here, there)
    remedy = f"allow UDP port 4341 in the firewall of {'that machine' if one.is_out else 'this host'}, or on the path"
    if one.is_spared:
        remedy = f"another locator of that peer is used until then; {remedy}"
    return Problem(
        "data-filtered",
        Severity.NOTICE if one.is_spared else Severity.DEGRADED,
        f"data {'to' if one.is_out else 'from'} {one.locator} is lost, though it answers probes",
        f"UDP port 4342 passes and UDP port 4341 does not, on the path from {from_} to {towards}",
        remedy,
        one.eid,
    )
