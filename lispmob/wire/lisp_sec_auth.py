"""The computations of LISP-SEC (RFC 9303): key derivation, the HMAC over the EID-AD, the HMAC over the Map-Reply.

The ITR draws an ITR-OTK for each Map-Request and wraps it for the Map-Resolver. The Map-Server signs the EID-Prefixes
with the ITR-OTK (EID HMAC) and derives the MS-OTK from it. The ETR, or the Map-Server as its proxy, signs the whole
Map-Reply with the MS-OTK (PKT HMAC). The ITR knows the ITR-OTK, and so it can verify both.

The RFC leaves salt and info of its HKDFs open; here both are empty. Key wrapping itself (RFC 3394) is in `KeyWrap`.
"""

from __future__ import annotations

import hmac
from enum import Enum
from typing import Final, Protocol

from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, LispError
from lispmob.wire.lisp_sec import EcmSecurity, EidAuthentication, MapReplySecurity
from lispmob.wire.map_reply import MapReply

OTK_OCTETS: Final = 16
HMAC_SHA_1_96: Final = 1
HMAC_SHA_256_128: Final = 2
HKDF_SHA_1: Final = 1
HKDF_SHA_256: Final = 2
AES_KEY_WRAP: Final = 2  # OTK Wrapping ID with the key derivation that belongs to it; 1 is an unencrypted OTK
BARE_EID_AD: Final = 4  # octets of an EID-AD with nothing but the KDF ID: what an ITR sends

_DIGESTS: Final = {HMAC_SHA_1_96: "sha1", HMAC_SHA_256_128: "sha256"}
_KDFS: Final = {HKDF_SHA_1: "sha1", HKDF_SHA_256: "sha256"}
_HMAC_OCTETS: Final = {HMAC_SHA_1_96: (12, 20), HMAC_SHA_256_128: (16, 32)}
"""The length that we send, and the other length that we accept: deployed Map-Servers send whole digests."""
_WRAP_LABEL: Final = b"OTK-Key-Wrap"
_DERIVED_SALT: Final = b"lispmob itr-mr"
_DERIVED_OCTETS: Final = 32
_FIXED_OCTETS: Final = 12  # of a Map-Reply, before its records


class KeyWrap(Protocol):
    """AES key wrap (RFC 3394): 16 octets, wrapped with a key of 16 octets, become 24."""

    def wrap(self, key: bytes, secret: bytes) -> bytes:
        """The wrapped secret."""
        ...

    def unwrap(self, key: bytes, wrapped: bytes) -> bytes | None:
        """The secret; None when its check value is wrong for the key."""
        ...


class Fault(Enum):
    """Why a Map-Reply is not an authentic answer. The value is the counter's name."""

    MISSING = "sec_missing"
    HMAC = "sec_hmac"
    PREFIX = "sec_prefix"
    ALGORITHM = "sec_algorithm"
    AUTH = "rx_auth"


class NotGenuine(LispError):
    """LISP-SEC refuses a Map-Reply: count it under `fault`, drop it, keep waiting for the authentic one."""

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(why)
        self.fault = fault


def hkdf(material: bytes, octets: int, digest: str = "sha256", salt: bytes = b"") -> bytes:
    """HKDF without info (RFC 5869). `octets`: at most one digest. An empty salt is a digest's length of zeros."""
    size = {"sha1": 20, "sha256": 32}[digest]
    if octets > size:
        raise ValueError(f"{octets} octets of one round of HKDF with {digest}")
    extracted = hmac.digest(salt or bytes(size), material, digest)
    return hmac.digest(extracted, b"\x01", digest)[:octets]


def resolver_secret(registration_secret: bytes) -> bytes:
    """The secret between ITR and Map-Resolver, if none is configured and the Map-Resolver is the Map-Server too (ours).

    RFC 9303 wants it independent of the secret between ETR and Map-Server. A node that is both ITR and ETR has the
    registration key anyway, and no third party has either secret.
    """
    return hkdf(registration_secret, _DERIVED_OCTETS, salt=_DERIVED_SALT)


def wrapping_key(nonce: int, secret: bytes) -> bytes:
    """The key that wraps the OTK of one Map-Request (RFC 9303, 6.5)."""
    return hkdf(nonce.to_bytes(8) + _WRAP_LABEL + secret, OTK_OCTETS)


def ms_otk(itr_otk: bytes, kdf_id: int) -> bytes:
    """The Map-Server's key for the PKT HMAC (RFC 9303, 6.7.2). `kdf_id` must satisfy `is_kdf`."""
    return hkdf(itr_otk, OTK_OCTETS, _KDFS[kdf_id])


def publication_key(otk: bytes, nonce: int) -> bytes:
    """The secret that signs the Map-Notifies and Map-Notify-Acks of one subscription (RFC 9437, 7.1).

    The RFC leaves salt, info and length open. We use no salt and no info, and the One-Time-Key's length of 16 octets.
    """
    return hkdf(otk + nonce.to_bytes(8), OTK_OCTETS)


def is_kdf(kdf_id: int) -> bool:
    """Whether we implement this key derivation."""
    return kdf_id in _KDFS


def is_hmac(hmac_id: int) -> bool:
    """Whether we implement this HMAC."""
    return hmac_id in _DIGESTS


def wrapped_otk(wrap: KeyWrap, nonce: int, secret: bytes, otk: bytes) -> bytes:
    """The OTK as an ECM carries it."""
    return wrap.wrap(wrapping_key(nonce, secret), otk)


