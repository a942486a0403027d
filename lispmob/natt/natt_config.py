"""The configuration of the NAT machines."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

import msgspec

from lispmob.control.node_config import NodeConfig
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.natt_settings import NattMode
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm
from lispmob.wire.key_record import KeyRecord

# RFC 1918, RFC 6598 (carrier-grade NAT), RFC 7335 (towards a translator), RFC 4193. Nothing else: the documentation
# addresses of test networks count as public.
_PRIVATE: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/29", "fc00::/7")
)


class NattConfig(msgspec.Struct, frozen=True):
    """`rtrs`: the RTRs that may be used; empty: those of an authenticated Info-Reply.

    `keepalive_s` None: measured. `prefers_rtr`: use an RTR without a NAT too, as behind a stateful firewall. `direct`:
    send past the RTR to peers that can be reached that way.
    """

    eids: tuple[EidPrefix, ...]
    map_servers: tuple[MapServerPeer, ...]
    mode: NattMode = "auto"
    rtrs: tuple[IpAddress, ...] = ()
    prefers_rtr: bool = False
    direct: bool = False
    keepalive_s: float | None = None
    record_ttl_min: int = 10
    xtr_id: bytes = bytes(16)
    site_id: bytes = bytes(8)
    host_name: bytes = b"lispmob"
    key_record: KeyRecord | None = None
    map_versions: bool = False

    @classmethod
    def of(cls, config: NodeConfig) -> NattConfig:
        """The part of a node's configuration that is used here."""
        return cls(
            eids=config.eids,
            map_servers=config.map_servers,
            mode=config.natt.mode,
            rtrs=config.natt.rtrs,
            prefers_rtr=config.natt.prefers_rtr,
            direct=config.natt.direct and config.lisp_sec != "require",  # direct paths are looked up without LISP-SEC
            keepalive_s=config.natt.keepalive_s,
            record_ttl_min=config.record_ttl_min,
            xtr_id=config.xtr_id,
            site_id=config.site_id,
            host_name=config.natt.host_name,
            key_record=config.key_record,
            map_versions=config.map_versions,
        )

    def host_name_on(self, interface: str) -> bytes:
        """The name of one uplink in lispers.net's dialect: two uplinks behind one NAT are two places to an RTR."""
        return b"%b-%b" % (self.host_name, interface.encode())

    def is_at_risk(self, server: MapServerPeer) -> bool:
        """True when an Info-Request may crash this server, and the configuration does not say that it has RTRs.

        An Open Overlay Router Map-Server without RTRs crashes on one. It knows only HMAC-SHA-1, with the full digest,
        so every other server may be asked.
        """
        wants_rtr = self.mode != "auto" or bool(self.rtrs) or self.prefers_rtr
        return not wants_rtr and server.key.algorithm is Algorithm.HMAC_SHA_1_96 and not server.key.is_truncated

    def servers_for(self, own: LocalLocator) -> tuple[MapServerPeer, ...]:
        """The Map-Servers that an uplink can talk to: those of its family, and then those that a translator leads to.

        Where a DNS server made an IPv6 address of a name that has none (DNS64), the IPv4 one is what counts.
        """
        beyond = own.nat64 is not None
        return tuple(
            sorted(
                (
                    server
                    for server in self.map_servers
                    if own.reach(server.address) is not None and not (beyond and self._is_synthesized(server, own))
                ),
                key=lambda server: server.address.version != own.address.version,
            )
        )

    def _is_synthesized(self, server: MapServerPeer, own: LocalLocator) -> bool:
        """True when its address is that of another Map-Server, behind the translator's prefix."""
        return server.address.version == own.address.version and any(
            other.address.version != own.address.version and own.reach(other.address) == server.address
            for other in self.map_servers
        )


def is_private(address: IpAddress) -> bool:
    """True for an address that is certainly translated on the way to the Internet."""
    return any(address.version == network.version and address in network for network in _PRIVATE)
