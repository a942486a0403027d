"""The paths that are compared, by name: what packets go through, and which cable they go over. Pure."""

from __future__ import annotations

from typing import Final

TIERS: Final = ("tun", "ebpf")
AUTO: Final = "auto"  # the tier that lispd chooses by itself
REFERENCES: Final = ("veth", "vxlan", "tun-plain")

NOSEG: Final = "-noseg"  # a cable that cannot segment tunnels
NIC: Final = "-nic"  # a cable like a laptop's network card
RTR: Final = "-rtr"  # through an RTR (relayed.py)

PLAIN_PATHS: Final = (*REFERENCES, *TIERS)
NOSEG_PATHS: Final = tuple(path + NOSEG for path in ("vxlan", *TIERS))  # the others are no tunnels in the kernel's eyes
NIC_PATHS: Final = tuple(path + NIC for path in ("veth", "vxlan", *TIERS, AUTO))
RTR_PATHS: Final = tuple(tier + RTR for tier in TIERS)
CIPHERS: Final = {"tun-sealed": "aes-128-gcm", "tun-sealed-chacha": "chacha20-poly1305"}
WIREGUARD: Final = "wireguard-go"
SEALED_PATHS: Final = (*CIPHERS, WIREGUARD)
PATHS: Final = (*PLAIN_PATHS, *NOSEG_PATHS, *NIC_PATHS, *RTR_PATHS, *SEALED_PATHS)


def kind_of(path: str) -> str:
    """What a path goes through, whatever its cable can do."""
    return path.removesuffix(NOSEG).removesuffix(NIC).removesuffix(RTR)


def cable_of(path: str) -> str:
    """The end of a path's name that says which cable it goes over; empty: one with all that veth can do."""
    return path.removeprefix(kind_of(path))


def tier_of(path: str) -> str:
    """The tier whose nodes are on the same cable as the path; the references are beside the first one."""
    kind = kind_of(path)
    return kind if kind in (*TIERS, AUTO) else TIERS[0]
