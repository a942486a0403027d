"""Keeps packets for the overlay off the local network while our device is missing: after a crash, or a stop.

IPv4:  4343  from EID | from unspecified, to OVERLAY   unreachable
IPv6:  4343  from EID, to OVERLAY                      unreachable
       4343  iif lo, to OVERLAY                        lookup 4344, except for routes to our devices

It stands right after the rules that lead to our device, and before the host's own routes, so it takes effect only when
the device and its routes are gone. While lispd runs no packet is refused by it; after a stop these rules may be left
behind, if configured.

IPv6 looks up twice for a packet without a source: when the first answer is an error, the kernel selects a source among
all addresses of the host and asks again (ip6_dst_lookup_tail in net/ipv6/ip6_output.c). Then the packet looks like one
of a native address. So all packets of this host are refused, and not only those of EIDs; forwarded ones are not.
Table 4344 has a route to our device for each prefix, and one that refuses behind them. While the device is there, its
route is found and suppressed, since the device is in DEVICE_GROUP, and packets of native addresses go on as without us.
Pure.
"""

from __future__ import annotations

from msgspec.structs import replace

from lispmob.mh.plan import GUARD_PRIORITY, NEAR_OVERLAY_PRIORITY, KernelState, Plan, plan
from lispmob.mh.rule import SUPPRESS_IFGROUP, Rule


def left_behind(desired: KernelState) -> Plan:
    """What stays when lispd stops: the guard, and the rules by which more specific host routes still work."""
    rules = plan(desired).rules
    kept = {rule for rule in rules if rule.priority == NEAR_OVERLAY_PRIORITY}
    kept |= {_without_table(rule) for rule in rules if rule.priority == GUARD_PRIORITY}
    return Plan(frozenset(), frozenset(), frozenset(kept), frozenset())


def _without_table(rule: Rule) -> Rule:
    """The same where no route of ours is left: it refuses by itself."""
    selectors = tuple((kind, value) for kind, value in rule.selectors if kind != SUPPRESS_IFGROUP)
    return replace(rule, table=0, action="unreachable", selectors=selectors)
