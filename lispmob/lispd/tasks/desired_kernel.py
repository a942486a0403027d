"""What the kernel must hold, from the configuration and the present uplinks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from lispmob.config.node import NodeFile
from lispmob.datapath.device.lanes import DEFAULT, Lane, MarksWay, device_prefix
from lispmob.iface_monitor.containers import container_networks
from lispmob.iface_monitor.snapshot import NetworkState, Uplink
from lispmob.lispd.device_mtu import device_mtu
from lispmob.lispd.native_routes import NativeRoutes
from lispmob.mh.plan import KernelState, KernelUplink, LostAddress, MarkedDevice, MarkRouting
from lispmob.mh.policy import MarkMask
from lispmob.natt.natt_config import is_private
from lispmob.natt.plan import NattPlan
from lispmob.wire.address import IpAddress

NO_PLAN: Final = NattPlan()


def leaves_natively(file: NodeFile) -> bool:
    """True when packets with an EID as source may leave without LISP, which needs source translation."""
    routing = file.routing
    return routing.fallback == "native" or (routing.fallback == "auto" and routing.mode == "full")


def kernel_state(
    file: NodeFile,
    uplinks: Iterable[Uplink],
    network: NetworkState,
    lost: Iterable[LostAddress],
    natives: NativeRoutes,
    plan: NattPlan = NO_PLAN,
    marks: MarkRouting | None = None,
    nameservers: Iterable[IpAddress] = (),
    spare_ports: frozenset[tuple[IpAddress, int]] = frozenset(),
) -> KernelState:
    """What the kernel must hold for these uplinks. `nameservers`: must be reachable outside of the overlay.

    `spare_ports`: where answers to measurements are expected.
    """
    present, gone = tuple(uplinks), tuple(lost)
    overlay = natives.overlay(file.routing.overlay_prefixes)
    policy = file.steering.to_policy()
    # DNS queries have no fixed source; with everything in the overlay, a query would wait for its own answer.
    outside = [
        nameserver for nameserver in nameservers if file.routing.mode == "full" and not _is_inside(nameserver, file)
    ]
    return KernelState(
        tun=file.tun.name,
        eids=file.eids,
        mode="full" if file.routing.mode == "full" else "split",
        overlay_prefixes=overlay.tunnelled,
        container_networks=container_networks(network) if file.routing.containers else (),
        native_prefixes=tuple(dict.fromkeys((*overlay.native, *map(ip_network, outside)))),
        uplinks=tuple(
            KernelUplink(
                uplink.name,
                uplink.addresses,
                tuple(route.gateway for route in network.routes_of(uplink.ifindex, 4)),
                _shares_subnet(uplink, network),
            )
            for uplink in present
        ),
        lost=gone,
        mtu_bytes=device_mtu(file, present, plan),
        # A lost private address was behind a NAT, and when it returns its first packet is a register.
        sends_from_data_port=frozenset(
            uplink.locator.address for uplink in plan.uplinks if uplink.data_port != "pool" or not uplink.is_usable
        ).union(lost_address.address for lost_address in gone if is_private(lost_address.address)),
        spare_ports=spare_ports,
        translates_native=leaves_natively(file) or bool(overlay.native) or policy.has_native,
        mark_mask=policy.mask.bits,
        native_mark=policy.mask.native if policy.has_native else 0,
        first_table=file.routing.first_table,
        last_priority=file.routing.rule_priority,
        marks=marks,
        guards_overlay=file.routing.fallback != "native",
    )


def _shares_subnet(uplink: Uplink, network: NetworkState) -> bool:
    """True when another interface has another address in an IPv4 subnet of this one.

    Two modems with one address are told apart by nothing that a routing rule selects by.
    """
    known = [local for local in network.addresses if local.address.version == 4]
    subnets = [local.subnet for local in known if local.ifindex == uplink.ifindex]
    others = {local.address for local in known if local.ifindex != uplink.ifindex}
    return not others & set(uplink.addresses) and any(address in subnet for subnet in subnets for address in others)


def _is_inside(address: IpAddress, file: NodeFile) -> bool:
    """In an overlay prefix, where packets leave natively only on request."""
    return any(prefix.version == address.version and address in prefix for prefix in file.routing.overlay_prefixes)


def mark_routing(file: NodeFile, mask: MarkMask, way: MarksWay, lanes: Iterable[Lane]) -> MarkRouting | None:
    """The devices that the kernel has to route marks to; None if the datapath sorts by mark itself."""
    if way.name != "devices":
        return None
    devices = tuple(
        MarkedDevice(lane.device, mask.mark(lane.ifindex) or None, lane.queue)
        for lane in lanes
        if lane.ifindex != DEFAULT
    )
    return MarkRouting(mask.bits, device_prefix(file.tun.name), devices)
