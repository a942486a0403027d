"""The configuration of a node: its EIDs, its mapping system, its policy; and the type of a received datagram."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lispmob.control.preference import PreferenceConfig
from lispmob.control.probing.path import ProbeConfig
from lispmob.control.sealing.dialect_keys import DialectName
from lispmob.control.sealing.peer_keys import PinnedKey
from lispmob.control.sealing.seal_config import HubKey, SealConfig, SealMode
from lispmob.protocol.natt_settings import NattSettings
from lispmob.protocol.servers import LispSecMode, MapServerPeer, ResolverSecret
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork
from lispmob.wire.auth import Key
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.record import Locator, MappingRecord

Fallback: TypeAlias = Literal["auto", "native", "proxy", "drop"]
"""What happens to packets to destinations that are no EIDs. auto: drop inside the overlay prefixes, native outside."""
StatusBitsUse: TypeAlias = Literal["no", "listen", "send"]


class NodeConfig(msgspec.Struct, frozen=True):
    """The whole configuration of the core; a reload passes a new one."""

    eids: tuple[EidPrefix, ...]
    map_servers: tuple[MapServerPeer, ...] = ()
    map_resolvers: tuple[IpAddress, ...] = ()
    has_mapping_program: bool = False
    """A program on this host is a mapping system, beside others or alone."""
    proxy_etrs: tuple[Locator, ...] = ()
    proxy_itrs: tuple[IpAddress, ...] = ()
    static_mappings: tuple[MappingRecord, ...] = ()
    overlay: tuple[EidPrefix, ...] = ()
    """The prefixes of other EIDs, in every Instance-ID: a mapping outside of them is refused. None: anywhere."""
    fallback: Fallback = "proxy"
    overlay_prefixes: tuple[IpNetwork, ...] = ()
    """The configured prefixes of EIDs."""
    is_full: bool = False
    """Route everything into the overlay, not the overlay prefixes alone."""
    map_cache_limit: int = 10000
    register_interval_s: float = 60.0
    record_ttl_min: int = 10
    xtr_id: bytes = bytes(16)
    site_id: bytes = bytes(8)
    probing: ProbeConfig | None = None
    """How locators are probed; None: probing is off."""
    status_bits: StatusBitsUse = "no"
    """Listen: the bits of others cause probes. Send: we also send our own."""
    echo_nonce: bool = False
    """Answer requests for an echo in data, and announce that we do."""
    preference: PreferenceConfig = msgspec.field(default_factory=PreferenceConfig)
    natt: NattSettings = NattSettings()
    seal: SealMode = "off"
    pinned_keys: tuple[PinnedKey, ...] = ()
    """Configured static keys of peers."""
    hub_keys: tuple[HubKey, ...] = ()
    """Configured static keys of proxies and RTRs."""
    strict_keys: bool = False
    """A new key from the mapping system waits until the user accepts it."""
    key_record: KeyRecord | None = None
    """Our own static key for our mappings; None: left out."""
    lisp_sec: LispSecMode = "off"
    publications: bool = False
    """Subscribe to changes of mappings (RFC 9437) that LISP-SEC authenticates."""
    announcements: bool = False
    """Announce moves to peers in sealed sessions, and use their announcements."""
    map_versions: bool = False
    """Our mappings have Map-Version Numbers (RFC 9302), which sealed packets carry."""
    dialects: tuple[DialectName, ...] = ()
    """Encrypt data in clear as RFC 8061 or lispers.net do, with locators that can."""
    resolver_secrets: tuple[tuple[IpAddress, ResolverSecret], ...] = ()
    """For the Map-Resolvers that may be asked with LISP-SEC."""
    name: bytes = b""
    """This host's name in the mapping system (RFC 9735); empty: none."""
    first_nonce: int = 1
    """First nonce of Map-Registers if no counter that grows over restarts is given."""

    @property
    def sealing(self) -> SealConfig:
        """The configuration of the sealing machine."""
        proxies = tuple(address for proxy in self.proxy_etrs for address in proxy.ips)
        return SealConfig(self.seal, self.pinned_keys, self.strict_keys, self.eids, self.hub_keys, proxies)

    @property
    def subscribes(self) -> bool:
        """Whether subscriptions are possible: they need LISP-SEC, and an xTR-ID in the registration."""
        is_named = any(server.sends_xtr_id for server in self.map_servers)
        return self.publications and self.lisp_sec != "off" and bool(self.eids) and is_named

    @property
    def etr_keys(self) -> tuple[Key, ...]:
        """The keys with which Map-Servers wrap One-Time-Keys for us."""
        return tuple(server.key for server in self.map_servers if server.has_lisp_sec)

    @property
    def accepts_status_bits(self) -> bool:
        """Whether the bits of others have an effect: they cause probes, so not without probing."""
        return self.status_bits != "no" and self.probing is not None

    @property
    def mapping_system(self) -> frozenset[IpAddress]:
        """The addresses that must stay reachable without LISP."""
        return frozenset((*self.map_resolvers, *(server.address for server in self.map_servers)))

    def eid_for(self, family: int, instance_id: int) -> EidPrefix | None:
        """Our EID towards peers of this family and Instance-ID."""
        fitting = (eid for eid in self.eids if eid.family == family and eid.instance_id == instance_id)
        return next(fitting, None)

    def source_for(self, prefix: EidPrefix) -> IpAddress | None:
        """Our address towards peers in this prefix."""
        eid = self.eid_for(prefix.family, prefix.instance_id)
        return eid.address if eid is not None else None

    def owner_of(self, address: IpAddress, instance_id: int) -> EidPrefix | None:
        """The local EID-Prefix that holds this address."""
        holding = (eid for eid in self.eids if eid.instance_id == instance_id and eid.contains(address))
        return next(holding, None)
