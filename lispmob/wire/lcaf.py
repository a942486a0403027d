"""The address field, `AFI | address`, with all LCAF types: one table drives both directions (RFC 8060).

Bounds limit what a hostile message can cost: LCAFs nest at most 4 deep, with 16 elements in a list and 64 in an
address.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Any, Final, NamedTuple

from lispmob.errors import MalformedMessage
from lispmob.wire.address import Afi, DistinguishedName, MacAddress
from lispmob.wire.lcaf_types import (
    AfiList,
    Angle,
    ApplicationData,
    AsNumber,
    Encapsulation,
    EncapsulationFormat,
    ExplicitLocatorPath,
    GeoCoordinates,
    InstanceId,
    JsonText,
    KeyValue,
    Lcaf,
    MulticastInfo,
    NatTraversal,
    NonceLocator,
    NullBody,
    OpaqueKey,
    PathHop,
    ReplicationEntry,
    ReplicationList,
    SecurityKey,
    SourceDestKey,
    UnknownLcaf,
    VendorSpecific,
    WireAddress,
)
from lispmob.wire.reader import Reader

# Ours: a level costs a sender 8 octets, so that 64 KiB could hold 8000 of them.
DEPTH_LIMIT: Final = 4
LIST_LIMIT: Final = 16
ELEMENT_LIMIT: Final = 64
NAME_LIMIT: Final = 255
JSON_LIMIT: Final = 4096
KEY_COUNT_LIMIT: Final = 3  # RFC 8061: key-ids 1 to 3
KEY_LENGTH_LIMIT: Final = 1024  # ours: an RSA key of 4096 bits has 550 octets
NO_ALTITUDE: Final = 0x7FFFFFFF  # RFC 8060, type 5

_HEADER: Final = Struct(">BBBBH")
_ANGLE: Final = Struct(">HBB")


class _Nesting:
    """How much of its bounds an address has used up."""

    __slots__ = ("depth", "elements", "is_in_instance")

    def __init__(self) -> None:
        self.depth = 0
        self.elements = 0
        self.is_in_instance = False


def take_address(reader: Reader) -> WireAddress:
    """Read an address field. Raises MalformedMessage for an unknown AFI, a bad LCAF, or a short buffer."""
    return _take_address(reader, None)


def put_address(address: WireAddress) -> bytes:
    """Write an address field."""
    match address:
        case None:
            return b"\0\0"
        case IPv4Address():
            return b"\0\1" + address.packed
        case IPv6Address():
            return b"\0\2" + address.packed
        case MacAddress():
            return b"\0\6" + address.octets
        case DistinguishedName():
            return b"\0\x11" + address.name + b"\0"
        case UnknownLcaf():
            kind, rsvd2, body = address.type, address.rsvd2, address.body
        case _:
            layout = _BY_CLASS[type(address)]
            kind, rsvd2 = layout.type, int(getattr(address, layout.rsvd2)) if layout.rsvd2 else 0
            body = b"".join(
                put(address if name == "*" else getattr(address, name) if name else None)
                for name, (_, put) in layout.fields
            )
    return Afi.LCAF.to_bytes(2) + _HEADER.pack(0, 0, kind, rsvd2, len(body)) + body


def _take_address(reader: Reader, nesting: _Nesting | None) -> WireAddress:
    afi = reader.take_u16()
    if afi == 1:
        return IPv4Address(reader.take_bytes(4))
    if afi == 2:
        return IPv6Address(reader.take_bytes(16))
    if afi == 0:
        return None
    if afi == Afi.LCAF:
        return _take_lcaf(reader, nesting or _Nesting())
    if afi == Afi.DISTINGUISHED_NAME:
        return DistinguishedName(reader.take_until_nul(NAME_LIMIT))
    if afi == Afi.MAC:
        return MacAddress(reader.take_bytes(6))
    raise MalformedMessage("rx_afi", f"AFI {afi} is not one of LISP's")


def _take_lcaf(reader: Reader, nesting: _Nesting) -> Lcaf:
    if reader.remaining < _HEADER.size:
        raise MalformedMessage("rx_lcaf", "LCAF header cut")
    _, _, kind, rsvd2, length = reader.take(_HEADER)
    body = reader.window(length, "rx_lcaf")
    layout = _BY_TYPE.get(kind)
    if layout is None:
        return UnknownLcaf(kind, body.take_rest(), rsvd2)
    if nesting.depth == DEPTH_LIMIT:
        raise MalformedMessage("rx_lcaf", f"LCAFs nested deeper than {DEPTH_LIMIT}")
    is_instance = layout.build is InstanceId
    if is_instance and nesting.is_in_instance:
        raise MalformedMessage("rx_lcaf", "Instance-ID inside Instance-ID")
    nesting.depth += 1
    nesting.is_in_instance |= is_instance
    values: dict[str, Any] = {}
    for name, (take, _) in layout.fields:
        value = take(body, nesting)
        if name == "*":
            values.update(value)
        elif name:
            values[name] = value
    if layout.rsvd2:
        bits = rsvd2 & layout.rsvd2_mask
        values[layout.rsvd2] = bool(bits) if layout.rsvd2_mask == 1 else bits
    nesting.depth -= 1
    nesting.is_in_instance &= not is_instance
    address: Lcaf = layout.build(**values)
    return address


def _take_element(reader: Reader, nesting: _Nesting) -> WireAddress:
    nesting.elements += 1
    if nesting.elements > ELEMENT_LIMIT:
        raise MalformedMessage("rx_lcaf", f"more than {ELEMENT_LIMIT} elements in one address")
    return _take_address(reader, nesting)


# The field codecs of LCAF bodies: how to take a value from the body, how to put it.
_Codec = tuple[Callable[[Reader, _Nesting], Any], Callable[[Any], bytes]]


def _number(octets: int) -> _Codec:
    return lambda body, _: int.from_bytes(body.take_bytes(octets)), lambda value: value.to_bytes(octets)


def _reserved(octets: int) -> _Codec:
    return lambda body, _: body.take_bytes(octets), lambda _: bytes(octets)


def _until_end(take_one: Callable[[Reader, _Nesting], Any], put_one: Callable[[Any], bytes]) -> _Codec:
    """Elements back to back until the body is used up."""

    def take(body: Reader, nesting: _Nesting) -> tuple[Any, ...]:
        elements: list[Any] = []
        while body.remaining:
            if len(elements) == LIST_LIMIT:
                raise MalformedMessage("rx_lcaf", f"more than {LIST_LIMIT} elements in one list")
            elements.append(take_one(body, nesting))
        return tuple(elements)

    return take, lambda elements: b"".join(map(put_one, elements))


def _take_rtrs(body: Reader, nesting: _Nesting) -> tuple[WireAddress, ...]:
    """A list that ignores what is beyond the limit: the first RTRs of a long list are still usable."""
    rtrs: list[WireAddress] = []
    while body.remaining and len(rtrs) < LIST_LIMIT:
        rtrs.append(_take_element(body, nesting))
    return tuple(rtrs)


def _take_ports(body: Reader, _: _Nesting) -> tuple[int, int]:
    return body.take_u16(), body.take_u16()


def _take_angle(body: Reader, _: _Nesting) -> Angle:
    degrees, minutes, seconds = body.take(_ANGLE)
    return Angle(bool(degrees >> 15), degrees & 0x7FFF, minutes, seconds)


def _put_angle(angle: Angle) -> bytes:
    return _ANGLE.pack(angle.is_positive << 15 | angle.degrees, angle.minutes, angle.seconds)


def _take_altitude(body: Reader, _: _Nesting) -> int | None:
    metres = int.from_bytes(body.take_bytes(4), signed=True)
    return None if metres == NO_ALTITUDE else metres


def _put_altitude(metres: int | None) -> bytes:
    return (NO_ALTITUDE if metres is None else metres).to_bytes(4, signed=True)


def _take_hop(body: Reader, nesting: _Nesting) -> PathHop:
    flags = body.take_u16()
    return PathHop(_take_element(body, nesting), bool(flags & 4), bool(flags & 2), bool(flags & 1))


def _put_hop(hop: PathHop) -> bytes:
    return (hop.is_lookup << 2 | hop.is_probe << 1 | hop.is_strict).to_bytes(2) + put_address(hop.address)


def _take_replicator(body: Reader, nesting: _Nesting) -> ReplicationEntry:
    level = body.take_u32() & 0xFF
    return ReplicationEntry(level, _take_element(body, nesting))


def _take_keys(body: Reader, _: _Nesting) -> dict[str, Any]:
    count, _rsvd, suite, flags = body.take_bytes(4)
    if count > KEY_COUNT_LIMIT:
        raise MalformedMessage("rx_limit", f"{count} security keys, more than {KEY_COUNT_LIMIT}")
    keys = []
    for _index in range(count):
        length = body.take_u16()
        if length > KEY_LENGTH_LIMIT:
            raise MalformedMessage("rx_limit", f"a security key of {length} octets, more than {KEY_LENGTH_LIMIT}")
        keys.append(body.take_bytes(length))
    return {"cipher_suite": suite, "keys": tuple(keys), "is_revoked": bool(flags & 1)}


def _put_keys(address: SecurityKey) -> bytes:
    header = bytes((len(address.keys), 0, address.cipher_suite, address.is_revoked))
    return header + b"".join(len(key).to_bytes(2) + key for key in address.keys)


def _take_json(body: Reader, _: _Nesting) -> bytes:
    length = body.take_u16()
    if length > JSON_LIMIT:
        raise MalformedMessage("rx_limit", f"{length} octets of JSON, more than {JSON_LIMIT}")
    return body.take_bytes(length)


class _Layout(NamedTuple):
    """An LCAF type: its class, and its body field by field, as (attribute, codec).

    Attribute "": reserved octets. Attribute "*": several attributes, decoded into a dict and encoded from the address.
    `rsvd2` is the attribute that this type keeps in the header's Rsvd2, in the bits `rsvd2_mask`.
    """

    type: int
    build: Callable[..., Any]
    fields: tuple[tuple[str, _Codec], ...]
    rsvd2: str = ""
    rsvd2_mask: int = 0xFF


_U8: Final = _number(1)
_U16: Final = _number(2)
_U24: Final = _number(3)
_U32: Final = _number(4)
_ADDRESS: Final[_Codec] = (_take_element, put_address)
_ADDRESSES: Final = _until_end(_take_element, put_address)
_RTRS: Final[_Codec] = (_take_rtrs, _ADDRESSES[1])
_HOPS: Final = _until_end(_take_hop, _put_hop)
_REPLICATORS: Final = _until_end(_take_replicator, lambda entry: entry.level.to_bytes(4) + put_address(entry.address))
_PORTS: Final[_Codec] = (_take_ports, lambda ports: ports[0].to_bytes(2) + ports[1].to_bytes(2))
_ANGLE_FIELD: Final[_Codec] = (_take_angle, _put_angle)
_ALTITUDE: Final[_Codec] = (_take_altitude, _put_altitude)
_ONE_LESS: Final[_Codec] = (lambda body, _: body.take_u8() + 1, lambda count: (count - 1).to_bytes())
_KEYS: Final[_Codec] = (_take_keys, _put_keys)
_JSON: Final[_Codec] = (_take_json, lambda text: len(text).to_bytes(2) + text)
_ENCAPSULATIONS: Final[_Codec] = (lambda body, _: Encapsulation(body.take_u32() & 0x7F), lambda bits: bits.to_bytes(4))
_REST: Final[_Codec] = (lambda body, _: body.take_rest(), bytes)

_LAYOUTS: Final = (
    _Layout(0, NullBody, ()),
    _Layout(1, AfiList, (("addresses", _ADDRESSES),)),
    _Layout(2, InstanceId, (("instance_id", _U32), ("address", _ADDRESS)), rsvd2="mask_len"),
    _Layout(3, AsNumber, (("as_number", _U32), ("address", _ADDRESS))),
    _Layout(
        4,
        ApplicationData,
        (
            ("traffic_class", _U24),
            ("protocol", _U8),
            ("local_ports", _PORTS),
            ("remote_ports", _PORTS),
            ("address", _ADDRESS),
        ),
    ),
    _Layout(
        5,
        GeoCoordinates,
        (("latitude", _ANGLE_FIELD), ("longitude", _ANGLE_FIELD), ("altitude_m", _ALTITUDE), ("address", _ADDRESS)),
    ),
    _Layout(6, OpaqueKey, (("field_count", _ONE_LESS), ("wildcards", _U16), ("key", _REST))),
    _Layout(
        7,
        NatTraversal,
        (
            ("ms_port", _U16),
            ("etr_port", _U16),
            ("global_etr_rloc", _ADDRESS),
            ("ms_rloc", _ADDRESS),
            ("private_etr_rloc", _ADDRESS),
            ("rtr_rlocs", _RTRS),
        ),
    ),
    _Layout(8, NonceLocator, (("", _reserved(1)), ("nonce", _U24), ("address", _ADDRESS))),
    _Layout(
        9,
        MulticastInfo,
        (
            ("instance_id", _U32),
            ("", _reserved(2)),
            ("source_mask_len", _U8),
            ("group_mask_len", _U8),
            ("source", _ADDRESS),
            ("group", _ADDRESS),
        ),
        rsvd2="flags",
        rsvd2_mask=0b111,
    ),
    _Layout(10, ExplicitLocatorPath, (("hops", _HOPS),)),
    _Layout(11, SecurityKey, (("*", _KEYS), ("address", _ADDRESS))),
    _Layout(
        12,
        SourceDestKey,
        (
            ("", _reserved(2)),
            ("source_mask_len", _U8),
            ("destination_mask_len", _U8),
            ("source", _ADDRESS),
            ("destination", _ADDRESS),
        ),
    ),
    _Layout(13, ReplicationList, (("entries", _REPLICATORS),)),
    _Layout(14, JsonText, (("text", _JSON), ("address", _ADDRESS)), rsvd2="is_binary", rsvd2_mask=1),
    _Layout(15, KeyValue, (("key", _ADDRESS), ("value", _ADDRESS))),
    _Layout(16, EncapsulationFormat, (("encapsulations", _ENCAPSULATIONS), ("address", _ADDRESS))),
    _Layout(255, VendorSpecific, (("", _reserved(1)), ("oui", _U24), ("data", _REST))),
)
_BY_TYPE: Final = {layout.type: layout for layout in _LAYOUTS}
_BY_CLASS: Final = {layout.build: layout for layout in _LAYOUTS}
