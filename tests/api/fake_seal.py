"""What the fake daemon says about sealed data."""

from __future__ import annotations

import msgspec

from lispmob.api.backend import ApiError
from lispmob.api.sealing.schema import Keys, KnownPeer, Seal, WaitingKey
from lispmob.wire.address import EidPrefix

KEYS = Keys(
    mode="prefer",
    public_key="8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    fingerprint="0a1b-2c3d-4e5f-6071-8293",
    libraries={"aes-128-gcm": "libipsec-mb (VAES, AVX-512)", "chacha20-poly1305": "libcrypto"},
    peers=[
        KnownPeer(
            prefix="192.0.2.65/32",
            seal=Seal(
                state="sealed",
                why="the Map-Server vouches for its key",
                grade="vouched",
                fingerprint="1111-2222-3333-4444-5555",
                age_s=61.0,
                packets_out=12,
                packets_in=7,
            ),
        ),
        KnownPeer(prefix="192.0.2.66/32", seal=Seal(state="clear", why="no answer to the handshake")),
    ],
    waiting=[WaitingKey(prefix="192.0.2.67/32", fingerprint="aaaa-bbbb-cccc-dddd-eeee", public_key="00" * 32)],
)


class FakeSeal:
    """Knows two peers with keys, and a third one whose key has changed."""

    shown_keys: Keys = KEYS
    accepted: tuple[EidPrefix, ...] = ()
    forgotten: tuple[EidPrefix, ...] = ()

    def keys(self) -> Keys:
        return self.shown_keys

    def replace_key(self) -> Keys:
        self.shown_keys = msgspec.structs.replace(self.shown_keys, fingerprint="9999-8888-7777-6666-5555")
        return self.shown_keys

    def rekey(self) -> int:
        return len(self.shown_keys.peers)

    def forget_key(self, prefix: EidPrefix) -> None:
        if str(prefix) not in {peer.prefix for peer in self.shown_keys.peers}:
            raise ApiError("not-found", f"no key of {prefix} is kept; see: lispctl key")
        self.forgotten = (*self.forgotten, prefix)

    def accept_key(self, prefix: EidPrefix) -> None:
        if str(prefix) != "192.0.2.67/32":
            raise ApiError("not-found", f"no new key of {prefix} waits; see: lispctl key")
        self.accepted = (*self.accepted, prefix)
