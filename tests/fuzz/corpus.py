"""The inputs that fuzzing starts from: every payload of the captures, and every packet of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from struct import pack

from dns.message import make_query
from msgspec.structs import replace

from lispmob.control.node_config import NodeConfig
from lispmob.control.sealing.handshake_carriage import First, put_first, put_second
from lispmob.errors import MalformedMessage
from lispmob.flow.auth import FlowKey, Way, sign
from lispmob.flow.message import ANSWERED, Kind, Message, encode
from lispmob.flow.quality import FlowClass, Quality
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.publishing.subscription import Place, Subscription
from lispmob.hub.store import stored_rows, stored_subscriptions
from lispmob.hub.valkey import keys
from lispmob.joining.exchange import Message as JoinMessage
from lispmob.joining.exchange import Redemption, Verdict, refuse
from lispmob.joining.invitation import Invitation
from lispmob.recording.values import to_json
from lispmob.tools.echo_message import question
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from lispmob.wire.sealed_handshake import Offer
from tests.control.support import prefix
from tests.fuzz.targets import CIPHERS, TARGETS
from tests.wire.pcap import read_pcap
from tests.wire.vectors import ADDRESSES, CONTROL, DATA, LISP_SEC, MALFORMED, PACKETS, load

CAPTURES = Path(__file__).resolve().parent.parent / "captures"
CONFIGURATIONS = CAPTURES.parents[1] / "conf"
DATA_PORT = 4341
MAC_OCTETS = 16  # of a handshake's mac1, which the target makes itself


def control_payloads() -> list[bytes]:
    """The control messages of all captures, also those in data packets; each once."""
    found: dict[bytes, None] = {}
    for packet in _packets():
        datagram = parse_ip_udp(packet)
        found[datagram.payload] = None
        if DATA_PORT not in (datagram.source_port, datagram.destination_port):
            continue
        try:
            found[parse_ip_udp(split_data_packet(datagram.payload)[1]).payload] = None
        except MalformedMessage:
            continue
    return list(found)


def data_payloads() -> list[bytes]:
    """What came to the data port in the captures: LISP headers followed by packets; each once."""
    found = (parse_ip_udp(packet) for packet in _packets())
    ports = ((packet.payload, (packet.source_port, packet.destination_port)) for packet in found)
    return list(dict.fromkeys(payload for payload, pair in ports if DATA_PORT in pair))


def flow_payloads() -> list[bytes]:
    """Messages of flows of every kind, plain and with everything that they can hold, and a request of version 0."""
    nonces = b"\x11" * 8, b"\xa1" * 8
    bare = [Message(kind, *nonces, name="backup.nas", flow_port=40001) for kind in Kind]
    full = [
        replace(
            message, lifetime_s=600, quality=Quality(FlowClass.VOICE, 1, 50, 100, 64), reason_code=1, reason_text="no",
            caller="me", cookie=b"\x0f" * 8,
        )
        for message in bare
    ]  # fmt: skip
    replies = [replace(message, is_reply=True) for message in bare if message.kind in ANSWERED]
    way = Way(ip_address("10.99.0.1"), 50000, ip_address("10.99.0.2"), 3359)
    octets = [encode(reply) for reply in (*bare, *full, *replies)]
    return [*octets, *(sign(octet, way, FlowKey(1, b"correct horse battery")) for octet in octets), b"backup.nas\0"]


def sealing_payloads() -> list[bytes]:
    """Handshakes for sealed data, alone and as they travel; what LISP-SEC and DDT add, and a key record."""
    first, second = (bytes.fromhex(load("sealed")[which]) for which in ("first", "second"))
    eids = prefix("10.1.0.1/32"), prefix("10.2.0.7/32")
    rloc = ip_address("192.0.2.1")
    keys = KeyRecord((first[8:40],)).to_locator()
    record = MappingRecord.of(eids[1], (Locator(rloc), keys))
    referral = ReferralRecord(rloc, 32, Referral.MS_ACK, (Locator(rloc),), 5)
    return [
        first[:-MAC_OCTETS],
        second[:-MAC_OCTETS],
        Offer(1_700_000_000_000_000_000, 3).encode(),
        put_first(1, First(first, *eids), rloc),
        put_second(1, second, eids[1], rloc),
        MapReply(1, (record,)).encode(),
        MapReferral(1, (referral,)).encode(),
        MapReply.decode(LISP_SEC["Map-Reply"]).security or b"",
    ]


def joining_payloads() -> list[bytes]:
    """An invitation, the message that redeems it, and a hub's possible answers; a datagram of lisp-echo."""
    rlocs = ip_address("198.51.100.1"), ip_address("2001:db8::1")
    invitation = Invitation(rlocs, bytes(8), 30_000_000, bytes(16), bytes(range(32)))
    found = [invitation.line().encode(), question(7, 1, 64)]
    if CIPHERS is None:
        return found
    asked = Redemption(invitation, bytes(range(32)), CIPHERS).question
    return [*found, asked, *(refuse(JoinMessage.decode(asked), verdict, bytes(16)) for verdict in Verdict)]


