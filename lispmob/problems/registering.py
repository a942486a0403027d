"""Registrations that do not stand: which of the many reasons it is, in one sentence, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lispmob.control.diagnosis import Finding
from lispmob.problems.evidence import Evidence, NameEvidence, RegistrationEvidence
from lispmob.problems.problem import Problem, Severity

ENOUGH_TRIES: Final = 2  # ours: one lost datagram is the weather, two in a row are worth a word
TRIES_WITHOUT_FINDING: Final = 3  # ours: the question that tells why is answered, or given up, before

_INVITED: Final = "a machine that has joined needs another invitation, and `lispctl join --force`"
_ABOUT_SERVER: Final = {
    Finding.PORT_CLOSED: "nobody-listens",
    Finding.UNREACHABLE: "unreachable",
    Finding.PROHIBITED: "unreachable",
    Finding.REFUSED_HERE: "sending-refused",
    Finding.SILENT: "no-answer",
    None: "no-answer",
}


def problems(evidence: Evidence) -> Iterator[Problem]:
    """One for each Map-Server that does not answer, and one for each EID-Prefix that a Map-Server does not take."""
    if not evidence.families:
        return  # offline, which is another problem and explains this one
    for name in evidence.names:
        yield _not_found(name, evidence)
    is_lost = not (evidence.peers_answer or any(registration.stands for registration in evidence.registrations))
    seen: set[tuple[str, str]] = set()
    for registration in evidence.registrations:
        problem = _problem(registration, evidence, is_lost=is_lost)
        if problem is not None and problem.identity not in seen:
            seen.add(problem.identity)
            yield problem


def _problem(one: RegistrationEvidence, evidence: Evidence, *, is_lost: bool) -> Problem | None:
    severity = Severity.BROKEN if is_lost else Severity.DEGRADED
    if one.shared is not None:
        return Problem(
            "duplicate-eid",
            severity,
            f"another node registers {one.eid} too",
            one.shared,
            "give each machine an EID of its own, or stop the other one",
            f"{one.eid} at {one.server}",
        )
    if one.refusal is not None and not one.stands:
        return _refused(one, severity)
    if one.is_resting:
        return _resting(one, evidence, severity)
    if one.tries < ENOUGH_TRIES or (one.finding is None and one.tries < TRIES_WITHOUT_FINDING):
        return None
    if one.finding in (Finding.KNOWS_EID, Finding.NO_SITE):
        return _not_taken(one, severity)
    return _unanswered(one, severity)


def _not_found(one: NameEvidence, evidence: Evidence) -> Problem:
    is_lost = one.role == "Map-Server" and not evidence.registrations
    severity = Severity.NOTICE if one.has_addresses else Severity.BROKEN if is_lost else Severity.DEGRADED
    return Problem(
        "name-not-found",
        severity,
        f"the host name of {one.role} {one.name} is not found",
        f"{one.why}; the addresses that it had stay in use" if one.has_addresses else one.why,
        f"see: getent ahosts {one.name}; lispd asks again at least every minute, and a server's address needs no DNS",
        one.name,
    )


def _refused(one: RegistrationEvidence, severity: Severity) -> Problem:
    assert one.refusal is not None
    if "Map-Notify refused" in one.refusal:
        return _wrong_key(one, severity, "its Map-Notify is not authenticated with our key")
    return Problem(
        "register-refused",
        severity,
        f"Map-Server {one.server} refuses {one.eid}",
        one.refusal,
        "ask its operator for the reason",
        f"{one.eid} at {one.server}",
    )


def _resting(one: RegistrationEvidence, evidence: Evidence, severity: Severity) -> Problem | None:
    """No uplink can send it: the family is missing, or NATs are in the way, which says so itself."""
    family = 6 if ":" in one.server else 4
    if family in evidence.families or one.stands:
        return None
    there = 4 if family == 6 else 6
    cause, remedy = f"the uplinks have IPv{there} addresses only", f"a network with IPv{family}"
    if family == 4:
        translators = [address for address in evidence.addresses if address.nat64 is not None]
        if evidence.seeks_translator or any(address.nat64_answers is not False for address in translators):
            return None  # it may lead there in a moment; or it does, and what is missing beyond it says so itself
        tried = ", ".join(dict.fromkeys(str(address.nat64) for address in translators))
        cause += f", and no translator (NAT64) leads to it behind {tried}" if tried else ""
        remedy += ", or name the prefix of this network's translator in natt: nat64"
    return Problem(
        "no-address-of-family",
        severity,
        f"no uplink has an IPv{family} address, and Map-Server {one.server} has no other",
        cause,
        f"use an IPv{there} address of the Map-Server in map-servers, or {remedy}",
        one.server,
    )


def _not_taken(one: RegistrationEvidence, severity: Severity) -> Problem:
    if one.finding is Finding.NO_SITE and one.ever:
        return Problem(
            "site-removed",
            severity,
            f"Map-Server {one.server} has removed the site of {one.eid}",
            "it confirmed this EID before, but has no site for it now",
            f"ask its operator; {_INVITED}",
            f"{one.eid} at {one.server}",
        )
    if one.finding is Finding.NO_SITE:
        return Problem(
            "no-such-site",
            severity,
            f"Map-Server {one.server} has no site for {one.eid}",
            "it answers Map-Requests, but knows no site with this EID",
            "correct the EID in eids, or have its operator add the EID to your site",
            f"{one.eid} at {one.server}",
        )
    return _wrong_key(
        one, severity, "it answers Map-Requests and has a site for this EID, but confirms no Map-Register"
    )


def _wrong_key(one: RegistrationEvidence, severity: Severity, cause: str) -> Problem:
    return Problem(
        "wrong-key",
        severity,
        f"Map-Server {one.server} has another key for {one.eid}",
        cause,
        f"compare key, key-id and algorithm in map-servers, and the EID, with your site there; {_INVITED}",
        f"{one.eid} at {one.server}",
    )


def _unanswered(one: RegistrationEvidence, severity: Severity) -> Problem:
    what, cause, remedy = _sentences(one)
    if one.stands:
        cause = f"since its last confirmation {cause}"
        severity = Severity.DEGRADED
    return Problem(_ABOUT_SERVER[one.finding], severity, what, cause, remedy, one.server)


def _sentences(one: RegistrationEvidence) -> tuple[str, str, str]:
    server = f"Map-Server {one.server}"
    check = "check the address in map-servers"
    if one.finding is Finding.PORT_CLOSED:
        return (
            f"{one.server} runs no Map-Server",
            "the host reports that its UDP port 4342 is closed (ICMP port unreachable)",
            f"start the Map-Server there, or {check}",
        )
    if one.finding is Finding.UNREACHABLE:
        return (
            f"{server} is not reached",
            "the network reports that it has no route to this address (ICMP unreachable)",
            f"{check}, and that its machine and network are up",
        )
    if one.finding is Finding.PROHIBITED:
        return (
            f"{server} is not reached",
            "a firewall on the path forbids it (ICMP prohibited)",
            "have UDP port 4342 opened, or use another network",
        )
    if one.finding is Finding.REFUSED_HERE:
        return (
            f"this host's firewall stops packets to {server}",
            "the kernel refuses to send to UDP port 4342 (EPERM)",
            "allow outgoing UDP to ports 4341 and 4342; see: nft list ruleset",
        )
    behind = "; behind a NAT, some Map-Servers do not answer if the key is wrong, either" if one.is_private else ""
    return (
        f"no answer from Map-Server {one.server}",
        f"it answers neither Map-Registers nor Map-Requests, which need no key{behind}",
        f"{check}, that it is up, and that firewalls on the path pass UDP port 4342",
    )
