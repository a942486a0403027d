"""NetworkManager's view of the host, as a frozen value, and its consequences for our uplinks. Pure.

Addresses come from the kernel alone. NetworkManager adds what the kernel cannot know: that a network only shows a login
page, that it is metered, and that a connection is about to be taken down.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from lispmob.iface_monitor.network_identity import Network


class DeviceState(IntEnum):
    """NMDeviceState, interface of NetworkManager 1.0 and later."""

    UNKNOWN = 0
    UNMANAGED = 10
    UNAVAILABLE = 20
    DISCONNECTED = 30
    PREPARE = 40
    CONFIG = 50
    NEED_AUTH = 60
    IP_CONFIG = 70
    IP_CHECK = 80
    SECONDARIES = 90
    ACTIVATED = 100
    DEACTIVATING = 110
    FAILED = 120


class Connectivity(IntEnum):
    """NMConnectivityState. UNKNOWN also means that there is no check."""

    UNKNOWN = 0
    NONE = 1
    PORTAL = 2
    LIMITED = 3
    FULL = 4


# NMDeviceStateReason: those that interest users; others are shown by number.
REASONS: Final[Mapping[int, str]] = {
    0: "no reason given",
    2: "now managed",
    3: "now unmanaged",
    4: "configuration failed",
    5: "no address to be had",
    6: "address expired",
    7: "no password given",
    8: "Wi-Fi connection lost",
    11: "Wi-Fi took too long",
    15: "DHCP did not start",
    16: "DHCP error",
    17: "DHCP failed",
    24: "modem busy",
    25: "no dial tone",
    29: "modem failed",
    36: "device removed",
    37: "going to sleep",
    38: "connection removed",
    39: "the user said so",
    40: "carrier",
    42: "found connected already",
    43: "Bluetooth failed",
    46: "the other one is needed",
    53: "Wi-Fi network not found",
    60: "replaced by another connection",
    62: "networking switched off",
    67: "address in use by another host",
}

_METERED: Final = {1: True, 2: False, 3: True, 4: False}  # NMMetered: YES, NO, GUESS_YES, GUESS_NO; 0 UNKNOWN
_KINDS: Final = {  # NMDeviceType
    1: "ethernet",
    2: "wifi",
    5: "bluetooth",
    8: "modem",
    10: "bond",
    11: "vlan",
    13: "bridge",
    16: "tun",
    17: "ip-tunnel",
    20: "veth",
    23: "ppp",
    29: "wireguard",
    32: "loopback",
}


_NONE: Final[Mapping[str, Any]] = {}


class Device(msgspec.Struct, frozen=True):
    """One device. `interface` is the one that carries IP: wwan0, where the device itself may be cdc-wdm0."""

    interface: str
    kind: str = ""
    state: DeviceState = DeviceState.UNKNOWN
    reason: int = 0
    is_metered: bool | None = None
    connectivity_ipv4: Connectivity = Connectivity.UNKNOWN
    connectivity_ipv6: Connectivity = Connectivity.UNKNOWN
    network: Network = Network()

    @classmethod
    def of(cls, properties: Mapping[str, Any], connection: Mapping[str, Any] = _NONE) -> Device:
        """From the properties of org.freedesktop.NetworkManager.Device; missing or invalid ones count as unknown.

        `connection`: those of its active connection, with "Ssid" (octets) of its access point.
        """
        state = properties.get("State", 0)
        reason = properties.get("StateReason")
        return cls(
            interface=str(properties.get("IpInterface") or properties.get("Interface") or ""),
            kind=_KINDS.get(_number(properties.get("DeviceType")), "other"),
            state=_state(state),
            reason=_number(reason[1]) if isinstance(reason, list) and len(reason) == 2 else 0,
            is_metered=_METERED.get(_number(properties.get("Metered"))),
            connectivity_ipv4=_connectivity(properties.get("Ip4Connectivity")),
            connectivity_ipv6=_connectivity(properties.get("Ip6Connectivity")),
            network=Network(
                ssid=_ssid(connection.get("Ssid")),
                connection=str(connection.get("Id") or ""),
                uuid=str(connection.get("Uuid") or ""),
            ),
        )

    @property
    def connectivity(self) -> Connectivity:
        """The better of the two families."""
        return max(self.connectivity_ipv4, self.connectivity_ipv6)

    @property
    def is_leaving(self) -> bool:
        """True once the connection is being taken down: move before the link is gone."""
        return self.state is DeviceState.DEACTIVATING

    @property
    def is_behind_portal(self) -> bool:
        """True while the network only shows a login page."""
        return self.state is DeviceState.ACTIVATED and self.connectivity is Connectivity.PORTAL

    @property
    def is_limited(self) -> bool:
        """True while NetworkManager's check does not reach the internet."""
        return self.state is DeviceState.ACTIVATED and self.connectivity is Connectivity.LIMITED

    @property
    def why(self) -> str:
        """The reason of the last change of state, for display."""
        return REASONS.get(self.reason, f"reason {self.reason}")