def unwrapped_otk(wrap: KeyWrap, nonce: int, secret: bytes, security: EcmSecurity) -> bytes | None:
    """The OTK of an ECM; None when this secret does not unwrap it, or when it is wrapped in another way."""
    if security.wrapping_id != AES_KEY_WRAP:
        return None
    return wrap.unwrap(wrapping_key(nonce, secret), security.one_time_key)


def sign_eids(eids: EidAuthentication, itr_otk: bytes) -> EidAuthentication:
    """Add the EID HMAC to an EID-AD (RFC 9303, 6.7.1): over all of the EID-AD, with the HMAC's own octets set to zero.

    6.9 can be read to set the EID HMAC *ID* to zero instead; 6.7.1, which we follow, keeps it.
    """
    size = _HMAC_OCTETS[eids.hmac_id][0]
    blank = replace(eids, hmac=bytes(size)).encode()
    return replace(eids, hmac=hmac.digest(itr_otk, blank, _DIGESTS[eids.hmac_id])[:size])


def sign_reply(reply: MapReply, eid_ad: bytes, hmac_id: int, key: bytes) -> bytes:
    """A Map-Reply with its AD, as octets. `eid_ad` is copied unchanged; `key` is the MS-OTK (RFC 9303, 6.8)."""
    size = _HMAC_OCTETS[hmac_id][0]
    head = bytes((1, 0, 0, 0)) + eid_ad + (4 + size).to_bytes(2) + hmac_id.to_bytes(2)
    blank = replace(reply, security=head + bytes(size)).encode()
    return blank[:-size] + hmac.digest(key, blank, _DIGESTS[hmac_id])[:size]


def verify_reply(raw: bytes, reply: MapReply, itr_otk: bytes, hmac_id: int, kdf_id: int) -> EidAuthentication:
    """Check a Map-Reply against the parameters of its Map-Request (RFC 9303, 6.9); `raw` are its octets.

    Returns the EID-AD, which the Map-Server has authenticated. Raises NotGenuine. Comparisons take constant time.
    """
    if reply.security is None:
        raise NotGenuine(Fault.MISSING, "it has no LISP-SEC data, though the Map-Request did")
    security = MapReplySecurity.decode(reply.security)
    eids = security.eid
    if (eids.kdf_id, eids.hmac_id, security.packet_hmac_id) != (kdf_id, hmac_id, hmac_id):
        asked = f"KDF {kdf_id} and HMAC {hmac_id} were asked for"
        got = f"it has KDF {eids.kdf_id}, EID HMAC {eids.hmac_id}, PKT HMAC {security.packet_hmac_id}"
        raise NotGenuine(Fault.ALGORITHM, f"{asked}, {got}")
    for octets, what in ((eids.hmac, "EID"), (security.packet_hmac, "PKT")):
        if len(octets) not in _HMAC_OCTETS[hmac_id]:
            raise NotGenuine(Fault.AUTH, f"{len(octets)} octets of {what} HMAC do not fit HMAC {hmac_id}")
    if not eids.eids:
        raise NotGenuine(Fault.AUTH, "an EID HMAC over no EID-Prefix")
    start = len(raw) - len(reply.security) + 4
    size = len(security.packet_hmac)
    # The octets as received: the HMAC also covers what the decoder skips.
    eid_ad = raw[start : len(raw) - 4 - size]
    if not _matches(itr_otk, eid_ad, len(eids.hmac), hmac_id):
        raise NotGenuine(Fault.HMAC, "the EID HMAC is not the one that the One-Time-Key gives")
    if not _matches(ms_otk(itr_otk, kdf_id), raw, size, hmac_id):
        raise NotGenuine(Fault.HMAC, "the PKT HMAC is not the one that the One-Time-Key gives")
    return eids


def eid_ad_of(authentication: bytes) -> bytes:
    """The EID-AD of an ECM's AD, unchanged: an ETR copies it into its Map-Reply."""
    return authentication[8 + int.from_bytes(authentication[4:6]) :]


def require_itr_request(security: EcmSecurity) -> None:
    """Raise AuthenticationFailed for an AD that no ITR sends: with an unencrypted OTK, or with EID-Prefixes."""
    if security.wrapping_id != AES_KEY_WRAP:
        raise AuthenticationFailed(f"OTK Wrapping ID {security.wrapping_id}")
    if security.eid.eids or security.eid.hmac or security.eid.hmac_id:
        raise AuthenticationFailed("an ITR vouches for EID-Prefixes")


def require_map_server_request(security: EcmSecurity) -> None:
    """Raise AuthenticationFailed for an AD that no Map-Server sends to an ETR, or that an ETR cannot answer."""
    if security.wrapping_id != AES_KEY_WRAP:
        raise AuthenticationFailed(f"OTK Wrapping ID {security.wrapping_id}")
    if not security.eid.eids or len(security.eid.hmac) not in _HMAC_OCTETS.get(security.eid.hmac_id, ()):
        raise AuthenticationFailed("an EID-AD without EID-Prefixes, or with an EID HMAC of a length that is none")
    if not is_hmac(security.requested_hmac_id):
        raise AuthenticationFailed(f"HMAC {security.requested_hmac_id} is asked for, which is unknown")


def _matches(key: bytes, octets: bytes, size: int, hmac_id: int) -> bool:
    """Whether the last `size` octets are the HMAC over all octets, computed with these `size` octets set to zero."""
    digest = hmac.digest(key, octets[:-size] + bytes(size), _DIGESTS[hmac_id])
    return hmac.compare_digest(octets[-size:], digest[:size])
