"""The largest packets of the host that fit through every uplink with all added headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lispmob.config.node import NodeFile
from lispmob.datapath.sealing import can_seal
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.natt.plan import NattPlan

NO_PLAN: Final = NattPlan()
OVERHEAD_OCTETS: Final = {4: 36, 6: 56}  # outer IP + UDP + LISP header (RFC 9300, 7.1)
SEAL_OCTETS: Final = 28  # ours: the IV and the tag of a sealed packet
TUN_MTU_WITHOUT_UPLINKS: Final = 1440  # ours: what fits an Ethernet path in either family, and LISPmob's choice
SMALLEST_TUN_MTU: Final = 1280  # IPv6's minimum (RFC 8200, 5): below it the kernel would take IPv6 off the device


def device_mtu(file: NodeFile, uplinks: Iterable[Uplink], plan: NattPlan = NO_PLAN) -> int:
    """The MTU of our device in octets: what fits through the narrowest uplink with all added headers.

    If packets may be sealed, that overhead counts: otherwise the first large packets of each flow would be refused.
    Behind a NAT, sealed packets go through an RTR from EID to EID, with additional headers.
    """
    if file.tun.mtu_bytes is not None:
        return file.tun.mtu_bytes
    seal = SEAL_OCTETS if file.security.seal != "off" and can_seal() else 0
    families = [eid.family for eid in file.eids]
    nest = max((OVERHEAD_OCTETS[family] for family in families), default=0) if seal else 0
    behind = {one.locator.address for one in plan.uplinks if one.relays}
    room = [
        uplink.mtu_bytes
        - seal
        - max(OVERHEAD_OCTETS[address.version] + (nest if address in behind else 0) for address in uplink.addresses)
        for uplink in uplinks
        if uplink.addresses
    ]
    return max(min(room, default=TUN_MTU_WITHOUT_UPLINKS), SMALLEST_TUN_MTU)
