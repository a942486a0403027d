"""What LISP-SEC computes (RFC 9303): keys from keys, the HMAC over the EID-AD, and the one over the Map-Reply.

The chain: the ITR draws an ITR-OTK for each Map-Request and wraps it for the Map-Resolver. The Map-Server puts the
EID-Prefixes that it vouches for under an HMAC with the ITR-OTK (EID HMAC), and derives from it the MS-OTK, with which
whoever answers puts the whole Map-Reply under an HMAC (PKT HMAC). The ITR knows the ITR-OTK, and so all of it.

The RFC leaves salt and info of its HKDFs open: here both are empty. Wrapping itself (RFC 3394) is a `KeyWrap`'s task.
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
AES_KEY_WRAP: Final = 2  # OTK Wrapping ID with the key derivation that goes with it; 1 is an OTK in clear
BARE_EID_AD: Final = 4  # octets of an EID-AD that says the KDF alone: what an ITR sends

_DIGESTS: Final = {HMAC_SHA_1_96: "sha1", HMAC_SHA_256_128: "sha256"}
_KDFS: Final = {HKDF_SHA_1: "sha1", HKDF_SHA_256: "sha256"}
_HMAC_OCTETS: Final = {HMAC_SHA_1_96: (12, 20), HMAC_SHA_256_128: (16, 32)}
"""What is sent, and what may come besides: the name says cut, and registrations are known to come whole."""
_WRAP_LABEL: Final = b"OTK-Key-Wrap"
_DERIVED_SALT: Final = b"lispmob itr-mr"
_DERIVED_OCTETS: Final = 32
_FIXED_OCTETS: Final = 12  # of a Map-Reply, before its records


class KeyWrap(Protocol):
    """AES key wrap (RFC 3394) of 16 octets with a key of 16 octets into 24."""

    def wrap(self, key: bytes, secret: bytes) -> bytes:
        """The wrapped secret."""
        ...

    def unwrap(self, key: bytes, wrapped: bytes) -> bytes | None:
        """The secret; None when its check value is not the one that the key gives."""
        ...


class Fault(Enum):
    """Why a Map-Reply is not the answer that was asked for. The value is the counter's name."""

    MISSING = "sec_missing"
    HMAC = "sec_hmac"
    PREFIX = "sec_prefix"
    ALGORITHM = "sec_algorithm"
    AUTH = "rx_auth"


class NotGenuine(LispError):
    """A Map-Reply that LISP-SEC refuses: count it under `fault`, drop it, keep waiting for the genuine one."""

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(why)
        self.fault = fault


def hkdf(material: bytes, octets: int, digest: str = "sha256", salt: bytes = b"") -> bytes:
    """HKDF without info (RFC 5869). `octets` up to one digest; an empty salt is as many zeros as the digest is long."""
    size = {"sha1": 20, "sha256": 32}[digest]
    if octets > size:
        raise ValueError(f"{octets} octets of one round of HKDF with {digest}")
    extracted = hmac.digest(salt or bytes(size), material, digest)
    return hmac.digest(extracted, b"\x01", digest)[:octets]


def resolver_secret(registration_secret: bytes) -> bytes:
    """The secret between ITR and Map-Resolver where none is configured: of a hub that is the Map-Server too (ours).

    RFC 9303 wants it independent of the one that the ETR has in common with the Map-Server: a node that is both has
    the registration key anyway, and nobody else has either of the two.
    """
    return hkdf(registration_secret, _DERIVED_OCTETS, salt=_DERIVED_SALT)


def wrapping_key(nonce: int, secret: bytes) -> bytes:
    """The key that wraps the OTK of one Map-Request (RFC 9303, 6.5)."""
    return hkdf(nonce.to_bytes(8) + _WRAP_LABEL + secret, OTK_OCTETS)


def ms_otk(itr_otk: bytes, kdf_id: int) -> bytes:
    """The Map-Server's key for the PKT HMAC (RFC 9303, 6.7.2). `kdf_id` is one of those that `is_kdf` accepts."""
    return hkdf(itr_otk, OTK_OCTETS, _KDFS[kdf_id])


def publication_key(otk: bytes, nonce: int) -> bytes:
    """The secret of one subscription (RFC 9437, 7.1): what its Map-Notifies and Map-Notify-Acks are signed with.

    The RFC leaves salt, info and length open: none, and the 16 octets of the One-Time-Key that it comes from.
    """
    return hkdf(otk + nonce.to_bytes(8), OTK_OCTETS)


def is_kdf(kdf_id: int) -> bool:
    """Whether we can derive keys so."""
    return kdf_id in _KDFS


def is_hmac(hmac_id: int) -> bool:
    """Whether we can compute an HMAC so."""
    return hmac_id in _DIGESTS


