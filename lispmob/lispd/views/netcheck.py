"""What `lispctl netcheck` shows of one address: plain translation."""

from __future__ import annotations

from lispmob.api import schema
from lispmob.lispd.tasks.measuring import Measuring
from lispmob.natt.effect import Reach
from lispmob.natt.firewall_probe import Way
from lispmob.natt.machine import UplinkMachine


def view(machine: UplinkMachine, measuring: Measuring) -> schema.NetCheck:
    """The present knowledge about the uplink."""
    seen, one = machine.seen, machine.locator
    rtr = machine.rtrs[0] if machine.rtrs else None
    rtt_s = machine.rtt_s_to(rtr) if rtr is not None else None
    way = measuring.ways.get(one.place, Way.UNKNOWN)
    lifetime, kind = machine.lifetime, measuring.kinds.get(one.place)
    return schema.NetCheck(
        uplink=one.interface,
        address=str(one.address),
        state=machine.state.value,
        dialect=seen.dialect.value if seen else None,
        seen_address=str(seen.address) if seen and seen.address else None,
        seen_port=seen.port if seen else None,
        has_nat=None if machine.reach is Reach.UNKNOWN else machine.reach is Reach.TRANSLATED,
        has_firewall=True if machine.is_filtered else None if way is Way.UNKNOWN else way is Way.FILTERED,
        mapping=kind.mapping if kind else None,
        filtering=kind.filtering if kind else None,
        lifetime_at_least_s=lifetime.at_least_s or None,
        lifetime_below_s=lifetime.below_s,
        keepalive_s=machine.keepalive_s,
        rtr=str(rtr) if rtr is not None else None,
        rtr_rtt_ms=None if rtt_s is None else round(rtt_s * 1000, 1),
        passes_zero_checksum=machine.passes_zero,
        nat64=None if one.nat64 is None or (seen is not None and not machine.is_translated) else str(one.nat64),
    )
