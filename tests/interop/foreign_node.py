"""A LISP node that is not ours: a tunnel in user space that reads a raw socket, one packet at a time.

`python -m tests.interop.foreign_node CONFIGURATION`, in a network namespace. It has in common with Open Overlay Router
and lispers.net, and not with our datapath, that no kernel completes a packet before it is read. It verifies every
checksum itself and drops what is wrong; of a run it takes the first packet; packets that wait for a mapping are
dropped. Its ECMs have no inner checksum. It knows no keys, and counts those that it gets. It uses our codec for control
messages, and nothing of our datapath.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import select
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord

DATA_PORT, CONTROL_PORT, CONTROL_IID = 4341, 4342, 0xFFFFFF
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
TCP, UDP = 6, 17
REGISTER_S = 1.0
ASK_S = 0.3
DEVICE = "foreign0"
KEY = re.compile(rb"\x40\x03..\x0b", re.DOTALL)  # AFI 16387, flags, LCAF Type 11: a key, anywhere in the message


@dataclass(frozen=True)
class Plan:
    """Its configuration. `counters`: the file for its counters, written a few times a second."""

    rloc: str
    eids: tuple[str, ...]
    overlay: tuple[str, ...]
    map_server: str
    key: str
    counters: str

    def argument(self) -> str:
        return json.dumps(asdict(self))


def ones_complement(octets: bytes) -> int:
    """The Internet checksum; 0 over octets that include a correct one."""
    octets += b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def wrong_with(packet: bytes) -> str | None:
    """The reason why a strict host would drop an IP packet, None if there is none."""
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        if ones_complement(packet[:header]):
            return "ip"
        protocol, pseudo = packet[9], packet[12:20]
    else:
        header, protocol, pseudo = 40, packet[6], packet[8:40]
    body = packet[header:]
    if protocol not in (TCP, UDP) or (protocol == UDP and body[6:8] == b"\0\0"):
        return None
    return "transport" if ones_complement(pseudo + struct.pack("!HHI", 0, protocol, len(body)) + body) else None


def length_of(packet: bytes) -> int:
    """The length of an IP packet by its header."""
    at, more = (2, 0) if packet[0] >> 4 == 4 else (4, 40)
    return int.from_bytes(packet[at : at + 2], "big") + more


class ForeignNode:
    """One process, one loop, one packet at a time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rloc = ip_address(plan.rloc)
        self.key = Key(plan.key.encode(), algorithm=Algorithm.HMAC_SHA_1_96)
        self.eids = [EidPrefix.parse(eid) for eid in plan.eids]
        self.seen: Counter[str] = Counter()
        self.cache: dict[EidPrefix, MappingRecord] = {}
        self.asked: dict[int, tuple[IpAddress, float]] = {}
        self.tun = self._open_tun()
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.data = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # for sending, and to occupy the port
        self.data.bind((plan.rloc, DATA_PORT))
        self.control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.control.bind((plan.rloc, CONTROL_PORT))

    def _open_tun(self) -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        lines = [f"link set {DEVICE} up mtu 1400", *(f"addr add {eid} dev {DEVICE}" for eid in self.plan.eids)]
        lines += [f"route add {one} dev {DEVICE}" for one in self.plan.overlay]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=10)
        return tun

    def run(self) -> None:
        register_at = write_at = 0.0
        while True:
            now = time.monotonic()
            if now >= register_at:
                self._register()
                register_at = now + REGISTER_S
            if now >= write_at:
                fresh = Path(self.plan.counters + ".new")
                fresh.write_text(json.dumps(self.seen))
                fresh.rename(self.plan.counters)
                write_at = now + 0.1
            watched: list[Any] = [self.tun, self.raw, self.control]
            ready, _, _ = select.select(watched, [], [], 0.1)
            if self.raw in ready:
                self._on_arrival(self.raw.recv(65535))
            if self.tun in ready:
                self._on_packet(os.read(self.tun, 65535), now)
            if self.control in ready:
                self._on_control(*self.control.recvfrom(65535))

    # --- data ---

    def _on_arrival(self, packet: bytes) -> None:
        header = (packet[0] & 15) * 4
        udp = packet[header:]
        if int.from_bytes(udp[2:4], "big") != DATA_PORT:
            return
        self.seen["arrived"] += 1
        if (
            int.from_bytes(udp[12:16], "big") >> 8 == CONTROL_IID
        ):  # by an ordinary socket, whose checksums the link leaves open
            self.seen["control"] += 1
            self.seen["keys"] += bool(KEY.search(udp))
            return
        if why := wrong_with(packet):
            self.seen[f"outer_{why}"] += 1
            return
        inner = udp[16:]
        first = inner[: length_of(inner)]
        if len(inner) > len(first) or len(packet) > 1500:
            self.seen["undivided"] += 1
        if why := wrong_with(first):
            self.seen[f"inner_{why}"] += 1
            return
        self.seen["delivered"] += 1
        os.write(self.tun, first)

    def _on_packet(self, packet: bytes, now: float) -> None:
        version = packet[0] >> 4
        at, size = (16, 4) if version == 4 else (24, 16)
        if version not in (4, 6):
            return
        destination = ip_address(packet[at : at + size])
        record = next((one for prefix, one in self.cache.items() if prefix.contains(destination)), None)
        locators = (
            [locator for locator in record.locators if locator.is_reachable and locator.priority < 255]
            if record
            else []
        )
        places = [locator.ip for locator in sorted(locators, key=lambda one: one.priority) if locator.ip is not None]
        place = next((address for address in places if address.version == 4), None)
        if place is None:
            self._ask(destination, now)
            return
        self.data.sendto(bytes(8) + packet, (str(place), DATA_PORT))

    # --- control ---

    def _register(self) -> None:
        for eid in self.eids:
            record = MappingRecord.of(eid, (Locator(self.rloc, is_local=True),), ttl_min=10, is_authoritative=True)
            nonce = secrets.randbits(64)
            message = MapRegister(nonce, (record,), proxy_map_reply=False, want_map_notify=True)
            self._say(sign(message, self.key), (self.plan.map_server, CONTROL_PORT))

    def _ask(self, destination: IpAddress, now: float) -> None:
        own = next((eid.address for eid in self.eids if eid.family == destination.version), None)
        if own is None or any(one == destination and now < at + ASK_S for one, at in self.asked.values()):
            return
        nonce = secrets.randbits(64)
        self.asked[nonce] = destination, now
        request = MapRequest(nonce, own, (self.rloc,), (EidRecord.of(EidPrefix.host(destination)),))
        ecm = EncapsulatedControl(own, CONTROL_PORT, destination, CONTROL_PORT, request.encode(), has_checksum=False)
        self._say(ecm.encode(), (self.plan.map_server, CONTROL_PORT))

    def _on_control(self, octets: bytes, sender: Any) -> None:
        self.seen["keys"] += bool(KEY.search(octets))
        try:
            message = decode_control(octets)
            if isinstance(message, EncapsulatedControl):
                sender = None
                message = decode_control(message.message)
        except MalformedMessage as error:
            self.seen[error.counter] += 1
            return
        match message:
            case MapNotify():
                self.seen["notified"] += 1
            case MapReply(nonce=nonce, records=(record,)) if self.asked.pop(nonce, None) and record.locators:
                if (prefix := record.eid_prefix) is not None:
                    self.cache[prefix] = record
            case MapRequest(is_smr=True, is_probe=False):
                self.seen["smr"] += 1
                if isinstance(message.source_eid, type(self.rloc)):
                    self._ask(message.source_eid, time.monotonic())
            case MapRequest():
                self._answer(message, sender)

    def _answer(self, request: MapRequest, sender: Any) -> None:
        asked = request.records[0].eid_prefix
        own = next((eid for eid in self.eids if asked is not None and eid.covers(asked)), None)
        if own is None:
            return
        locator = Locator(self.rloc, is_local=True, is_probed=request.is_probe)
        record = MappingRecord.of(own, (locator,), ttl_min=10, is_authoritative=True)
        reply = MapReply(request.nonce, (record,), is_probe=request.is_probe)
        self._say(reply.encode(), sender or (str(request.itr_rlocs[0]), CONTROL_PORT))

    def _say(self, octets: bytes, where: Any) -> None:
        try:
            self.control.sendto(octets, where)
        except OSError as error:  # an ICMP error about an earlier one: the next attempt decides
            self.seen[f"refused_{error.errno}"] += 1


if __name__ == "__main__":
    ForeignNode(Plan(**json.loads(sys.argv[1]))).run()
