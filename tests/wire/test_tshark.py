"""Wireshark's dissector, which shares no code with ours, reads in our messages what we put there."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, authenticate
from lispmob.wire.data_header import DataHeader
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.lcaf_types import NatTraversal
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.wire.pcap import write_pcap

pytestmark = [
    pytest.mark.tshark,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark, Wireshark's dissector, is not installed"),
]

Fields = list[tuple[str, str]]

HERE, THERE = IPv4Address("192.0.2.10"), IPv4Address("203.0.113.5")
HERE_6 = IPv6Address("2001:db8:ffff::10")
EID = EidPrefix.parse("10.2.0.0/16")
EID_6 = EidPrefix.parse("[4660]2001:db8:2::/48")
NONCE = 0x0123456789ABCDEF
KEY = Key(b"secret", 1, Algorithm.HMAC_SHA_256_128)
XTR_ID, SITE_ID = bytes(range(16)), bytes(range(8))

LOCATORS = (
    Locator(THERE, 1, 50, is_local=True, is_probed=True),
    Locator(HERE_6, 2, 100, 7, 9, is_reachable=False),
)
RECORD = MappingRecord.of(EID, LOCATORS, ttl_min=77, is_authoritative=True, map_version=0x123)
NEGATIVE = MappingRecord.of(EidPrefix.parse("10.0.0.0/9"), ttl_min=15, action=Action.NATIVELY_FORWARD)

REQUEST = MapRequest(
    NONCE,
    HERE,
    (HERE, HERE_6),
    (EidRecord.of(EID),),
    wants_authoritative=True,
    is_smr_invoked=True,
    is_pitr=True,
)
REPLY = MapReply(NONCE, (RECORD, NEGATIVE), is_probe=True, has_echo_nonce=True)
REGISTER = authenticate(
    MapRegister(NONCE, (RECORD,), proxy_map_reply=True, want_map_notify=True, xtr_id=XTR_ID, site_id=SITE_ID), KEY
)
NOTIFY = authenticate(MapNotify(NONCE, (RECORD,), xtr_id=XTR_ID, site_id=SITE_ID), KEY)
NOTIFY_ACK = authenticate(MapNotifyAck(NONCE, (RECORD,)), KEY)
NAT = NatTraversal(CONTROL_PORT, 20001, THERE, HERE, None, (THERE, HERE))
INFO_REQUEST = authenticate(InfoRequest(NONCE, EID.address, EID.mask_len), KEY)
INFO_REPLY = authenticate(InfoReply(NONCE, EID.address, EID.mask_len, NAT, ttl_min=1440), KEY)
ECM = EncapsulatedControl(IPv4Address("10.1.0.1"), 50000, EID.address, CONTROL_PORT, REQUEST.encode(), is_ddt=True)
REFERRAL_RECORD = ReferralRecord(EID.address, EID.mask_len, Referral.MS, LOCATORS, 77, is_incomplete=True)
DATA_HEADER = DataHeader(instance_id=0x1234, locator_status_bits=5)
INNER = build_ip_udp(HERE, 50000, THERE, 50001, b"hello")


def bit(value: bool) -> str:
    return str(int(value))


def colons(octets: bytes) -> str:
    return octets.hex(":")


def nonce_fields(nonce: int) -> Fields:
    return [("lisp.nonce", f"{nonce:#018x}")]


def authentication_fields(message: MapRegister | MapNotify | InfoRequest | InfoReply) -> Fields:
    return [
        *nonce_fields(message.nonce),
        ("lisp.keyid", f"{message.key_id << 8 | message.algorithm_id:#06x}"),
        ("lisp.authlen", str(len(message.authentication))),
        ("lisp.auth", colons(message.authentication)),
    ]


def locator_fields(locator: Locator) -> Fields:
    return [
        ("lisp.loc.priority", str(locator.priority)),
        ("lisp.loc.weight", str(locator.weight)),
        ("lisp.loc.multicast_priority", str(locator.multicast_priority)),
        ("lisp.loc.multicast_weight", str(locator.multicast_weight)),
        ("lisp.loc.flags.local", bit(locator.is_local)),
        ("lisp.loc.flags.probe", bit(locator.is_probed)),
        ("lisp.loc.flags.reach", bit(locator.is_reachable)),
        ("lisp.loc.afi", "1" if isinstance(locator.address, IPv4Address) else "2"),
        ("lisp.loc.locator", str(locator.address)),
    ]


def record_fields(record: MappingRecord) -> Fields:
    return [
        ("lisp.mapping.ttl", str(record.ttl_min)),
        ("lisp.mapping.loccnt", str(len(record.locators))),
        ("lisp.mapping.eid.masklen", str(record.mask_len)),
        ("lisp.mapping.act", str(int(record.action))),
        ("lisp.mapping.auth", bit(record.is_authoritative)),
        ("lisp.mapping.ver", str(record.map_version)),
        ("lisp.mapping.eid.afi", "1"),
        ("lisp.mapping.eid.ipv4", str(record.eid)),
        *(field for locator in record.locators for field in locator_fields(locator)),
    ]


def address_field(name: str, separator: str, address: IpAddress) -> Fields:
    return [
        (f"{name}.afi", "1" if address.version == 4 else "2"),
        (f"{name}{separator}ipv{address.version}", str(address)),
    ]


def request_fields(request: MapRequest) -> Fields:
    return [
        ("lisp.type", "1"),
        ("lisp.mreq.flags.auth", bit(request.wants_authoritative)),
        ("lisp.mreq.flags.mrp", bit(request.mapping is not None)),
        ("lisp.mreq.flags.probe", bit(request.is_probe)),
        ("lisp.mreq.flags.smr", bit(request.is_smr)),
        ("lisp.mreq.flags.pitr", bit(request.is_pitr)),
        ("lisp.mreq.flags.smri", bit(request.is_smr_invoked)),
        ("lisp.irc", str(len(request.itr_rlocs) - 1)),
        ("lisp.records", "1"),
        *nonce_fields(request.nonce),
        *address_field("lisp.mreq.srceid", ".", HERE),
        *address_field("lisp.mreq.itr_rloc", "_", HERE),
        *address_field("lisp.mreq.itr_rloc", "_", HERE_6),
        ("lisp.mreq.record.prefix.length", "16"),
        *address_field("lisp.mreq.record.prefix", ".", EID.address),
        *(record_fields(request.mapping) if request.mapping else []),
    ]


def site_fields() -> Fields:
    return [("lisp.xtrid", colons(XTR_ID)), ("lisp.siteid", colons(SITE_ID))]


def info_fields(message: InfoRequest | InfoReply) -> Fields:
    return [
        ("lisp.type", "7"),
        ("lisp.info.r", bit(isinstance(message, InfoReply))),
        *authentication_fields(message),
        ("lisp.info.ttl", str(message.ttl_min)),
        ("lisp.info.prefix.masklen", "16"),
        *address_field("lisp.info.prefix", ".", EID.address),
    ]


def nat_fields() -> Fields:
    rlocs = (THERE, HERE, None, THERE, HERE)
    return [
        ("lisp.info.afi", "16387"),
        ("lisp.lcaf.type", "7"),
        ("lisp.lcaf.natt.msport", str(CONTROL_PORT)),
        ("lisp.lcaf.natt.etrport", "20001"),
        *(
            field
            for rloc in rlocs
            for field in (
                address_field("lisp.lcaf.natt.rloc", ".", rloc) if rloc else [("lisp.lcaf.natt.rloc.afi", "0")]
            )
        ),
    ]


def referral_fields() -> Fields:
    return [
        ("lisp.type", "6"),
        ("lisp.records", "1"),
        *nonce_fields(NONCE),
        ("lisp.mapping.ttl", "77"),
        ("lisp.mapping.loccnt", "2"),
        ("lisp.mapping.eid.masklen", "16"),
        ("lisp.mapping.act", "1"),
        ("lisp.mapping.auth", "0"),
        ("lisp.referral.incomplete", "1"),
        ("lisp.referral.sigcnt", "0"),
        ("lisp.mapping.ver", "0"),
        *address_field("lisp.mapping.eid", ".", EID.address),
        *(field for locator in LOCATORS for field in locator_fields(locator)),
    ]


SMR = MapRequest(0, HERE, (HERE,), (EidRecord.of(EID_6),), is_smr=True)

CASES: dict[str, tuple[bytes, Fields]] = {
    "Map-Request": (REQUEST.encode(), request_fields(REQUEST)),
    "Map-Request with a mapping": (
        (with_mapping := MapRequest(NONCE, HERE, (HERE, HERE_6), (EidRecord.of(EID),), mapping=RECORD)).encode(),
        request_fields(with_mapping),
    ),
    "SMR for an EID in an Instance-ID": (
        SMR.encode(),
        [
            ("lisp.type", "1"),
            ("lisp.mreq.flags.smr", "1"),
            *nonce_fields(0),
            ("lisp.lcaf.type", "2"),
            ("lisp.lcaf.iid", "4660"),
            ("lisp.lcaf.iid.ipv6", "2001:db8:2::"),
        ],
    ),
    "Map-Reply": (
        REPLY.encode(),
        [
            ("lisp.type", "2"),
            ("lisp.mrep.flags.probe", "1"),
            ("lisp.mrep.flags.enlr", "1"),
            ("lisp.mrep.flags.sec", "0"),
            ("lisp.records", "2"),
            *nonce_fields(NONCE),
            *record_fields(RECORD),
            *record_fields(NEGATIVE),
        ],
    ),
    "Map-Register": (
        REGISTER.encode(),
        [
            ("lisp.type", "3"),
            ("lisp.mreg.flags.pmr", "1"),
            ("lisp.mreg.flags.sec", "0"),
            ("lisp.mreg.flags.xtrid", "1"),
            ("lisp.mreg.flags.rtr", "0"),
            ("lisp.mreg.flags.wmn", "1"),
            ("lisp.records", "1"),
            *authentication_fields(REGISTER),
            *record_fields(RECORD),
            *site_fields(),
        ],
    ),
    "Map-Notify": (
        NOTIFY.encode(),
        [
            ("lisp.type", "4"),
            ("lisp.mnot.flags.xtrid", "1"),
            ("lisp.mnot.flags.rtr", "0"),
            ("lisp.records", "1"),
            *authentication_fields(NOTIFY),
            *record_fields(RECORD),
            *site_fields(),
        ],
    ),
    # Wireshark 4.0 knows only the type of this one.
    "Map-Notify-Ack": (NOTIFY_ACK.encode(), [("lisp.type", "5")]),
    "Map-Referral": (MapReferral(NONCE, (REFERRAL_RECORD,)).encode(), referral_fields()),
    "Info-Request": (INFO_REQUEST.encode(), [*info_fields(INFO_REQUEST), ("lisp.info.afi", "0")]),
    "Info-Reply": (INFO_REPLY.encode(), [*info_fields(INFO_REPLY), *nat_fields()]),
    "ECM": (
        ECM.encode(),
        [
            ("lisp.type", "8"),
            ("lisp.ecm.flags.sec", "0"),
            ("lisp.ecm.flags.ddt", "1"),
            *request_fields(REQUEST),
        ],
    ),
    "data": (
        DATA_HEADER.encode() + INNER,
        [
            ("lisp-data.flags.nonce", "0"),
            ("lisp-data.flags.lsb", "1"),
            ("lisp-data.flags.enr", "0"),
            ("lisp-data.flags.mv", "0"),
            ("lisp-data.flags.iid", "1"),
            ("lisp-data.iid", "4660"),
            ("lisp-data.lsb8", "0x05"),
        ],
    ),
}


@pytest.fixture(scope="module")
def dissections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ElementTree.Element]:
    """What tshark says of each case, dissected in one run with checksums verified."""
    path = tmp_path_factory.mktemp("tshark") / "messages.pcap"
    packets = (
        build_ip_udp(HERE, 50000, THERE, DATA_PORT if name == "data" else CONTROL_PORT, payload)
        for name, (payload, _) in CASES.items()
    )
    write_pcap(path, packets)
    return dict(zip(CASES, dissect(path), strict=True))


def dissect(path: Path) -> list[ElementTree.Element]:
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-T",
        "pdml",
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]
    run = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return list(ElementTree.fromstring(run.stdout))  # noqa: S314  our own packets, our own tshark


@pytest.mark.parametrize("name", CASES)
def test_tshark_reads_what_was_written(name: str, dissections: dict[str, ElementTree.Element]) -> None:
    expected = CASES[name][1]
    names = {field for field, _ in expected}

    found = [
        (field.get("name", ""), field.get("show", ""))
        for protocol in dissections[name].findall("proto")
        if protocol.get("name", "").startswith("lisp")
        for field in protocol.iter("field")
        if field.get("name") in names
    ]

    assert found == expected


@pytest.mark.parametrize("name", CASES)
def test_tshark_finds_nothing_malformed_and_every_checksum_right(
    name: str, dissections: dict[str, ElementTree.Element]
) -> None:
    protocols = [protocol.get("name") for protocol in dissections[name].findall("proto")]
    checksums = {
        field.get("show")
        for field in dissections[name].iter("field")
        if field.get("name") in ("ip.checksum.status", "udp.checksum.status")
    }

    assert "_ws.malformed" not in protocols
    assert checksums == {"1"}