def dns_payloads() -> list[bytes]:
    """Questions for a name, a service and an address, with and without EDNS."""
    names = ("nas.lisp.home.arpa", "_lispflow._udp.nas.lisp.home.arpa", "7.0.2.10.in-addr.arpa", "lisp.home.arpa")
    kinds = ("A", "AAAA", "SRV", "PTR", "SOA", "ANY")
    return [
        make_query(name, kind, use_edns=edns, id=7).to_wire() for name in names for kind in kinds for edns in (-1, 0)
    ]


def stored_payloads() -> list[bytes]:
    """What a state file, a shared registry, a recording and the shipped configurations hold."""
    source = ip_address("203.0.113.5")
    record = MappingRecord.of(prefix("10.1.0.1/32"), (Locator(source),), ttl_min=10)
    part = XtrRegistration(bytes(range(16)), record, 600.0, 1.0, 7, source, True, False, bytes(range(16)), bytes(8))
    octets = packed_part.pack(part, 60.0)
    name = stored_rows.key_of(prefix("10.1.0.1/32"))
    eids = prefix("10.1.0.1/32"), prefix("10.2.0.7/32")
    subscription = Subscription(
        prefix=eids[1], xtr_id=bytes(16), source=eids[0], places=(Place(source, 4342, is_binding=True),), own=source,
        families=(4,), nonce=7, secret=bytes(16), key_id=0, mark=b"home", expires_at=600.0, is_acknowledged=True,
    )  # fmt: skip
    settings = NodeConfig((prefix("10.1.0.1/32"),), first_nonce=1, map_resolvers=(source,), map_servers=())
    return [
        keys.value_of((octets, octets), 0.0),
        stored_rows.join((octets,), 0.0)[:-4],
        pack(">QdcQH", 1, 1.0, b"r", 7, len(name)) + name + keys.value_of((octets,), 0.0),
        pack(">dQB", 1.0, 7, 4) + source.packed + b"a Map-Register",
        stored_subscriptions.pack(subscription, 0.0),
        json.dumps(to_json(settings)).encode(),
        *(path.read_bytes() for path in sorted(CONFIGURATIONS.glob("*.conf"))),
    ]


def _packets() -> Iterator[bytes]:
    for path in sorted(CAPTURES.glob("*.pcap")):
        for packet in read_pcap(path):
            try:
                parse_ip_udp(packet)
            except MalformedMessage:
                continue
            yield packet


def write(directory: Path) -> None:
    """Write the corpus as libFuzzer and Atheris want it: a file for each input."""
    for kind, payloads in (("control", control_inputs()), ("data", data_payloads())):
        place = directory / kind
        place.mkdir(parents=True, exist_ok=True)
        for number, payload in enumerate(payloads):
            (place / f"{number:04}").write_bytes(payload)


def control_inputs() -> list[bytes]:
    """Each message behind the octet of every decoder that reads it, or else behind that of the one for all messages."""
    vectors = (*CONTROL.values(), *DATA.values(), *ADDRESSES.values(), *LISP_SEC.values(), *PACKETS.values())
    malformed = (entry.octets for entry in MALFORMED.values())
    ours = (*flow_payloads(), *sealing_payloads(), *joining_payloads(), *dns_payloads(), *stored_payloads())
    messages = (*control_payloads(), *data_payloads(), *ours, *vectors, *malformed)
    places = {payload: [place for place in range(len(TARGETS)) if _is_read(place, payload)] for payload in messages}
    return [bytes([place]) + payload for payload, found in places.items() for place in found or [0]]


def _is_read(place: int, payload: bytes) -> bool:
    try:
        list(TARGETS.values())[place](payload)
    except MalformedMessage:
        return False
    return True


if __name__ == "__main__":
    write(Path(sys.argv[1]))
