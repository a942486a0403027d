"""The type of an interface in one word, as in `uplinks:` of the configuration and in `lispctl uplinks`.

For virtual interfaces the kernel reports their kind (rtnetlink's IFLA_INFO_KIND). For hardware it reports the link
layer (ARPHRD_*) and, in /sys/class/net, the driver's type (DEVTYPE) and the bus. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

OTHER: Final = "other"
TYPES: Final = (
    "ethernet",
    "wifi",
    "wwan",
    "usb",
    "bluetooth",
    "ppp",
    "vlan",
    "bridge",
    "bond",
    "macvlan",
    "ipvlan",
    "veth",
    "tun",
    "wireguard",
    "tunnel",
    OTHER,
)

# linux/if_arp.h
ARPHRD_ETHER: Final = 1
ARPHRD_PPP: Final = 512
ARPHRD_RAWIP: Final = 519

# Overlays by their rtnetlink kind: each needs another uplink below it. "tun" is TUN and TAP alike.
_LAYER_3_TUNNELS: Final = frozenset({"ip6tnl", "ipip", "sit", "tun", "vti", "vti6", "wireguard", "amneziawg", "xfrm"})
_LAYER_2_TUNNELS: Final = frozenset({"bareudp", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan", "vxlan"})
NOWHERE_KINDS: Final = frozenset({"dummy", "ifb", "nlmon", "vcan", "vrf"})
"""Interfaces by which nothing leaves this host. Kill switches of VPNs put default routes through dummies."""

TUNNEL_KINDS: Final = _LAYER_3_TUNNELS | _LAYER_2_TUNNELS | {"gre", "ip6gre", "ovpn", "ovpn-dco"}

_OF_KIND: Final = {
    **dict.fromkeys(TUNNEL_KINDS, "tunnel"),
    **{word: word for word in ("tun", "wireguard", "ppp", "vlan", "bridge", "bond", "macvlan", "ipvlan", "veth")},
    "amneziawg": "wireguard",
    "macvtap": "macvlan",
    "ipvtap": "ipvlan",
    "team": "bond",
    "rmnet": "wwan",
    "wwan": "wwan",
}
_OF_DRIVER: Final = {
    "wlan": "wifi",
    "wwan": "wwan",
    "bluetooth": "bluetooth",
    "vlan": "vlan",
    "bridge": "bridge",
    "bond": "bond",
    "dsa": "ethernet",  # a port of a switch
}


class DriverWords(msgspec.Struct, frozen=True):
    """The contents of /sys/class/net; the defaults if it is silent or unreadable."""

    devtype: str = ""
    is_wireless: bool = False
    is_usb: bool = False


SILENT: Final = DriverWords()


def link_type(kind: str, hardware: int, driver: DriverWords = SILENT) -> str:
    """One of TYPES. `kind` is rtnetlink's word, empty for hardware; `hardware` is the link layer's ARPHRD number.

    `usb` is Ethernet over USB: a phone that tethers, or an adapter. Modems and Wi-Fi sticks go by what they are.
    """
    if kind:
        return _OF_KIND.get(kind, OTHER)
    if driver.devtype in _OF_DRIVER:
        return _OF_DRIVER[driver.devtype]
    if driver.is_wireless:
        return "wifi"
    if hardware == ARPHRD_PPP:
        return "ppp"
    if hardware == ARPHRD_RAWIP:
        return "wwan"
    if hardware == ARPHRD_ETHER:
        return "usb" if driver.is_usb else "ethernet"
    return OTHER
