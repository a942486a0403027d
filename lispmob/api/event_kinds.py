"""The kinds of events that lispd publishes: what `lispctl events --kinds` may name. A test holds them to the code."""

from __future__ import annotations

from typing import Final

KINDS: Final = frozenset(
    {
        "auth-failed",
        "dropped",
        "eid-shared",
        "key-changed",
        "key-revoked",
        "lisp-sec-refused",
        "mapping-installed",
        "mapping-negative",
        "mapping-removed",
        "miss",
        "moved",
        "mtu-learned",
        "name-refused",
        "name-registered",
        "natt",
        "natt-absent",
        "natt-refused",
        "natt-state",
        "natt-stranded",
        "natt-unanswered",
        "path-down",
        "path-mtu",
        "path-up",
        "rate-limited",
        "register-refused",
        "register-sent",
        "register-timeout",
        "registered",
        "registration-lost",
        "rloc-reachable",
        "rloc-unreachable",
        "rtr-deaf",
        "rtr-failed",
        "rtr-heard",
        "sealed",
        "shortcut-closed",
        "shortcut-opened",
        "smr-received",
        "smr-sent",
        "uplink-answers",
        "uplink-silent",
        "uplinks-ranked",
        "withdrawn",
    }
)
