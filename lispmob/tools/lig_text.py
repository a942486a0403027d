"""What `lig` prints: answers as text, and as JSON."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from lispmob.terminal.text import clean, fold, milliseconds, paint, plural, table
from lispmob.tools.asking import Unasked
from lispmob.tools.question import Answer, Asked, Lookup, Reason
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.lcaf_types import Lcaf, WireAddress
from lispmob.wire.named_locator import is_rtr
from lispmob.wire.record import Action, Locator, MappingRecord

JSON_VERSION: Final = 1
UNUSED: Final = 255  # RFC 9301: the priority of a locator that is not used for unicast

_ACTIONS: Final = {
    Action.NO_ACTION: "no-action",
    Action.NATIVELY_FORWARD: "natively-forward",
    Action.SEND_MAP_REQUEST: "send-map-request",
    Action.DROP: "drop",
    Action.DROP_POLICY_DENIED: "drop-policy-denied",
    Action.DROP_AUTH_FAILURE: "drop-auth-failure",
}
_MEANINGS: Final = {
    "no-action": "nothing is said about its packets",
    "natively-forward": "its packets leave without LISP",
    "send-map-request": "each use asks again",
    "drop": "its packets are dropped",
    "drop-policy-denied": "its packets are dropped: policy",
    "drop-auth-failure": "its packets are dropped: authentication failed",
}


def has_locators(answer: Answer) -> bool:
    """True when the answer has locators."""
    return any(record.locators for record in answer.reply.records)


def who_answered(lookup: Lookup, answer: Answer) -> str:
    """ "map-resolver", "etr" (the source is one of the locators), or "other"."""
    if answer.source == lookup.resolver:
        return "map-resolver"
    said = {ip for record in answer.reply.records for locator in record.locators for ip in locator.ips}
    return "etr" if answer.source in said else "other"


def locator_state(locator: Locator) -> str:
    """ "up", "down" (R is not set), "unused" (priority 255), or "rtr" (an RTR of a node behind NATs)."""
    if not locator.is_reachable:
        return "down"
    if locator.priority == UNUSED:
        return "unused"
    return "rtr" if is_rtr(locator) else "up"


def address_text(address: WireAddress) -> str:
    """An address of a message as text: an LCAF by its type, with its addresses."""
    if address is None:
        return "none"
    if not isinstance(address, Lcaf):
        return str(address)
    inside = " ".join(map(str, ip_addresses(address)))
    return f"{type(address).__name__}({inside})"


def action_text(record: MappingRecord) -> str:
    """RFC 9301's name of the action; the number if it has no name."""
    return _ACTIONS[record.action] if isinstance(record.action, Action) else str(record.action)


def _asked(asked: Asked) -> dict[str, Any]:
    if isinstance(asked, DistinguishedName):
        return {"eid": str(asked), "instance_id": 0}
    return {"eid": str(asked.network), "instance_id": asked.instance_id}


def as_json(lookup: Lookup, own: Collection[IpAddress]) -> dict[str, Any]:
    """A lookup as a JSON value."""
    answer = lookup.answer
    return {
        **_asked(lookup.asked),
        "resolver": str(lookup.resolver),
        "asked_from": str(lookup.asker.itr_rlocs[0]),
        "port": lookup.asker.port,
        "tries": lookup.tries,
        "answer": None if answer is None else _answer(lookup, answer, own),
        "reasons": [{"kind": reason.kind, "text": reason.text} for reason in lookup.reasons],
    }


def unasked_as_json(unasked: Unasked) -> dict[str, Any]:
    """A question that could not be asked, as a JSON value."""
    return {
        **_asked(unasked.asked),
        "resolver": str(unasked.resolver),
        "asked_from": None,
        "port": None,
        "tries": 0,
        "answer": None,
        "reasons": [{"kind": unasked.reason.kind, "text": unasked.reason.text}],
    }


def _answer(lookup: Lookup, answer: Answer, own: Collection[IpAddress]) -> dict[str, Any]:
    reply = answer.reply
    return {
        "nonce": f"{reply.nonce:#018x}",
        "source": str(answer.source),
        "source_port": answer.source_port,
        "answered_by": who_answered(lookup, answer),
        "rtt_ms": round(answer.rtt_s * 1000, 3),
        "is_probe": reply.is_probe,
        "has_echo_nonce": reply.has_echo_nonce,
        "has_security": reply.security is not None,
        "is_genuine": answer.genuine is not None,
        "vouched": [str(prefix) for prefix in answer.genuine.vouched] if answer.genuine is not None else None,
        "records": [_record(record, own) for record in reply.records],
    }


