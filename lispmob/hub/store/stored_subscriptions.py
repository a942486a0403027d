"""The format of subscriptions in the state file: one value for each, times of the calendar's clock. Pure."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from lispmob.hub.publishing.subscription import Place, Subscription
from lispmob.hub.store.stored_rows import key_of, prefix_of


class _Value(msgspec.Struct, array_like=True, frozen=True):
    """All fields but the key. Addresses as octets."""

    source: bytes
    places: list[tuple[bytes, int, bool]]
    own: bytes
    families: list[int]
    nonce: int
    secret: bytes
    key_id: int
    mark: bytes
    expires_at: float
    is_acknowledged: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Value)


def pack(subscription: Subscription, later_s: float) -> bytes:
    """The octets, on a clock that is this much ahead."""
    return _encoder.encode(
        _Value(
            key_of(subscription.source),
            [(place.address.packed, place.port, place.is_binding) for place in subscription.places],
            subscription.own.packed,
            list(subscription.families),
            subscription.nonce,
            subscription.secret,
            subscription.key_id,
            subscription.mark,
            subscription.expires_at + later_s,
            subscription.is_acknowledged,
        )
    )


def unpack(eid: bytes, xtr_id: bytes, value: bytes, later_s: float, latest: float) -> Subscription:
    """The subscription, ending at `latest` at the latest. ValueError for an invalid value."""
    try:
        found = _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if not found.places or not 0 <= found.key_id < 256:
        raise ValueError("a subscription without a place, or with a key-id that is none")
    return Subscription(
        prefix=prefix_of(eid),
        xtr_id=xtr_id,
        source=prefix_of(found.source),
        places=tuple(Place(ip_address(octets), port, is_binding) for octets, port, is_binding in found.places),
        own=ip_address(found.own),
        families=tuple(found.families),
        nonce=found.nonce,
        secret=found.secret,
        key_id=found.key_id,
        mark=found.mark,
        expires_at=min(found.expires_at + later_s, latest),
        is_acknowledged=found.is_acknowledged,
    )
