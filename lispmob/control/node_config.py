"""What a node is told: its EIDs, its mapping system, its policy; and the shape of a datagram that arrives."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lispmob.control.preference import PreferenceConfig
from lispmob.control.probing.path import ProbeConfig
from lispmob.control.sealing.peer_keys import PinnedKey
from lispmob.control.sealing.seal_config import HubKey, SealConfig, SealMode
from lispmob.protocol.natt_settings import NattSettings
from lispmob.protocol.servers import LispSecMode, MapServerPeer, ResolverSecret
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork
from lispmob.wire.auth import Key
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.record import Locator, MappingRecord

Fallback: TypeAlias = Literal["auto", "native", "proxy", "drop"]
"""Where packets go whose destination is no EID. auto: nowhere inside the overlay prefixes, natively outside of them."""
StatusBitsUse: TypeAlias = Literal["no", "listen", "send"]


class NodeConfig(msgspec.Struct, frozen=True):
    """Everything the core needs to know; a reload hands over a whole new one."""

    eids: tuple[EidPrefix, ...]
    map_servers: tuple[MapServerPeer, ...] = ()
    map_resolvers: tuple[IpAddress, ...] = ()
    has_mapping_program: bool = False
    """A program on this host is a mapping system, too, or the only one."""
    proxy_etrs: tuple[Locator, ...] = ()
    proxy_itrs: tuple[IpAddress, ...] = ()
    static_mappings: tuple[MappingRecord, ...] = ()
    overlay: tuple[EidPrefix, ...] = ()
    """Where other EIDs are, in every Instance-ID: a mapping elsewhere is not believed. None: anywhere."""
    fallback: Fallback = "proxy"
    overlay_prefixes: tuple[IpNetwork, ...] = ()
    """Where EIDs live, as the user says."""
    is_full: bool = False
    """Everything goes into the overlay, not the overlay prefixes alone."""
    map_cache_limit: int = 10000
    register_interval_s: float = 60.0
    record_ttl_min: int = 10
    xtr_id: bytes = bytes(16)
    site_id: bytes = bytes(8)
    probing: ProbeConfig | None = None
    """How locators are probed; None: not at all."""
    status_bits: StatusBitsUse = "no"
    """Listen: those of others make us probe. Send: and ours are told, too."""
    echo_nonce: bool = False
    """We answer requests for an echo in data, and say so."""
    preference: PreferenceConfig = msgspec.field(default_factory=PreferenceConfig)
    natt: NattSettings = NattSettings()
    seal: SealMode = "off"
    pinned_keys: tuple[PinnedKey, ...] = ()
    """Static keys of peers, as the user says."""
    hub_keys: tuple[HubKey, ...] = ()
    """Static keys of proxies, and of RTRs, as the user says."""
    strict_keys: bool = False
    """A new key that the mapping system vouches for waits for the user's yes."""
    key_record: KeyRecord | None = None
    """Our own static key as mappings say it; None: in no mapping."""
    lisp_sec: LispSecMode = "off"
    publications: bool = False
    """Hear from the Map-Server when a peer moves (RFC 9437), where mappings are genuine by LISP-SEC."""
    announcements: bool = False
    """Tell peers by their sealed sessions of moves, and believe what they tell of theirs."""
    map_versions: bool = False
    """Our mappings have Map-Version Numbers (RFC 9302), which sealed packets say."""
    resolver_secrets: tuple[tuple[IpAddress, ResolverSecret], ...] = ()
    """Of the Map-Resolvers that may be asked with LISP-SEC."""
    name: bytes = b""
    """What the mapping system is to know this host by (RFC 9735); nothing: by no name."""
    first_nonce: int = 1
    """Where the nonces of Map-Registers start, when the node is given no count that grows over restarts."""

    @property
    def sealing(self) -> SealConfig:
        """What the machine of sealed data is told."""
        return SealConfig(self.seal, self.pinned_keys, self.strict_keys, self.eids, self.hub_keys)

    @property
    def subscribes(self) -> bool:
        """Whether there is anything to subscribe with: LISP-SEC, and an xTR-ID that we are registered by."""
        is_named = any(server.sends_xtr_id for server in self.map_servers)
        return self.publications and self.lisp_sec != "off" and bool(self.eids) and is_named

    @property
    def etr_keys(self) -> tuple[Key, ...]:
        """The keys that Map-Servers wrap One-Time-Keys with for us."""
        return tuple(server.key for server in self.map_servers if server.has_lisp_sec)

    @property
    def heeds_status_bits(self) -> bool:
        """Whether anything follows from what others say: a question to their locators, so not without probing."""
        return self.status_bits != "no" and self.probing is not None

    @property
    def mapping_system(self) -> frozenset[IpAddress]:
        """The addresses that must stay reachable without LISP."""
        return frozenset((*self.map_resolvers, *(server.address for server in self.map_servers)))

    def eid_for(self, family: int, instance_id: int) -> EidPrefix | None:
        """Our EID that peers of this family and Instance-ID know us by."""
        fitting = (eid for eid in self.eids if eid.family == family and eid.instance_id == instance_id)
        return next(fitting, None)

    def source_for(self, prefix: EidPrefix) -> IpAddress | None:
        """The address of ours that peers in this prefix know us by."""
        eid = self.eid_for(prefix.family, prefix.instance_id)
        return eid.address if eid is not None else None

    def owner_of(self, address: IpAddress, instance_id: int) -> EidPrefix | None:
        """Our EID-Prefix that holds this address."""
        holding = (eid for eid in self.eids if eid.instance_id == instance_id and eid.contains(address))
        return next(holding, None)