def wrapped_otk(wrap: KeyWrap, nonce: int, secret: bytes, otk: bytes) -> bytes:
    """The OTK as it stands in an ECM."""
    return wrap.wrap(wrapping_key(nonce, secret), otk)


def unwrapped_otk(wrap: KeyWrap, nonce: int, secret: bytes, security: EcmSecurity) -> bytes | None:
    """The OTK of an ECM; None when this secret does not open it, or when it is not wrapped as it has to be."""
    if security.wrapping_id != AES_KEY_WRAP:
        return None
    return wrap.unwrap(wrapping_key(nonce, secret), security.one_time_key)


def sign_eids(eids: EidAuthentication, itr_otk: bytes) -> EidAuthentication:
    """The EID-AD with its EID HMAC (RFC 9303, 6.7.1): over all of it, the HMAC's own octets being zeros.

    6.9 can be read to have the EID HMAC *ID* zeroed instead; 6.7.1, followed here, leaves it.
    """
    size = _HMAC_OCTETS[eids.hmac_id][0]
    blank = replace(eids, hmac=bytes(size)).encode()
    return replace(eids, hmac=hmac.digest(itr_otk, blank, _DIGESTS[eids.hmac_id])[:size])


def sign_reply(reply: MapReply, eid_ad: bytes, hmac_id: int, key: bytes) -> bytes:
    """A Map-Reply with its AD, as octets. `eid_ad` is copied as it is; `key` is the MS-OTK (RFC 9303, 6.8)."""
    size = _HMAC_OCTETS[hmac_id][0]
    head = bytes((1, 0, 0, 0)) + eid_ad + (4 + size).to_bytes(2) + hmac_id.to_bytes(2)
    blank = replace(reply, security=head + bytes(size)).encode()
    return blank[:-size] + hmac.digest(key, blank, _DIGESTS[hmac_id])[:size]


def verify_reply(raw: bytes, reply: MapReply, itr_otk: bytes, hmac_id: int, kdf_id: int) -> EidAuthentication:
    """Check a Map-Reply against what its Map-Request asked for (RFC 9303, 6.9); `raw` are its octets.

    Returns the EID-AD, which the Map-Server vouches for. Raises NotGenuine. Comparisons take the same time wherever
    the digests differ.
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
    # The octets as they came: what the decoder skips is under the HMAC too.
    eid_ad = raw[start : len(raw) - 4 - size]
    if not _matches(itr_otk, eid_ad, len(eids.hmac), hmac_id):
        raise NotGenuine(Fault.HMAC, "the EID HMAC is not the one that the One-Time-Key gives")
    if not _matches(ms_otk(itr_otk, kdf_id), raw, size, hmac_id):
        raise NotGenuine(Fault.HMAC, "the PKT HMAC is not the one that the One-Time-Key gives")
    return eids


def eid_ad_of(authentication: bytes) -> bytes:
    """The EID-AD of an ECM's AD, octet for octet as it came: an ETR copies it into its Map-Reply."""
    return authentication[8 + int.from_bytes(authentication[4:6]) :]


def require_itr_request(security: EcmSecurity) -> None:
    """Raise AuthenticationFailed for an AD that no ITR sends: its OTK in clear, or words about EID-Prefixes."""
    if security.wrapping_id != AES_KEY_WRAP:
        raise AuthenticationFailed(f"OTK Wrapping ID {security.wrapping_id}")
    if security.eid.eids or security.eid.hmac or security.eid.hmac_id:
        raise AuthenticationFailed("an ITR vouches for EID-Prefixes")


def require_map_server_request(security: EcmSecurity) -> None:
    """Raise AuthenticationFailed for an AD that no Map-Server sends to an ETR, or that it cannot be answered with."""
    if security.wrapping_id != AES_KEY_WRAP:
        raise AuthenticationFailed(f"OTK Wrapping ID {security.wrapping_id}")
    if not security.eid.eids or len(security.eid.hmac) not in _HMAC_OCTETS.get(security.eid.hmac_id, ()):
        raise AuthenticationFailed("an EID-AD without EID-Prefixes, or with an EID HMAC of a length that is none")
    if not is_hmac(security.requested_hmac_id):
        raise AuthenticationFailed(f"HMAC {security.requested_hmac_id} is asked for, which is unknown")


def _matches(key: bytes, octets: bytes, size: int, hmac_id: int) -> bool:
    """Whether the last `size` octets are the HMAC over all of them, themselves being zeros."""
    digest = hmac.digest(key, octets[:-size] + bytes(size), _DIGESTS[hmac_id])
    return hmac.compare_digest(octets[-size:], digest[:size])
