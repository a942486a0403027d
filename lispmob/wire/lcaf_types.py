"""The LISP Canonical Address Formats as values (RFC 8060, RFC 9306), each with the layout of its body.

    |        AFI = 16387            |     Rsvd1     |     Flags     |
    |     Type      |     Rsvd2     |            Length             |
    |   Length octets of body ...                                   |

"Address" in a layout is a whole address field: AFI and what follows it. The codec is in `lcaf.py`.
"""

from __future__ import annotations

from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias, Union

import msgspec

from lispmob.wire.address import DistinguishedName, MacAddress


# |  (no octets)  |
class NullBody(msgspec.Struct, frozen=True):
    """Type 0: no address, expressed as an LCAF."""


# |  Address  |  Address  | ... until Length is used up
class AfiList(msgspec.Struct, frozen=True):
    """Type 1: several addresses of the same thing, in no particular order."""

    addresses: tuple[WireAddress, ...]


# |                      Instance-ID (32)                         |   Rsvd2 is the mask length of the Instance-ID
# |  Address ...
class InstanceId(msgspec.Struct, frozen=True):
    """Type 2: an EID of one virtual network. Without an address: Instance-IDs that share the first `mask_len` bits."""

    instance_id: int
    address: WireAddress
    mask_len: int = 0


# |                       AS number (32)                          |
# |  Address ...
class AsNumber(msgspec.Struct, frozen=True):
    """Type 3: an address and the autonomous system that it belongs to."""

    as_number: int
    address: WireAddress


# |     TOS, Traffic Class or Flow Label (24)     | Protocol (8)  |
# |     Local port, lowest        |     Local port, highest       |
# |     Remote port, lowest       |     Remote port, highest      |
# |  Address ...
class ApplicationData(msgspec.Struct, frozen=True):
    """Type 4 (experimental): an address for the packets of one application."""

    traffic_class: int
    protocol: int
    local_ports: tuple[int, int]
    remote_ports: tuple[int, int]
    address: WireAddress


class Angle(msgspec.Struct, frozen=True):
    """Latitude or longitude; positive is north and east."""

    is_positive: bool
    degrees: int
    minutes: int
    seconds: int


# |N|   Latitude degrees (15)     |  Minutes (8)  |  Seconds (8)  |
# |E|   Longitude degrees (15)    |  Minutes (8)  |  Seconds (8)  |
# |                  Altitude, signed metres (32)                 |   0x7fffffff: none
# |  Address ...
class GeoCoordinates(msgspec.Struct, frozen=True):
    """Type 5: an address and its place on Earth."""

    latitude: Angle
    longitude: Angle
    altitude_m: int | None
    address: WireAddress


# | Fields minus 1|        Wildcard fields (16)   |  Key ...
class OpaqueKey(msgspec.Struct, frozen=True):
    """Type 6 (experimental): a lookup key that is no address; bit n of `wildcards` makes field n match anything."""

    field_count: int
    wildcards: int
    key: bytes


# |    Map-Server UDP port (16)   |       ETR UDP port (16)       |
# |  Address: global ETR RLOC  |  Address: Map-Server RLOC  |  Address: private ETR RLOC  |
# |  Address: RTR 1  | ... until Length is used up
class NatTraversal(msgspec.Struct, frozen=True):
    """Type 7: a node's address and port as the Map-Server saw them, and the RTRs that the node may use."""

    ms_port: int
    etr_port: int
    global_etr_rloc: WireAddress
    ms_rloc: WireAddress
    private_etr_rloc: WireAddress
    rtr_rlocs: tuple[WireAddress, ...] = ()


# | Reserved (8)  |                 Nonce (24)                    |
# |  Address ...
class NonceLocator(msgspec.Struct, frozen=True):
    """Type 8 (experimental): a locator and the nonce that data packets to it shall carry."""

    nonce: int
    address: WireAddress


# |                      Instance-ID (32)                         |   Rsvd2, low bits: R, L, J in old code
# |         Reserved (16)         |Source mask-len| Group mask-len|
# |  Address: source  |  Address: group  |
class MulticastInfo(msgspec.Struct, frozen=True):
    """Type 9: a multicast channel, (source prefix, group prefix), as an EID."""

    instance_id: int
    source_mask_len: int
    group_mask_len: int
    source: WireAddress
    group: WireAddress
    flags: int = 0


