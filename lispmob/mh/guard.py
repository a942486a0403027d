"""What keeps packets for the overlay off the local network when our device is not there: after a crash, or a stop.

    4343  from EID | from unspecified, to OVERLAY   unreachable

It stands right behind what leads to our device, and in front of the host's own routes, so that it counts only when the
device has gone and taken its routes with it. While lispd runs no packet gets that far; after a stop these rules may be
left behind, if that is wanted. A rule that says "unreachable" needs no route, and so IPv6 asks nobody for the source
address that such a packet would get: the rule counts for packets that have none yet, and for no other host's. Pure.
"""

from __future__ import annotations

from lispmob.mh.plan import GUARD_PRIORITY, NEAR_OVERLAY_PRIORITY, KernelState, Plan, plan


def left_behind(desired: KernelState) -> Plan:
    """What stays when lispd goes: the guard, and that what the host knows more precisely is reached all the same."""
    rules = {rule for rule in plan(desired).rules if rule.priority in (GUARD_PRIORITY, NEAR_OVERLAY_PRIORITY)}
    return Plan(frozenset(), frozenset(), frozenset(rules), frozenset())
