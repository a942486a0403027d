"""LISP-SEC in a hub: the Map-Resolver unwraps the ITR's One-Time-Key, the Map-Server signs with it (RFC 9303, 6.5 to
6.7).

Both are in one process, so the key is not wrapped again between them. The source EID of the Map-Request tells whose
secret wrapped the key. An ETR that answers itself gets the MS-OTK, wrapped with the key it registered with; the hub of
another Map-Server gets the ITR-OTK, wrapped with a secret that the two hubs share (ours: RFC 9303 would send it in
clear on a protected path).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from lispmob.errors import AuthenticationFailed
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.map_server.site import SiteTable
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.protocol.servers import LispSecMode, ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.auth import Key
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.lcaf_types import InstanceId, WireAddress
from lispmob.wire.lisp_sec import AD_LISP_SEC, AuthorizedEid, EcmSecurity, EidAuthentication
from lispmob.wire.lisp_sec_auth import KeyWrap
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action, MappingRecord

OTHERS_TRIED: Final = 64  # ours: secrets of other sites, tried where that of the source EID fails; 10 us each
OTHERS_S: Final = 0.05  # ours: at most 20 Map-Requests a second for which others are tried
OTHERS_BURST: Final = 20
OTHERS_EACH_S: Final = 1.0  # ours: one a second for each sender, so that none uses up the common limit
OTHERS_BURST_EACH: Final = 4
UNSIGNED_TTL_MIN: Final = 1  # ours: of "its ETRs cannot sign": the next Map-Register may come from one that can


@dataclass(frozen=True, slots=True)
class Protection:
    """The One-Time-Key of a Map-Request, and the algorithms to use: those requested, if we know them."""

    otk: bytes = dataclasses.field(repr=False)
    hmac_id: int
    kdf_id: int
    key_id: int = 0
    opened_by: bytes | None = dataclasses.field(default=None, repr=False)
    """The secret that unwrapped the key, if it belongs to the source EID's own site, or to the hub that asks."""

    def eids(self, prefixes: Iterable[EidPrefix], *, has_e_bit: bool = False) -> EidAuthentication:
        """The EID-AD in which we authenticate these prefixes. E: some of their ETRs cannot sign."""
        authorized = tuple(AuthorizedEid(from_prefix(prefix), prefix.mask_len) for prefix in prefixes)
        return lisp_sec_auth.sign_eids(
            EidAuthentication(self.kdf_id, self.hmac_id, authorized, b"", has_e_bit), self.otk
        )

    def reply(self, reply: MapReply, *, has_e_bit: bool = False) -> bytes:
        """A Map-Reply that we answer ourselves: both HMACs are ours."""
        prefixes = [prefix for record in reply.records if (prefix := record.eid_prefix) is not None]
        widest = [
            prefix for prefix in prefixes if not any(other.covers(prefix) and other != prefix for other in prefixes)
        ]
        eid_ad = self.eids(widest, has_e_bit=has_e_bit).encode()
        return lisp_sec_auth.sign_reply(reply, eid_ad, self.hmac_id, lisp_sec_auth.ms_otk(self.otk, self.kdf_id))