class PathHop(msgspec.Struct, frozen=True):
    """One hop of an explicit locator path: L, look it up first; P, it may be probed; S, it must be visited."""

    address: WireAddress
    is_lookup: bool = False
    is_probe: bool = False
    is_strict: bool = False


# |      Reserved (13)      |L|P|S|  Address ...      per hop, until Length is used up
class ExplicitLocatorPath(msgspec.Struct, frozen=True):
    """Type 10: the locators to go through, in order."""

    hops: tuple[PathHop, ...]


# | Key count (8) | Reserved (8)  |Cipher suite(8)| Reserved (7)|R|
# |        Key length (16)        |  Key ...      per key
# |  Address ...
class SecurityKey(msgspec.Struct, frozen=True):
    """Type 11: a locator and the public keys for encrypting data to it (RFC 8061). R: the keys are revoked."""

    cipher_suite: int
    keys: tuple[bytes, ...]
    address: WireAddress
    is_revoked: bool = False


# |         Reserved (16)         |Source mask-len| Dest. mask-len|
# |  Address: source  |  Address: destination  |
class SourceDestKey(msgspec.Struct, frozen=True):
    """Type 12: a lookup key made of a source and a destination prefix."""

    source_mask_len: int
    destination_mask_len: int
    source: WireAddress
    destination: WireAddress


class ReplicationEntry(msgspec.Struct, frozen=True):
    """A replicator of a replication list, and its level in the tree."""

    level: int
    address: WireAddress


# |                 Reserved (24)                 |  Level (8)    |  Address ...   per entry, until Length is used up
class ReplicationList(msgspec.Struct, frozen=True):
    """Type 13: the tree of replicators of a multicast or broadcast packet."""

    entries: tuple[ReplicationEntry, ...]


# |         JSON length (16)      |  JSON ...                         Rsvd2, low bit B: binary JSON
# |  Address ...
class JsonText(msgspec.Struct, frozen=True):
    """Type 14 (experimental): an address and JSON, kept as octets; we do not evaluate it."""

    text: bytes
    address: WireAddress = None
    is_binary: bool = False


# |  Address: key  |  Address: value  |
class KeyValue(msgspec.Struct, frozen=True):
    """Type 15 (experimental): a pair of addresses."""

    key: WireAddress
    value: WireAddress


class Encapsulation(IntFlag):
    """The encapsulations that a locator accepts, by their bit in LCAF type 16."""

    LISP = 1
    L2_LISP = 2
    VXLAN = 4
    VXLAN_GPE = 8
    NVGRE = 16
    GENEVE = 32
    GUE = 64


# |                 Reserved (25)                   |U|G|N|v|V|l|L|
# |  Address ...
class EncapsulationFormat(msgspec.Struct, frozen=True):
    """Type 16 (experimental): a locator and the encapsulations that it accepts."""

    encapsulations: Encapsulation
    address: WireAddress


# | Reserved (8)  |                  OUI (24)                     |
# |  anything ...
class VendorSpecific(msgspec.Struct, frozen=True):
    """Type 255 (RFC 9306): a vendor's own. A message with an OUI that the receiver does not know is dropped."""

    oui: int
    data: bytes


class UnknownLcaf(msgspec.Struct, frozen=True):
    """Any other type: skipped by its Length (RFC 9306), kept so that it can be forwarded. Unusable as a locator."""

    type: int
    body: bytes
    rsvd2: int = 0


Lcaf: TypeAlias = (
    NullBody
    | AfiList
    | InstanceId
    | AsNumber
    | ApplicationData
    | GeoCoordinates
    | OpaqueKey
    | NatTraversal
    | NonceLocator
    | MulticastInfo
    | ExplicitLocatorPath
    | SecurityKey
    | SourceDestKey
    | ReplicationList
    | JsonText
    | KeyValue
    | EncapsulationFormat
    | VendorSpecific
    | UnknownLcaf
)

# The possible values of an address field; None is AFI 0, "no address".
WireAddress: TypeAlias = Union[IPv4Address, IPv6Address, MacAddress, DistinguishedName, Lcaf, None]  # noqa: UP007