def _record(record: MappingRecord, own: Collection[IpAddress]) -> dict[str, Any]:
    prefix = record.eid_prefix
    return {
        "eid": str(prefix.network) if prefix is not None else address_text(record.eid),
        "instance_id": prefix.instance_id if prefix is not None else None,
        "ttl_min": record.ttl_min,
        "action": action_text(record),
        "is_authoritative": record.is_authoritative,
        "map_version": record.map_version,
        "locators": [
            {
                "address": address_text(locator.address),
                "state": locator_state(locator),
                "priority": locator.priority,
                "weight": locator.weight,
                "multicast_priority": locator.multicast_priority,
                "multicast_weight": locator.multicast_weight,
                "is_local": locator.is_local,
                "is_probed": locator.is_probed,
                "is_reachable": locator.is_reachable,
                "is_ours": any(ip in own for ip in locator.ips),
            }
            for locator in record.locators
        ],
    }


_WHO: Final = {"map-resolver": "the Map-Resolver", "etr": "an ETR", "other": "neither the resolver nor a locator"}


def answer_lines(lookup: Lookup, answer: Answer, own: Collection[IpAddress]) -> list[str]:
    """An answer as text."""
    reply = answer.reply
    flags = [
        name
        for name, is_set in (
            ("P probe", reply.is_probe),
            ("E echo-nonce", reply.has_echo_nonce),
            ("S LISP-SEC", reply.security is not None),
        )
        if is_set
    ]
    again = f" at try {lookup.tries}" if lookup.tries > 1 else ""
    who = _WHO[who_answered(lookup, answer)]
    lines = [
        f"{lookup.asked}  from {answer.source} ({who}) in {milliseconds(answer.rtt_s * 1000)}{again}",
        f"  asked   {lookup.resolver} from {lookup.asker.itr_rlocs[0]} port {lookup.asker.port}",
        f"  nonce   {reply.nonce:#018x}",
        f"  flags   {', '.join(flags) or 'none'}",
    ]
    if answer.genuine is not None:
        vouched = ", ".join(map(str, answer.genuine.vouched))
        if answer.genuine.cannot_sign:
            vouched += ", and that no ETR of the EID can sign"
        lines += fold(f"genuine (LISP-SEC): the Map-Server vouches for {vouched}", first="  ", rest="    ")
    for record in reply.records:
        lines += _record_lines(record, own)
    return lines


def _record_lines(record: MappingRecord, own: Collection[IpAddress]) -> list[str]:
    prefix = record.eid_prefix
    name = str(prefix) if prefix is not None else f"{address_text(record.eid)}/{record.mask_len}"
    said = f"TTL {plural(record.ttl_min, 'minute')}, {'' if record.is_authoritative else 'not '}authoritative"
    said += f", version {record.map_version}" if record.map_version else ""
    if not record.locators:
        word = action_text(record)
        text = f"{name}  no locators: {word}, {_MEANINGS.get(word, 'an action that has no name yet')}; {said}"
        return fold(text, first="  ", rest="    ")
    rows = [
        (
            address_text(locator.address),
            locator_state(locator),
            f"{locator.priority}/{locator.weight}",
            f"{locator.multicast_priority}/{locator.multicast_weight}",
            _locator_flags(locator, own),
        )
        for locator in record.locators
    ]
    listed = table(("LOCATOR", "STATE", "PRIO/WEIGHT", "MULTICAST", "FLAGS"), rows, width=76)
    return [f"  {name}  {said}, {action_text(record)}", *(f"    {line}" for line in listed)]


def _locator_flags(locator: Locator, own: Collection[IpAddress]) -> str:
    words = [
        word
        for word, is_set in (
            ("L local", locator.is_local),
            ("p probed", locator.is_probed),
            ("R reachable", locator.is_reachable),
            ("ours", any(ip in own for ip in locator.ips)),
        )
        if is_set
    ]
    return ", ".join(words) or "none"


def silence_lines(asked: Asked, resolver: IpAddress, reasons: Collection[Reason]) -> list[str]:
    """A missing answer as text, with the possible reasons."""
    lines = [paint(f"{asked}  no answer from {resolver}", "bad")]
    return [*lines, *(line for reason in reasons for line in fold(clean(reason.text), first="  "))]
