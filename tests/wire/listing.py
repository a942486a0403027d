"""Lists a decoded message field by field in the words of the test vectors: an oracle for what decoding understood."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from lispmob.wire.address import DistinguishedName, MacAddress
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import UdpPacket, parse_ip_udp
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import (
    AfiList,
    Angle,
    ApplicationData,
    AsNumber,
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
    OpaqueKey,
    ReplicationList,
    SecurityKey,
    SourceDestKey,
    VendorSpecific,
    WireAddress,
)
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_referral import MapReferral, ReferralRecord
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import ControlMessage, decode_control
from lispmob.wire.record import Locator, MappingRecord

Line = tuple[str, bytes | None]
"""A meaning, and the octets where the listing shows nothing else."""


def list_control(message: ControlMessage) -> Iterator[Line]:
    match message:
        case MapRequest():
            yield from _map_request(message)
        case MapReply():
            yield _first_word(2, {"P": message.is_probe, "E": message.has_echo_nonce}, _records_of(message))
            yield from _nonce_and_records(message.nonce, message.records)
        case MapReferral():
            yield _first_word(6, {}, _records_of(message))
            yield from _nonce_and_records(message.nonce, message.records)
        case MapRegister():
            yield from _map_register(message)
        case MapNotify() | MapNotifyAck():
            yield _first_word(message.kind, {"I": message.xtr_id is not None}, _records_of(message))
            yield from _authenticated(message)
        case InfoRequest() | InfoReply():
            yield from _info(message)
        case EncapsulatedControl():
            yield from _ecm(message)


def list_data(payload: bytes) -> Iterator[Line]:
    header, inner = split_data_packet(payload)
    low = header.nonce or 0
    if header.map_versions:
        low = header.map_versions[0] << 12 | header.map_versions[1]
    flags = (
        ("N", header.nonce is not None),
        ("L", header.locator_status_bits is not None),
        ("E", header.wants_echo),
        ("V", header.map_versions is not None),
        ("I", header.instance_id is not None),
    )
    text = " ".join(f"{letter}={value:d}" for letter, value in flags)
    yield f"data header word 1: {text} KK={header.key_number}, low 24 bits {low:06x}", None
    yield "data header word 2", None
    if header.instance_id == 0xFFFFFF:
        yield from _inner(parse_ip_udp(inner, "data_inner"))
    else:
        yield "inner packet", inner


def list_address(label: str, address: WireAddress) -> Iterator[Line]:
    match address:
        case None:
            yield f"{label}: AFI 0", None
        case IPv4Address():
            yield f"{label}: AFI 1, {address}", None
        case IPv6Address():
            yield f"{label}: AFI 2, {address}", None
        case MacAddress():
            yield f"{label}: AFI 6, {address}", None
        case DistinguishedName():
            yield f'{label}: AFI 17, "{address}" + NUL', None
        case _:
            header = put_address(address)[:8]
            length = int.from_bytes(header[6:])
            yield f"{label}: LCAF type {header[4]}, Rsvd2 {header[5]}, Length {length}", None
            yield from _lcaf(address)


def _lcaf(address: Lcaf) -> Iterator[Line]:
    match address:
        case AfiList():
            for element in address.addresses:
                yield from list_address("element", element)
        case InstanceId():
            yield f"IID {address.instance_id:#x}", None
        case AsNumber():
            yield f"ASN {address.as_number}", None
        case ApplicationData():
            local, remote = address.local_ports, address.remote_ports
            yield f"TOS/TC/flow {address.traffic_class:#x}", None
            yield f"protocol {address.protocol}", None
            yield f"local ports {local[0]}-{local[1]}, remote ports {remote[0]}-{remote[1]}", None
        case GeoCoordinates():
            yield f"latitude {_angle('N', address.latitude)}", None
            yield f"longitude {_angle('E', address.longitude)}", None
            yield f"altitude {address.altitude_m}", None
        case OpaqueKey():
            yield f"key fields - 1 = {address.field_count - 1}", None
            yield f"wildcard bits {address.wildcards:#06x}", None
            yield "key", address.key
        case NatTraversal():
            yield f"MS UDP port {address.ms_port}", None
            yield f"ETR UDP port {address.etr_port}", None
            yield from list_address("global ETR RLOC", address.global_etr_rloc)
            yield from list_address("MS RLOC", address.ms_rloc)
            yield from list_address("private ETR RLOC", address.private_etr_rloc)
            for number, rtr in enumerate(address.rtr_rlocs, 1):
                yield from list_address(f"RTR {number}", rtr)
        case NonceLocator():
            yield "reserved", None
            yield f"nonce {address.nonce:#x}", None
        case MulticastInfo():
            yield f"IID {address.instance_id:#x}", None
            yield "reserved", None
            yield f"source mask-len {address.source_mask_len}", None
            yield f"group mask-len {address.group_mask_len}", None
            yield from list_address("source", address.source)
            yield from list_address("group", address.group)
        case ExplicitLocatorPath():
            for hop in address.hops:
                yield f"hop flags L={hop.is_lookup:d} P={hop.is_probe:d} S={hop.is_strict:d}", None
                yield from list_address("hop", hop.address)
        case SecurityKey():
            yield f"key count {len(address.keys)}", None
            yield "reserved", None
            yield f"cipher suite {address.cipher_suite}", None
            yield f"reserved, R={address.is_revoked:d}", None
            for key in address.keys:
                yield f"key length {len(key)}", None
                yield "key material", key
            yield from list_address("locator", address.address)
        case SourceDestKey():
            yield "reserved", None
            yield f"source mask-len {address.source_mask_len}", None
            yield f"dest mask-len {address.destination_mask_len}", None
            yield from list_address("source", address.source)
            yield from list_address("dest", address.destination)
        case ReplicationList():
            for entry in address.entries:
                yield "reserved", None
                yield f"level {entry.level}", None
                yield from list_address("entry", entry.address)
        case JsonText():
            yield f"JSON length {len(address.text)}", None
            yield f"JSON {address.text.decode()}", None
        case KeyValue():
            yield from list_address("key", address.key)
            yield from list_address("value", address.value)
        case EncapsulationFormat():
            yield f"encapsulation bits {int(address.encapsulations):#010x}", None
        case VendorSpecific():
            yield "reserved", None
            yield f"OUI {address.oui:#08x}", None
            yield "vendor data", address.data
    if isinstance(
        address,
        InstanceId | AsNumber | ApplicationData | GeoCoordinates | NonceLocator | JsonText | EncapsulationFormat,
    ):
        yield from list_address("address", address.address)


def _angle(letter: str, angle: Angle) -> str:
    return f"{letter}={angle.is_positive:d}, {angle.degrees} deg {angle.minutes} min {angle.seconds} s"


def _first_word(kind: int, flags: dict[str, bool], tail: str) -> Line:
    shown = [f"{letter}=1" for letter, value in flags.items() if value] or ["no flags"]
    return ", ".join([f"type {kind}", *shown, *([tail] if tail else [])]), None


def _records_of(message: MapReply | MapReferral | MapRegister | MapNotify | MapNotifyAck) -> str:
    return f"records {len(message.records)}"


def _nonce(nonce: int) -> Line:
    return "nonce", nonce.to_bytes(8)


def _nonce_and_records(nonce: int, records: Iterable[MappingRecord | ReferralRecord]) -> Iterator[Line]:
    yield _nonce(nonce)
    for record in records:
        yield from _record(record)


def _record(record: MappingRecord | ReferralRecord) -> Iterator[Line]:
    action = record.action if isinstance(record, MappingRecord) else record.referral
    yield f"record TTL (min) {record.ttl_min}", None
    yield f"locator count {len(record.locators)}", None
    yield f"EID mask-len {record.mask_len}", None
    yield f"ACT {int(action)}, A={record.is_authoritative:d}", None
    yield f"map-version {record.map_version:#05x}", None
    yield from list_address("EID", record.eid)
    for locator in record.locators:
        yield from _locator(locator)


def _locator(locator: Locator) -> Iterator[Line]:
    unicast = f"priority {locator.priority}, weight {locator.weight}"
    yield f"{unicast}, m-priority {locator.multicast_priority}, m-weight {locator.multicast_weight}", None
    yield f"locator flags L={locator.is_local:d} p={locator.is_probed:d} R={locator.is_reachable:d}", None
    yield from list_address("locator", locator.address)


def _site(xtr_id: bytes | None, site_id: bytes | None) -> Iterator[Line]:
    if xtr_id is not None:
        yield "xTR-ID", xtr_id
        yield "Site-ID", site_id


def _map_request(message: MapRequest) -> Iterator[Line]:
    flags = {
        "A": message.wants_authoritative,
        "M": message.mapping is not None,
        "P": message.is_probe,
        "S": message.is_smr,
        "p": message.is_pitr,
        "s": message.is_smr_invoked,
        "m": message.is_mobile_node,
        "I": message.xtr_id is not None,
        "L": message.is_local_xtr,
        "D": message.dont_map_reply,
    }
    yield _first_word(1, flags, f"IRC {len(message.itr_rlocs) - 1}, records {len(message.records)}")
    yield _nonce(message.nonce)
    yield from list_address("source EID", message.source_eid)
    for number, rloc in enumerate(message.itr_rlocs, 1):
        yield from list_address(f"ITR-RLOC {number}", rloc)
    for record in message.records:
        yield f"record: N={record.wants_notify:d}", None
        yield f"mask-len {record.mask_len}", None
        yield from list_address("EID", record.eid)
    if message.mapping is not None:
        yield from _record(message.mapping)
    yield from _site(message.xtr_id, message.site_id)


def _map_register(message: MapRegister) -> Iterator[Line]:
    flags = {
        "P": message.proxy_map_reply,
        "S": message.has_lisp_sec,
        "I": message.xtr_id is not None,
        "R": message.is_for_rtr,
        "E": message.wants_eid_notify,
        "T": message.uses_ttl,
        "a": message.wants_merge,
        "m": message.is_mobile_node,
        "M": message.want_map_notify,
    }
    yield _first_word(3, flags, _records_of(message))
    yield from _authenticated(message)


def _authenticated(message: MapRegister | MapNotify | MapNotifyAck) -> Iterator[Line]:
    yield _nonce(message.nonce)
    yield from _authentication(message)
    for record in message.records:
        yield from _record(record)
    yield from _site(message.xtr_id, message.site_id)


def _authentication(message: MapRegister | MapNotify | MapNotifyAck | InfoRequest | InfoReply) -> Iterator[Line]:
    yield f"key id {message.key_id}, algorithm {message.algorithm_id}", None
    yield f"auth data length {len(message.authentication)}", None
    if message.authentication:
        yield "authentication data", message.authentication


def _info(message: InfoRequest | InfoReply) -> Iterator[Line]:
    yield f"type 7, R={isinstance(message, InfoReply):d}", None
    yield _nonce(message.nonce)
    yield from _authentication(message)
    yield f"TTL (min) {message.ttl_min}", None
    yield "reserved", None
    yield f"EID mask-len {message.mask_len}", None
    yield from list_address("EID", message.eid)
    yield from list_address("tail", message.nat if isinstance(message, InfoReply) else message.tail)


def _ecm(message: EncapsulatedControl) -> Iterator[Line]:
    flags = {
        "S": message.authentication is not None,
        "D": message.is_ddt,
        "E": message.to_etr,
        "M": message.to_map_server,
        "R": message.to_rtr,
        "N": message.relayed_by_rtr,
    }
    yield _first_word(8, flags, "")
    rtr = message.rtr_authentication
    if rtr is not None:
        yield "AD type 2", None
        yield f"MS-RTR key id {rtr.key_id << 8 | rtr.algorithm_id}", None
        yield f"MS-RTR auth length {len(rtr.authentication)}", None
        yield "MS-RTR authentication data", rtr.authentication
    yield from _inner(
        UdpPacket(
            message.source,
            message.source_port,
            message.destination,
            message.destination_port,
            message.message,
            message.ttl,
        )
    )


def _inner(packet: UdpPacket) -> Iterator[Line]:
    raw = packet.encode()
    length = 8 + len(packet.payload)
    path = f"{packet.source} > {packet.destination}"
    if packet.source.version == 4:
        yield f"inner IPv4 {path}, total length {20 + length}, TTL {packet.ttl}", None
    else:
        yield f"inner IPv6 {path}, payload {length}, hop limit {packet.ttl}", None
    checksum = raw[-length:][6:8].hex()
    yield f"inner UDP {packet.source_port} > {packet.destination_port}, length {length}, checksum {checksum}", None
    yield from list_control(decode_control(packet.payload))
