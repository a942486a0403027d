"""LISP-SEC in the daemon: the core's tools, and the problems for the user."""

from __future__ import annotations

from pathlib import Path
from secrets import token_bytes
from typing import Final

from lispmob.control.itr_security import LispSecTools, RefusalReason, Refused
from lispmob.control.registration import State
from lispmob.crypto.key_wrap import key_wrap, why_no_key_wrap
from lispmob.lispd.parts import Parts
from lispmob.lispd.shown_resolvers import ShownResolvers
from lispmob.problems.problem import Problem, Severity, printable
from lispmob.problems.registering import ENOUGH_TRIES
from lispmob.wire.lisp_sec_auth import OTK_OCTETS

_CHECK_HUB: Final = "'security: {lisp-sec: prefer}' in its hub.conf, and the same key here and there"
_REMEDIES: Final = {
    RefusalReason.MISSING: f"have its operator turn LISP-SEC on ({_CHECK_HUB}); {{way_out}}",
    RefusalReason.FORGED: "nothing was accepted; use another network, or a VPN to the Map-Resolver",
    RefusalReason.ALGORITHM: "have its operator update the Map-Resolver",
    RefusalReason.OVERCLAIM: "nothing of it was accepted; tell the operator of the Map-Server",
    RefusalReason.UNSIGNED: "have that node updated, or its Map-Server answer for it (proxy-reply); {way_out}",
    RefusalReason.SILENT: f"have its operator see whether it knows LISP-SEC ({_CHECK_HUB}); {{way_out}}",
}
_TRYING: Final = frozenset({State.REGISTERING, State.REFRESHING, State.LOST})
_WAYS_OUT: Final = {
    "require": "security: lisp-sec: prefer does without where it is not known",
    "prefer": "it once knew LISP-SEC: where it has given it up, security: lisp-sec: off forgets that",
}


def lisp_sec_tools(state_dir: Path) -> LispSecTools | None:
    """Key wrap, randomness and a memory; None in a build without libcrypto."""
    wrap = key_wrap()
    return None if wrap is None else LispSecTools(wrap, lambda: token_bytes(OTK_OCTETS), ShownResolvers(state_dir))


def lisp_sec_problems(parts: Parts) -> tuple[Problem, ...]:
    """Recent refusals, one for each kind and Map-Resolver; and obstacles to any authentication."""
    found: dict[tuple[object, ...], Problem] = {}
    for refusal in parts.node.security.refused(parts.now()):
        if refusal.reason is RefusalReason.SILENT and _has_other_cause(refusal, parts):
            continue
        found.setdefault((refusal.reason, refusal.resolver), _problem(refusal, parts.file.security.lisp_sec))
    return (*found.values(), *_limits(parts))


def _has_other_cause(one: Refused, parts: Parts) -> bool:
    """True when silence says nothing about LISP-SEC: its server answers no register either, or a mapping is in use."""
    entry = parts.node.map_cache.lookup(one.asked.address, one.asked.instance_id)
    if not one.is_over and entry is not None and entry.locators:
        return True
    at_server = [known for known in parts.node.registrations if known.server.address == one.resolver]
    return any(known.tries >= ENOUGH_TRIES and known.state in _TRYING for known in at_server)


def _problem(one: Refused, mode: str) -> Problem:
    what = f"a mapping for {one.asked} was refused" if one.is_over else f"there is no mapping for {one.asked}"
    severity = Severity.NOTICE if one.is_over else Severity.DEGRADED
    remedy = _REMEDIES[one.reason].replace("{way_out}", _WAYS_OUT.get(mode, ""))
    return Problem(one.reason.value, severity, what, printable(one.text), remedy, str(one.resolver))


def _limits(parts: Parts) -> tuple[Problem, ...]:
    mode = parts.file.security.lisp_sec
    if mode == "off":
        return ()
    if parts.file.log.record:
        remedy = "when the recording is complete, remove 'record' from 'log' in lispd.conf and restart lispd"
        why = "a recording must not contain keys, so lispd does not use LISP-SEC while it records"
        return (Problem("lisp-sec-recording", Severity.NOTICE, "mappings are not proved genuine", why, remedy),)
    if (missing := why_no_key_wrap()) is not None:
        remedy = "install libssl-dev and build lispmob again; or set security: lisp-sec: off, which removes this notice"
        return (Problem("no-key-wrap", Severity.NOTICE, "mappings are not proved genuine", missing, remedy),)
    if mode == "require" and not parts.node.plan.asks_mapping_system:
        return (
            Problem(
                "lisp-sec-relayed",
                Severity.NOTICE,
                "the RTR asks in our place, and its mappings are not proved to us",
                "behind this NAT all data goes through the RTR, which looks up the mappings",
                "use an RTR that you trust, as you trust the Map-Server",
            ),
        )
    return ()
