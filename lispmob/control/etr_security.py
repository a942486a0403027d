"""LISP-SEC as an ETR: opens a Map-Request that a Map-Server forwarded, and signs the Map-Reply to it (RFC 9303, 6.8).

The Map-Server's EID-AD is copied unchanged. The ETR puts its own reply under its own HMAC.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from lispmob.errors import AuthenticationFailed
from lispmob.wire import lisp_sec_auth
from lispmob.wire.auth import Key
from lispmob.wire.lisp_sec import EcmSecurity
from lispmob.wire.lisp_sec_auth import KeyWrap
from lispmob.wire.map_reply import MapReply
from lispmob.wire.reader import Reader


@dataclass(frozen=True, slots=True)
class ReplySigner:
    """The keys that one Map-Request gives for signing its Map-Reply."""

    key: bytes = dataclasses.field(repr=False)
    eid_ad: bytes
    hmac_id: int

    def sign(self, reply: MapReply) -> bytes:
        """The signed Map-Reply."""
        return lisp_sec_auth.sign_reply(reply, self.eid_ad, self.hmac_id, self.key)


class EtrSecurity:
    """Unwraps One-Time-Keys of Map-Servers. Without a `KeyWrap` it unwraps none."""

    def __init__(self, keys: Iterable[Key], wrap: KeyWrap | None) -> None:
        self._wrap = wrap
        self.on_keys(keys)

    def on_keys(self, keys: Iterable[Key]) -> None:
        """The keys that we share with Map-Servers have changed to these."""
        self._keys = tuple(dict.fromkeys((key.key_id, key.secret) for key in keys))

    def open(self, authentication: bytes | None, nonce: int) -> ReplySigner | None:
        """Read the AD of an ECM; None if it has none, or LISP-SEC is off.

        Raises MalformedMessage, and AuthenticationFailed if no key of ours unwraps it.
        """
        if authentication is None or self._wrap is None or not self._keys:
            return None
        security = EcmSecurity.take(Reader(authentication))
        lisp_sec_auth.require_map_server_request(security)
        # The Key ID is only a hint for the order: registrations also work if one side alone has set it.
        for _key_id, secret in sorted(self._keys, key=lambda key: key[0] != security.key_id):
            otk = lisp_sec_auth.unwrapped_otk(self._wrap, nonce, secret, security)
            if otk is not None:
                return ReplySigner(otk, lisp_sec_auth.eid_ad_of(authentication), security.requested_hmac_id)
        raise AuthenticationFailed("no key of ours opens the One-Time-Key")
