"""Keeps packets for the overlay off the local network while our device is missing: after a crash, or a stop.

4343  from EID | from unspecified, to OVERLAY   unreachable

It stands right after the rules that lead to our device, and before the host's own routes, so it takes effect only when
the device and its routes are gone. While lispd runs no packet reaches it; after a stop these rules may be left behind,
if configured. An "unreachable" rule needs no route, so IPv6 selects no source address for such a packet: the rule
applies to packets without a source yet, and to no other host's. Pure.
"""

from __future__ import annotations

from lispmob.mh.plan import GUARD_PRIORITY, NEAR_OVERLAY_PRIORITY, KernelState, Plan, plan


def left_behind(desired: KernelState) -> Plan:
    """What stays when lispd stops: the guard, and the rules by which more specific host routes still work."""
    rules = {rule for rule in plan(desired).rules if rule.priority in (GUARD_PRIORITY, NEAR_OVERLAY_PRIORITY)}
    return Plan(frozenset(), frozenset(), frozenset(rules), frozenset())