class ManagerState(msgspec.Struct, frozen=True):
    """NetworkManager's whole view at one moment; the default is for when it does not run."""

    is_running: bool = False
    devices: tuple[Device, ...] = ()
    primary: str | None = None
    """Interface of the connection with the default route; None if there is none, or it is unknown."""
    primary_kind: str = ""
    """Type of that connection: "802-3-ethernet", "802-11-wireless", "gsm", "vpn" ..."""
    connectivity: Connectivity = Connectivity.UNKNOWN
    is_metered: bool | None = None
    gateways: tuple[tuple[str, frozenset[str]], ...] = ()
    """The link-layer addresses of gateways by interface. The kernel gives these, with or without NetworkManager."""

    @classmethod
    def of(
        cls,
        manager: Mapping[str, Any],
        devices: Mapping[str, Mapping[str, Any]],
        primary_path: str | None,
        connections: Mapping[str, Mapping[str, Any]] = _NONE,
    ) -> ManagerState:
        """From the manager's properties, those of each device and active connection by path, and the primary device."""
        known = {
            path: Device.of(properties, connections.get(str(properties.get("ActiveConnection")), _NONE))
            for path, properties in devices.items()
        }
        primary = known.get(primary_path or "")
        return cls(
            is_running=True,
            devices=tuple(
                sorted((device for device in known.values() if device.interface), key=lambda one: one.interface)
            ),
            primary=primary.interface if primary else None,
            primary_kind=str(manager.get("PrimaryConnectionType") or ""),
            connectivity=_connectivity(manager.get("Connectivity")),
            is_metered=_METERED.get(_number(manager.get("Metered"))),
        )

    def device(self, interface: str) -> Device | None:
        """The device whose IP interface has that name; an active one before one that is not."""
        found = [device for device in self.devices if device.interface == interface]
        return max(found, key=lambda one: one.state is DeviceState.ACTIVATED, default=None)

    @property
    def networks(self) -> tuple[tuple[str, Network], ...]:
        """The network of each interface."""
        gateways = dict(self.gateways)
        names = {known.interface for known in self.devices} | gateways.keys()
        found = {}
        for name in sorted(names):
            device = self.device(name)
            network = device.network if device is not None and _is_up(device) else Network()
            found[name] = replace(network, gateways=gateways.get(name, frozenset()))
        return tuple((name, network) for name, network in found.items() if network != Network())

    def network(self, interface: str) -> Network:
        """The network of one interface."""
        return dict(self.networks).get(interface, Network())

    @property
    def leaving(self) -> Mapping[str, str]:
        """Interfaces whose connection is being taken down, each with the reason."""
        return {
            device.interface: f"is being disconnected ({device.why})" for device in self.devices if device.is_leaving
        }

    @property
    def portals(self) -> Mapping[str, str]:
        """Interfaces that only reach a login page so far, each with that reason."""
        why = "waits for a login page (captive portal)"
        return {device.interface: why for device in self.devices if device.is_behind_portal}

    @property
    def held_back(self) -> Mapping[str, str]:
        """Interfaces that should not be used now, each with the reason."""
        return {**self.portals, **self.leaving}

    @property
    def metered(self) -> frozenset[str]:
        """Interfaces that are metered, or assumed to be."""
        return frozenset(device.interface for device in self.devices if device.is_metered and _is_up(device))

    @property
    def limited(self) -> frozenset[str]:
        """Interfaces that do not reach the internet according to NetworkManager."""
        return frozenset(device.interface for device in self.devices if device.is_limited)


def explain(old: ManagerState, new: ManagerState) -> list[str]:
    """The changes, one sentence each, for the log and the handover journal; empty if none is of interest."""
    if old.is_running != new.is_running:
        return ["NetworkManager is there" if new.is_running else "NetworkManager is gone: going by netlink alone"]
    told = []
    before = {device.interface: device for device in old.devices}
    after = {device.interface: device for device in new.devices}
    for name, now in after.items():
        was = before.get(name, Device(name))
        if now.state != was.state and (now.state in _TOLD or was.state in _TOLD):
            told.append(f"{name}: {now.state.name.lower().replace('_', ' ')} ({now.why})")
        if now.is_behind_portal != was.is_behind_portal:
            told.append(f"{name}: " + ("a captive portal" if now.is_behind_portal else "no captive portal any more"))
        if now.is_limited and was.connectivity is Connectivity.FULL:
            told.append(f"{name}: does not reach the internet any more")
        if was.is_limited and now.connectivity is Connectivity.FULL:
            told.append(f"{name}: reaches the internet")
        if bool(now.is_metered) != bool(was.is_metered) and _is_up(now):
            told.append(f"{name}: " + ("metered" if now.is_metered else "not metered"))
    return told


_TOLD: Final = frozenset({DeviceState.ACTIVATED, DeviceState.DEACTIVATING, DeviceState.FAILED})


def _is_up(device: Device) -> bool:
    return device.state >= DeviceState.IP_CONFIG and device.state is not DeviceState.FAILED


def _ssid(value: Any) -> str:
    """An SSID is arbitrary octets, mostly UTF-8; unprintable ones are escaped."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else ""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _state(value: Any) -> DeviceState:
    try:
        return DeviceState(value)
    except ValueError:
        return DeviceState.UNKNOWN


def _connectivity(value: Any) -> Connectivity:
    try:
        return Connectivity(value or 0)
    except ValueError:
        return Connectivity.UNKNOWN