class HubSecurity:
    """The secrets with which LISP-SEC requests may come. Without a `KeyWrap` there is no LISP-SEC."""

    def __init__(self, mode: LispSecMode = "off", wrap: KeyWrap | None = None) -> None:
        """ValueError for `require` without a KeyWrap."""
        self._wrap = wrap
        self._others = TokenBucket(OTHERS_S, OTHERS_BURST)
        self._others_of: KeyedBuckets[int] = KeyedBuckets(OTHERS_EACH_S, OTHERS_BURST_EACH)
        self._by_site: dict[str, tuple[ResolverSecret, ...]] = {}
        self._by_key_id: dict[int, tuple[ResolverSecret, ...]] = {}
        self._hubs: dict[IpAddress, ResolverSecret] = {}
        self._rtrs: dict[IpAddress, ResolverSecret] = {}
        self.on_mode(mode)

    def on_mode(self, mode: LispSecMode) -> None:
        """Take the configured mode."""
        if mode == "require" and self._wrap is None:
            raise ValueError("LISP-SEC is required, and there is no key wrap")
        self._mode: LispSecMode = mode if self._wrap is not None else "off"

    def on_sites(self, sites: SiteTable) -> None:
        """Take the configured sites, or their new keys."""
        self._by_site = {site.name: site.resolver_secrets for site in sites} if self._mode != "off" else {}
        found: dict[int, dict[bytes, ResolverSecret]] = {}
        for secrets in self._by_site.values():
            for secret in secrets:
                known = found.setdefault(secret.key_id, {})
                if len(known) < OTHERS_TRIED:
                    known[secret.octets] = secret
        self._by_key_id = {key_id: tuple(known.values()) for key_id, known in found.items()}

    def on_hubs(self, secrets: Mapping[IpAddress, ResolverSecret]) -> None:
        """Take the secrets shared with hubs of other Map-Servers."""
        self._hubs = dict(secrets)

    def on_rtrs(self, keys: Mapping[IpAddress, Key]) -> None:
        """Take the keys of RTRs, which ask for the nodes behind them with a secret derived from the shared key."""
        self._rtrs = {
            address: ResolverSecret(lisp_sec_auth.resolver_secret(key.secret), key.key_id)
            for address, key in keys.items()
        }

    @property
    def is_required(self) -> bool:
        """True when requests without LISP-SEC are not answered."""
        return self._mode == "require"

    def open(
        self, ecm: EncapsulatedControl, request: MapRequest, source: IpAddress, sites: SiteTable, now: float
    ) -> Protection | None:
        """The protection that the Map-Request of an ECM asks for; None without LISP-SEC, or where it is off.

        Raises AuthenticationFailed for a One-Time-Key that no secret opens, and MalformedMessage.
        """
        if self._mode == "off" or ecm.authentication is None or ecm.authentication[0] != AD_LISP_SEC:
            return None
        security = EcmSecurity.take(Reader(ecm.authentication))
        lisp_sec_auth.require_itr_request(security)
        otk, opened_by = self._unwrap(request, security, source, sites, now)
        if otk is None:
            raise AuthenticationFailed(f"no secret opens the One-Time-Key with key-id {security.key_id} (LISP-SEC)")
        asked, kdf_id = security.requested_hmac_id, security.eid.kdf_id
        return Protection(
            otk,
            asked if lisp_sec_auth.is_hmac(asked) else lisp_sec_auth.HMAC_SHA_256_128,
            kdf_id if lisp_sec_auth.is_kdf(kdf_id) else lisp_sec_auth.HKDF_SHA_256,
            security.key_id,
            opened_by,
        )

    def for_etr(
        self, protection: Protection, part: XtrRegistration, registration: Registration, sites: SiteTable, nonce: int
    ) -> bytes | None:
        """The AD of the ECM for an ETR that signs: the MS-OTK, and our signature for the registered prefix.

        None when no key of its site is known any more.
        """
        assert self._wrap is not None
        found = sites.of(registration.prefix)
        keys = found[1].keys if found is not None else ()
        if not keys:
            return None
        key = keys[part.key_index if part.key_index is not None and part.key_index < len(keys) else 0]
        has_e_bit = not all(claim.has_lisp_sec for claim in registration)
        eids = protection.eids((registration.prefix,), has_e_bit=has_e_bit)
        otk = lisp_sec_auth.ms_otk(protection.otk, protection.kdf_id)
        return self._ecm_ad(protection.hmac_id, ResolverSecret(key.secret, key.key_id), nonce, otk, eids)

    def for_hub(self, protection: Protection, hub: IpAddress, nonce: int) -> bytes | None:
        """The AD of the ECM for the hub of another Map-Server; None when we share no secret with it."""
        secret = self._hubs.get(hub)
        if secret is None:
            return None
        bare = EidAuthentication(protection.kdf_id)
        return self._ecm_ad(protection.hmac_id, secret, nonce, protection.otk, bare)

    def _ecm_ad(self, hmac_id: int, secret: ResolverSecret, nonce: int, otk: bytes, eids: EidAuthentication) -> bytes:
        assert self._wrap is not None
        wrapped = lisp_sec_auth.wrapped_otk(self._wrap, nonce, secret.octets, otk)
        return EcmSecurity(hmac_id, secret.key_id, lisp_sec_auth.AES_KEY_WRAP, wrapped, eids).encode()

    def _unwrap(
        self, request: MapRequest, security: EcmSecurity, source: IpAddress, sites: SiteTable, now: float
    ) -> tuple[bytes | None, bytes | None]:
        """Try the hub or RTR that sent it, then the site of the source EID, then others with the same Key ID.

        For the first two the Key ID is only a hint: registrations work where only one side has one configured. Returns
        also the secret that opened it, unless it is one of the others: their owners may ask, but not subscribe.
        """
        if (hub := self._hubs.get(source)) is not None and (opened := self._try((hub,), request, security))[0]:
            return opened
        if (rtr := self._rtrs.get(source)) is not None and (opened := self._try((rtr,), request, security))[0]:
            return opened[0], None
        if (opened := self._try(self.secrets_of(host_of(request.source_eid), sites), request, security))[0]:
            return opened
        if not self._others_of.take(owner_of(source), now) or not self._others.take(now):
            return None, None
        return self._try(self._by_key_id.get(security.key_id, ()), request, security)[0], None

    def secrets_of(self, source: EidPrefix | None, sites: SiteTable) -> tuple[ResolverSecret, ...]:
        """The secrets of an EID's site: only with these may it subscribe."""
        found = sites.of(source) if source is not None else None
        return () if found is None else self._by_site.get(found[1].name, ())

    @property
    def wrap(self) -> KeyWrap | None:
        """The function that wraps secrets; None where this host has none."""
        return self._wrap

    @property
    def hub_secrets(self) -> tuple[ResolverSecret, ...]:
        """The secrets of hubs of other Map-Servers, which have checked those that ask through them."""
        return tuple(self._hubs.values())

    def _try(
        self, secrets: Iterable[ResolverSecret], request: MapRequest, security: EcmSecurity
    ) -> tuple[bytes | None, bytes | None]:
        """The One-Time-Key, and the secret that opens it."""
        assert self._wrap is not None
        for secret in sorted(secrets, key=lambda one: one.key_id != security.key_id):
            otk = lisp_sec_auth.unwrapped_otk(self._wrap, request.nonce, secret.octets, security)
            if otk is not None:
                return otk, secret.octets
        return None, None


def host_of(eid: WireAddress) -> EidPrefix | None:
    """The EID of a Source EID field, as a host; None when it is none."""
    match eid:
        case InstanceId(instance_id, IPv4Address() | IPv6Address() as address):
            return EidPrefix.host(address, instance_id)
        case IPv4Address() | IPv6Address():
            return EidPrefix.host(eid)
    return None


def unsigned(prefix: EidPrefix) -> MappingRecord:
    """The record for a prefix whose ETRs cannot sign, with E in the EID-AD (RFC 9303, 6.7)."""
    return MappingRecord.of(prefix, ttl_min=UNSIGNED_TTL_MIN, action=Action.DROP)


def unprotected(asked: EidPrefix | DistinguishedName) -> MappingRecord:
    """The record for a request without LISP-SEC where it is required."""
    if isinstance(asked, DistinguishedName):
        return MappingRecord(asked, 0, (), UNSIGNED_TTL_MIN, Action.DROP_AUTH_FAILURE)
    return MappingRecord.of(asked, ttl_min=UNSIGNED_TTL_MIN, action=Action.DROP_AUTH_FAILURE)
