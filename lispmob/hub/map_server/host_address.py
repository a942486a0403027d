"""Which addresses a single host can have, so that something may be sent there without authentication. Pure.

`wire/address_class.py` has the addresses that can be locators at all. Addresses for documentation and benchmarks are
allowed, because test networks use them; private ones depend on our own location.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import may_be_rloc

_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_TRANSLATED: Final = ("64:ff9b::/96", "64:ff9b:1::/48")
"""Translators map these to IPv4 addresses, perhaps private ones (RFC 6052, RFC 8215)."""

PRIVATE: Final = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""RFC 1918, RFC 6598 (shared by the users of one provider), RFC 4193."""


_UNTOLD: Final = (*PRIVATE, "192.0.0.0/29")
"""And the address of an IPv6-only host towards a translator (RFC 7335)."""


class _Ranges:
    """Membership in a list of networks, by comparing numbers."""

    def __init__(self, texts: Iterable[str]) -> None:
        networks = [ip_network(text) for text in texts]
        self._ranges = {
            version: [
                (int(network.network_address), int(network.broadcast_address))
                for network in networks
                if network.version == version
            ]
            for version in (4, 6)
        }

    def __contains__(self, address: IpAddress) -> bool:
        number = int(address)
        return any(first <= number <= last for first, last in self._ranges[address.version])


_loopback = _Ranges(_LOOPBACK)
_translated = _Ranges(_TRANSLATED)
_private = _Ranges(PRIVATE)
_untold = _Ranges(_UNTOLD)


def is_loopback(address: IpAddress) -> bool:
    """True for an address of this machine that no network carries."""
    return address in _loopback


def is_private(address: IpAddress) -> bool:
    """True for an address that belongs to another host in every private network."""
    return address in _private


def is_translated(address: IpAddress) -> bool:
    """True for an address that is always translated on the way to a distant host."""
    return address in _untold


def is_host(address: IpAddress) -> bool:
    """True for an address that a single other host can have, here or elsewhere."""
    return may_be_rloc(address) and address not in _translated


def is_sendable(address: IpAddress, via: IpAddress) -> bool:
    """True for an address that may be sent to because a sender at `via`, a local address, named it.

    Loopback counts only from a sender on loopback, as in a test bed.
    """
    return is_host(address) or (address in _loopback and via in _loopback)
