"""LISP-SEC in `lig` (RFC 9303): Map-Requests with a One-Time-Key, and verification of Map-Replies. Pure.

Imported only when it is requested: an ordinary question needs neither ciphers nor a configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.tools.question import Genuine, Reason, ReasonKind
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix, to_prefix
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.lisp_sec import EcmSecurity, EidAuthentication
from lispmob.wire.lisp_sec_auth import HKDF_SHA_256, HMAC_SHA_256_128, Fault, KeyWrap, NotGenuine
from lispmob.wire.map_reply import MapReply

_KINDS: Final[dict[Fault, ReasonKind]] = {
    Fault.MISSING: "sec-missing",
    Fault.HMAC: "sec-forged",
    Fault.AUTH: "sec-forged",
    Fault.ALGORITHM: "sec-algorithm",
    Fault.PREFIX: "sec-overclaim",
}


class Secret(msgspec.Struct, frozen=True):
    """A secret that a Map-Resolver and this host share, and its Key ID."""

    octets: bytes
    key_id: int = 0


def registration_secret(key: bytes, key_id: int) -> Secret:
    """The secret derived from this host's registration key, if the Map-Server is the Map-Resolver too."""
    return Secret(lisp_sec_auth.resolver_secret(key), key_id)


class Protection:
    """Protects the Map-Requests to a Map-Resolver. `new_otk` returns 16 unpredictable octets."""

    def __init__(self, secret: Secret, source: EidPrefix | None, wrap: KeyWrap, new_otk: Callable[[], bytes]) -> None:
        """`source`: an EID of this host, by whose site a Map-Resolver finds the secret; None without an EID."""
        self._secret, self._wrap, self._new_otk = secret, wrap, new_otk
        self.source_eid: WireAddress = (
            None if source is None else from_prefix(EidPrefix.host(source.address, source.instance_id))
        )

    def protect(self, nonce: int) -> tuple[bytes, bytes]:
        """A new ITR-OTK for the Map-Request with this nonce, and the AD of its ECM (RFC 9303, 6.4)."""
        otk = self._new_otk()
        wrapped = lisp_sec_auth.wrapped_otk(self._wrap, nonce, self._secret.octets, otk)
        eids = EidAuthentication(HKDF_SHA_256)
        ad = EcmSecurity(HMAC_SHA_256_128, self._secret.key_id, lisp_sec_auth.AES_KEY_WRAP, wrapped, eids)
        return otk, ad.encode()

    def verify(self, reply: MapReply, raw: bytes, otk: bytes, source: IpAddress) -> Genuine | Reason:
        """Verify a Map-Reply (RFC 9303, 6.9). Returns the authenticated part, or why nothing is authentic.

        Records outside of the authenticated EID-Prefixes are removed.
        """
        try:
            eids = lisp_sec_auth.verify_reply(raw, reply, otk, HMAC_SHA_256_128, HKDF_SHA_256)
        except NotGenuine as refused:
            return Reason(_KINDS[refused.fault], f"the answer of {source} is not genuine: {refused}")
        vouched = tuple(prefix for eid in eids.eids if (prefix := to_prefix(eid.eid, eid.mask_len)) is not None)
        kept = tuple(
            record
            for record in reply.records
            if (prefix := record.eid_prefix) is not None and any(eid_prefix.covers(prefix) for eid_prefix in vouched)
        )
        if not kept and reply.records:
            said = ", ".join(str(record.eid_prefix or record.eid) for record in reply.records)
            limits = ", ".join(map(str, vouched)) or "no IP prefix"
            return Reason("sec-overclaim", f"{source} answered about {said}; the Map-Server vouches for {limits} alone")
        return Genuine(replace(reply, records=kept), vouched, cannot_sign=eids.has_e_bit)
