"""Hypothesis strategies: any address, record and message that the codec can carry."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lispmob.wire.address import DistinguishedName, MacAddress
from lispmob.wire.data_header import DataHeader
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
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
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication, MapReplySecurity
from lispmob.wire.map_notify import MapNotify, MapNotifyAck, RtrAuthentication
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord, Signature
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import ControlMessage
from lispmob.wire.record import Action, Locator, MappingRecord


def uint(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


def tuples_of(elements: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(elements, min_size=least, max_size=most).map(tuple)


def named(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The same strategy with a short name: Hypothesis prints nested ones in full, and warns that this is long."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> Any:
        return draw(strategy)

    return draw_one()


octet_values = st.sampled_from([0, 1, 2, 17, 0x40, 0x7F, 0xFF]) | st.integers(0, 255)
flags = st.booleans()
nonces = uint(64)
ips = st.ip_addresses()
ports = st.tuples(uint(16), uint(16))
names = st.binary(max_size=255).map(lambda raw: DistinguishedName(raw.replace(b"\0", b"x")))
macs = st.binary(min_size=6, max_size=6).map(MacAddress)
plain_addresses: st.SearchStrategy[WireAddress] = st.one_of(st.none(), ips, macs, names)
angles = st.builds(Angle, flags, uint(15), uint(8), uint(8))


def lcafs(inner: st.SearchStrategy[Any], *, is_instance_allowed: bool = True) -> st.SearchStrategy[Any]:
    """Any LCAF that a message may hold, around addresses of `inner`."""
    kinds: list[st.SearchStrategy[Any]] = [
        st.builds(NullBody),
        st.builds(AfiList, tuples_of(inner)),
        st.builds(AsNumber, uint(32), inner),
        st.builds(ApplicationData, uint(24), uint(8), ports, ports, inner),
        st.builds(GeoCoordinates, angles, angles, st.none() | st.integers(-(2**31), 2**31 - 2), inner),
        st.builds(OpaqueKey, st.integers(1, 256), uint(16), st.binary(max_size=40)),
        st.builds(NatTraversal, uint(16), uint(16), inner, inner, inner, tuples_of(inner)),
        st.builds(NonceLocator, uint(24), inner),
        st.builds(MulticastInfo, uint(32), uint(8), uint(8), inner, inner, uint(3)),
        st.builds(ExplicitLocatorPath, tuples_of(st.builds(PathHop, inner, flags, flags, flags))),
        st.builds(SecurityKey, uint(8), tuples_of(st.binary(max_size=64)), inner, flags),
        st.builds(SourceDestKey, uint(8), uint(8), inner, inner),
        st.builds(ReplicationList, tuples_of(st.builds(ReplicationEntry, uint(8), inner))),
        st.builds(JsonText, st.binary(max_size=40), inner, flags),
        st.builds(KeyValue, inner, inner),
        st.builds(EncapsulationFormat, uint(7).map(Encapsulation), inner),
        st.builds(UnknownLcaf, st.integers(17, 254), st.binary(max_size=40), uint(8)),
    ]
    if is_instance_allowed:
        kinds.append(st.builds(InstanceId, uint(32), inner, uint(8)))
    return st.one_of(kinds)


nested_addresses = named(plain_addresses | lcafs(plain_addresses, is_instance_allowed=False))
addresses: st.SearchStrategy[WireAddress] = named(plain_addresses | lcafs(nested_addresses))
vendor_addresses = st.builds(VendorSpecific, uint(24), st.binary(max_size=40))


def bits_of(eid: object) -> int:
    """The largest mask length; an EID without bits may have any."""
    address = eid.address if isinstance(eid, InstanceId) else eid
    if isinstance(address, MacAddress):
        return 48
    return int(getattr(address, "max_prefixlen", 255))


# An unknown LCAF is no EID: such a message is dropped.
eids = st.one_of(ips, addresses.filter(lambda address: not isinstance(address, UnknownLcaf))).flatmap(
    lambda eid: st.tuples(st.just(eid), st.integers(0, bits_of(eid)))
)
locators = st.builds(
    Locator, st.one_of(ips, addresses), uint(8), uint(8), uint(8), uint(8), is_local=flags, is_probed=flags
)
actions = st.sampled_from([*Action, 6, 7])


def _identity(record: MappingRecord) -> object:
    return record.eid_prefix or (record.eid, record.mask_len)


mapping_records = st.builds(
    lambda eid, **rest: MappingRecord(eid[0], eid[1], **rest),
    eids,
    locators=tuples_of(locators),
    ttl_min=uint(32),
    action=actions,
    is_authoritative=flags,
    map_version=uint(12),
)
record_sets = st.lists(mapping_records, min_size=1, max_size=3, unique_by=_identity).map(tuple)
eid_records = st.builds(lambda eid, wants_notify: EidRecord(eid[0], eid[1], wants_notify), eids, flags)
sites: st.SearchStrategy[dict[str, bytes]] = st.just({}) | st.fixed_dictionaries(
    {"xtr_id": st.binary(min_size=16, max_size=16), "site_id": st.binary(min_size=8, max_size=8)}
)
digests = st.binary(max_size=40)
rtr_authentications = st.builds(RtrAuthentication, uint(8), uint(8), digests)
authentications = st.fixed_dictionaries({"key_id": uint(8), "algorithm_id": uint(8), "authentication": digests})


def makes_sense(request: MapRequest) -> bool:
    """True if the decoder accepts a Map-Request with these values."""
    return (
        (any(request.itr_rlocs) or any(record.wants_notify for record in request.records))
        and not (request.is_smr and request.is_smr_invoked)
        and (len(request.records) == 1 or not (request.is_smr or request.is_probe))
        and (request.xtr_id is not None or not any(record.wants_notify for record in request.records))
    )


map_requests = st.builds(
    lambda site, **rest: MapRequest(**site, **rest),
    sites,
    nonce=nonces,
    source_eid=addresses,
    itr_rlocs=tuples_of(addresses, least=1, most=4),
    records=tuples_of(eid_records, least=1),
    mapping=st.none() | mapping_records,
    wants_authoritative=flags,
    is_probe=flags,
    is_smr=flags,
    is_pitr=flags,
    is_smr_invoked=flags,
    is_mobile_node=flags,
    dont_map_reply=flags,
    is_local_xtr=flags,
).filter(makes_sense)

eid_authentications = st.builds(EidAuthentication, uint(16)) | st.builds(
    EidAuthentication,
    uint(16),
    uint(16),
    tuples_of(eids.map(lambda eid: AuthorizedEid(*eid)), least=1),
    digests,
    flags,
)
packet_hmacs = st.sampled_from((12, 16, 20, 32)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
wrapped_keys = st.binary(min_size=24, max_size=24)
map_reply_securities = st.builds(MapReplySecurity, eid_authentications, uint(16), packet_hmacs)
ecm_securities = st.builds(EcmSecurity, uint(16), uint(8), uint(8), wrapped_keys, eid_authentications)

map_replies = st.builds(
    MapReply, nonces, record_sets, flags, flags, st.none() | map_reply_securities.map(MapReplySecurity.encode)
)
map_registers = st.builds(
    lambda site, authentication, **rest: MapRegister(**site, **authentication, **rest),
    sites,
    authentications,
    nonce=nonces,
    records=record_sets,
    proxy_map_reply=flags,
    has_lisp_sec=flags,
    is_for_rtr=flags,
    wants_eid_notify=flags,
    uses_ttl=flags,
    wants_merge=flags,
    is_mobile_node=flags,
    want_map_notify=flags,
)
notifications: st.SearchStrategy[MapNotify | MapNotifyAck] = st.builds(
    lambda kind, site, authentication, **rest: kind(**site, **authentication, **rest),
    st.sampled_from([MapNotify, MapNotifyAck]),
    sites,
    authentications,
    nonce=nonces,
    records=record_sets,
    rtr_authentication=st.none() | rtr_authentications,
    keeps_keys=flags,
)
signatures = st.builds(Signature, uint(32), uint(32), uint(32), uint(16), uint(8), digests)
referral_records = st.builds(
    lambda eid, **rest: ReferralRecord(*eid, **rest),
    eids,
    referral=st.sampled_from([*Referral, 6, 7]),
    locators=tuples_of(locators),
    ttl_min=uint(32),
    is_authoritative=flags,
    is_incomplete=flags,
    map_version=uint(12),
    signatures=tuples_of(signatures),
)
map_referrals = st.builds(MapReferral, nonces, tuples_of(referral_records, least=1))
info_requests = st.builds(
    lambda eid, authentication, **rest: InfoRequest(eid=eid[0], mask_len=eid[1], **authentication, **rest),
    eids,
    authentications,
    nonce=nonces,
    ttl_min=uint(32),
    tail=addresses,
)
info_replies = st.builds(
    lambda eid, authentication, **rest: InfoReply(eid=eid[0], mask_len=eid[1], **authentication, **rest),
    eids,
    authentications,
    nonce=nonces,
    ttl_min=uint(32),
    nat=st.builds(
        NatTraversal,
        uint(16),
        uint(16),
        plain_addresses,
        plain_addresses,
        plain_addresses,
        tuples_of(plain_addresses),
    ),
)
ip_pairs = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
rtr_proofs = rtr_authentications.map(lambda proof: b"\x02\0\0\0" + proof.encode())


def _ecm(pair: tuple[Any, Any], inner: Any, headers: dict[str, Any], **rest: Any) -> EncapsulatedControl:
    ipv4_only = ("identification", "dont_fragment")
    is_ipv4 = pair[0].version == 4
    headers = {name: value for name, value in headers.items() if (name in ipv4_only) == is_ipv4}
    return EncapsulatedControl(source=pair[0], destination=pair[1], message=inner.encode(), **headers, **rest)


ecms = st.builds(
    _ecm,
    ip_pairs,
    st.one_of(map_requests.filter(lambda request: not request.is_probe), map_registers),
    st.fixed_dictionaries({"identification": uint(16), "dont_fragment": flags, "flow_label": uint(20)}),
    source_port=uint(16).filter(lambda port: port != 4341),
    destination_port=st.just(4342),
    authentication=st.none() | rtr_proofs | ecm_securities.map(EcmSecurity.encode),
    is_ddt=flags,
    to_etr=flags,
    to_map_server=flags,
    to_rtr=flags,
    relayed_by_rtr=flags,
    ttl=uint(8),
    traffic_class=uint(8),
    has_checksum=flags,
)
messages: st.SearchStrategy[ControlMessage] = st.one_of(
    map_requests,
    map_replies,
    map_registers,
    notifications,
    map_referrals,
    info_requests,
    info_replies,
    ecms,
)


def _data_header(instance_id: int | None, status_bits: int | None, low: dict[str, Any], key: int) -> DataHeader:
    if status_bits is not None and instance_id is not None:
        status_bits &= 0xFF
    return DataHeader(instance_id=instance_id, locator_status_bits=status_bits, key_number=key, **low)


data_headers = st.builds(
    _data_header,
    st.none() | uint(24),
    st.none() | uint(32),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"nonce": uint(24), "wants_echo": flags}),
        st.fixed_dictionaries({"map_versions": st.tuples(uint(12), uint(12))}),
    ),
    uint(2),
)
