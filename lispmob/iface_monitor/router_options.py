"""Router Advertisement options that the kernel passes on: the prefix of a translator (RFC 8781).

The kernel reports each option once, when the advertisement arrives, and keeps no list. If another program processes the
advertisements (accept_ra is off), it reports none.

struct nduseroptmsg: family (8 bits), pad (8), octets of options (16), index of the interface (32), ICMP type (8), code
(8), pad (48); then the options
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Network
from typing import Final

from lispmob.iface_monitor.snapshot import Translator
from lispmob.netlink.message import Raw
from lispmob.wire.embedded_ipv4 import Pref64, take_pref64

_NDUSEROPT: Final = struct.Struct("=BxHiBB6x")
_ROUTER_ADVERTISEMENT: Final = 134
TRANSLATORS_MAX: Final = 16  # ours: of all interfaces; any host on a link may advertise


def pref64_in(message: Raw) -> tuple[int, Pref64] | None:
    """The interface and the option; None for other options, and for malformed ones."""
    body = message.body
    if len(body) < _NDUSEROPT.size:
        return None
    _, octets, ifindex, kind, _ = _NDUSEROPT.unpack_from(body)
    said = take_pref64(body[_NDUSEROPT.size :][:octets]) if kind == _ROUTER_ADVERTISEMENT else None
    return None if said is None else (ifindex, said)


class Translators:
    """The advertised translators, each for its lifetime."""

    def __init__(self) -> None:
        self._until: dict[tuple[int, IPv6Network], float] = {}

    def on_said(self, ifindex: int, said: Pref64, now: float) -> None:
        """A router advertised this at `now`, monotonic seconds."""
        key = ifindex, said.prefix
        self._until.pop(key, None)
        if said.lifetime_s:
            self._until[key] = now + said.lifetime_s
        while len(self._until) > TRANSLATORS_MAX:
            del self._until[next(iter(self._until))]

    def on_link_down(self, ifindex: int) -> None:
        """The interface is gone, or down: it may be in another network afterwards."""
        self._until = {key: until for key, until in self._until.items() if key[0] != ifindex}

    def at(self, now: float) -> tuple[Translator, ...]:
        """The current translators, sorted."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        return tuple(sorted(Translator(ifindex, prefix) for ifindex, prefix in self._until))
