"""The uplinks as the control socket shows them, and why an interface is not one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from lispmob.api import schema
from lispmob.config.node import NodeFile
from lispmob.iface_monitor.gateway_trials import WAITS
from lispmob.iface_monitor.monitor import Monitor
from lispmob.iface_monitor.network_manager_state import Connectivity, ManagerState
from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy
from lispmob.lispd import assembly

NO_ROUTE: Final = "no default route"


class Attachment(Protocol):
    """The daemon's view of the host's interfaces."""

    file: NodeFile
    monitor: Monitor | None
    network: NetworkState
    uplinks: tuple[Uplink, ...]

    @property
    def policy(self) -> UplinkPolicy: ...
    @property
    def nm_state(self) -> ManagerState: ...


def view(parts: Attachment) -> Sequence[schema.Uplink]:
    """The uplinks, then the interfaces that could be uplinks and are not, with the reason."""
    used = {uplink.ifindex for uplink in parts.uplinks}
    waiting = parts.monitor.waiting if parts.monitor is not None else frozenset()
    held_back = {**dict.fromkeys(waiting, WAITS), **assembly.held_back(parts.file, parts.nm_state)}
    shown = [
        schema.Uplink(
            name=uplink.name,
            ifindex=uplink.ifindex,
            addresses=[str(address) for address in uplink.addresses],
            priority=uplink.priority,
            weight=uplink.weight,
            mtu_bytes=uplink.mtu_bytes,
            is_metered=_is_metered(parts.nm_state, uplink.name),
            connectivity=_connectivity(parts.nm_state, uplink.name),
            type=uplink.type,
            network=str(parts.nm_state.network(uplink.name)) or None,
        )
        for uplink in parts.uplinks
    ]
    for link in parts.network.links:
        if link.ifindex in used or not parts.policy.is_watched(link):
            continue
        usable = parts.network.usable_addresses(link, parts.policy)
        refusals = (parts.network.refusal_of(link.ifindex, family) for family in (4, 6))
        refused = next((f"{refusal} comes before its default route" for refusal in refusals if refusal), "")
        note = (
            "set down" if not link.is_up
            else "no carrier" if not link.has_carrier
            else held_back[link.name] if link.name in held_back
            else "nothing leaves this host by it" if link.leads_nowhere and not parts.policy.allows(link)
            else "not allowed by the configuration" if not parts.policy.allows(link)
            else "no usable address" if not usable
            else refused or NO_ROUTE
        )  # fmt: skip
        shown.append(
            schema.Uplink(
                name=link.name,
                ifindex=link.ifindex,
                addresses=[str(local.address) for local in usable],
                priority=255,
                weight=0,
                mtu_bytes=link.mtu_bytes,
                is_used=False,
                note=note,
                is_metered=_is_metered(parts.nm_state, link.name),
                connectivity=_connectivity(parts.nm_state, link.name),
                type=link.type,
                network=str(parts.nm_state.network(link.name)) or None,
            )
        )
    return shown


def _is_metered(nm_state: ManagerState, interface: str) -> bool | None:
    device = nm_state.device(interface)
    return None if device is None else device.is_metered


def _connectivity(nm_state: ManagerState, interface: str) -> Literal["none", "portal", "limited", "full"] | None:
    words: dict[Connectivity, Literal["none", "portal", "limited", "full"]] = {
        Connectivity.NONE: "none",
        Connectivity.PORTAL: "portal",
        Connectivity.LIMITED: "limited",
        Connectivity.FULL: "full",
    }
    device = nm_state.device(interface)
    return None if device is None else words.get(device.connectivity)
