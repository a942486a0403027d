"""NATs and firewalls as data, and as nftables rules in the gateway of an access network.

              inside                     the gateway                        core
    host 192.168.1.10:4341 -- lan | mapping, filter, conntrack | wan -- 203.0.113.200:4341

Conntrack does the translation, so that bindings, timeouts and losses are real. Linux's own mapping is
endpoint-independent (a port is kept while it is free), its filter is address-and-port-dependent. For RFC 4787's other
filters, outbound packets fill a map, and the rules admit inbound packets by that map.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.lab import link
from lispmob.lab.build import Lab
from lispmob.lab.namespace import Namespace
from lispmob.lab.topology import transit

_TABLE: Final = "lmnat"
_LAN, _WAN = "lan", "wan"  # the interfaces of a gateway, named by build.py


class Mapping(Enum):
    """RFC 4787, 4.1: when an inside port gets another outside port."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"  # "symmetric": at random for every destination


class Filtering(Enum):
    """RFC 4787, 5: which senders can reach an outside port that is in use."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass(frozen=True, slots=True)
class Nat:
    """The behaviour of a gateway. `public` None: no translation, a stateful firewall only.

    `new_s` is the timeout of a flow without answer, `stream_s` of a flow with packets in both directions, 2 s apart.
    ValueError for a filter that conntrack cannot have together with the mapping. `passes_zero` False: packets with a
    UDP checksum of zero are dropped, as translators to IPv6 do (RFC 7915, section 4.5).
    """

    public: IPv4Address | None
    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    new_s: int = 30
    stream_s: int = 120
    hairpins: bool = False
    passes_zero: bool = True

    def __post_init__(self) -> None:
        is_wide = self.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT
        if is_wide and (self.mapping is not Mapping.ENDPOINT_INDEPENDENT or self.public is None):
            raise ValueError(f"{self.filtering.value} filtering needs a NAT with endpoint-independent mapping")
        if self.hairpins and self.filtering is not Filtering.ENDPOINT_INDEPENDENT:
            raise ValueError("hairpinning needs endpoint-independent filtering: insiders are outsiders there")
        if min(self.new_s, self.stream_s) < 1:
            raise ValueError("a timeout is at least one second")

    def rules(self) -> str:
        """The nft script that makes the gateway behave so, whatever it did before."""
        parts = [f"table ip {_TABLE}", f"delete table ip {_TABLE}", f"table ip {_TABLE} {{"]
        if self.public is not None:
            parts += self._cone() + self._nat(self.public)
        parts += [*self._forward(), "}"]
        return "\n".join(parts) + "\n"

    @property
    def _key(self) -> tuple[str, str, str] | None:
        """For the map of open ports: its type, the key of an outbound packet, the key of an inbound packet."""
        if self.filtering is Filtering.ENDPOINT_INDEPENDENT:
            return "inet_service", "udp sport", "udp dport"
        if self.filtering is Filtering.ADDRESS_DEPENDENT:
            return "ipv4_addr . inet_service", "ip daddr . udp sport", "ip saddr . udp dport"
        return None

    def _cone(self) -> list[str]:
        if self._key is None:
            return []
        return [
            "map open {",
            f"type {self._key[0]} : ipv4_addr",
            "size 65535",
            f"flags dynamic,timeout; timeout {self.stream_s}s",
            "}",
        ]

    def _nat(self, public: IPv4Address) -> list[str]:
        is_random = self.mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT
        lines = ["chain out { type nat hook postrouting priority srcnat;"]
        if is_random:
            lines.append(f"oifname {_WAN} meta l4proto {{ tcp, udp }} snat to {public}:1024-65535 fully-random")
        lines.append(f"oifname {_WAN} snat to {public} persistent")
        if self.hairpins:
            lines.append(f"iifname {_LAN} oifname {_LAN} ct status dnat snat to {public} persistent")
        lines.append("}")
        if self._key is not None:
            inside = f"{{ {_LAN}, {_WAN} }}" if self.hairpins else _WAN
            lines += [
                "chain in { type nat hook prerouting priority dstnat;",
                f"iifname {inside} ip daddr {public} meta l4proto udp dnat to {self._key[2]} map @open",
                "}",
            ]
        return lines

    def _forward(self) -> list[str]:
        lines = ["chain between { type filter hook forward priority filter; policy accept;"]
        if self._key is not None:
            lines.append(
                f"iifname {_LAN} meta l4proto udp update @open {{ {self._key[1]} timeout {self.stream_s}s : ip saddr }}"
            )
        if not self.passes_zero:
            lines.append("udp checksum 0 drop")
        lines.append(f"iifname {_WAN} oifname {_LAN} ct state established,related accept")
        lines.append(f"iifname {_WAN} oifname {_LAN} ct status dnat accept")
        lines.append(f"iifname {_WAN} oifname {_LAN} drop")
        lines.append("}")
        return lines


class NatGateway:
    """A NAT in a laboratory. It is removed with the laboratory."""

    def __init__(self, lab: Lab, network: str, nat: Nat) -> None:
        """Make the gateway of `network` behave as `nat` says. Raises KernelRefused."""
        self.nat = nat
        self._lab = lab
        self._gateway = lab[f"gw-{network}"]
        number = next(i for i, one in enumerate(lab.topology.networks) if one.name == network)
        self._upstream: tuple[Namespace, str] = (lab["core"], f"via {transit(number)[0][0].ip} dev net{number}")
        self._apply()

    def behind(self, carrier: NatGateway, number: int = 1) -> None:
        """Put this gateway behind `carrier`, so that two NATs are in a row.

        The cable between them is in 100.64.0.0/10 (RFC 6598); this gateway translates to its own address there.
        """
        own, other = (IPv4Address(f"100.64.{number}.{host}") for host in (2, 1))
        theirs, ours = carrier._gateway, self._gateway
        # A gateway's filter matches interfaces by name, so the old line has to give up its name first.
        link.apply(ours, [f"link set {_WAN} down", f"link set {_WAN} name line"])
        link.apply(
            theirs,
            [
                link.veth(f"cgn{number}", ours, _WAN),
                f"link set cgn{number} up",
                f"addr replace {other}/30 dev cgn{number}",
            ],
        )
        link.apply(
            ours,
            [
                f"link set {_WAN} up",
                f"addr replace {own}/30 dev {_WAN}",
                f"route replace default via {other} dev {_WAN}",
            ],
        )
        self._drop_public()
        self._upstream = (theirs, f"via {own} dev cgn{number}")
        self.nat = replace(self.nat, public=own)
        self._apply()

    def reboot(self) -> None:
        """Forget every binding, as after a power cut."""
        self._gateway.run("conntrack", "-F")
        self._run(self.nat.rules())

    def renumber(self, public: IPv4Address) -> None:
        """Change the public address, as a provider does; no binding survives."""
        self._drop_public()
        self.nat = replace(self.nat, public=public)
        self._apply()
        self._gateway.run("conntrack", "-F")

    def change(self, nat: Nat) -> None:
        """Change the behaviour; existing bindings stay."""
        self._drop_public()
        self.nat = nat
        self._apply()

    def bindings(self) -> str:
        """The entries of conntrack, as text."""
        return self._gateway.run("conntrack", "-L", "-p", "udp")

    def _apply(self) -> None:
        self._run(self.nat.rules())
        self._gateway.sysctl("netfilter/nf_conntrack_udp_timeout", str(self.nat.new_s))
        self._gateway.sysctl("netfilter/nf_conntrack_udp_timeout_stream", str(self.nat.stream_s))
        public = self.nat.public
        if public is None or self._is_on_wan(public):
            return
        # Add the address to the gateway; otherwise packets without a binding would loop between gateway and core.
        link.apply(self._gateway, [f"addr replace {public}/32 dev lo"])
        namespace, way = self._upstream
        link.apply(namespace, [f"route replace {public}/32 {way}"])

    def _drop_public(self) -> None:
        public = self.nat.public
        if public is None or self._is_on_wan(public):
            return
        link.apply(self._gateway, [f"addr del {public}/32 dev lo"])
        namespace, way = self._upstream
        link.apply(namespace, [f"route del {public}/32 {way}"])

    @staticmethod
    def _is_on_wan(public: IPv4Address) -> bool:
        return str(public).startswith("100.64.")

    def _run(self, script: str) -> None:
        command = self._gateway.argv("nft", "-f", "-")
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            raise KernelRefused(f"`nft` refused the rules of {self._gateway.word}: {done.stderr.strip()}")
