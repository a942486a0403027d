"""A host with a TUN device that has a lane for each uplink: the tests ask by which lane a packet leaves.

Its namespace is the laboratory's (`lispmob/lab/`). There is no network around it, and no lispd in it: the tests are
about what the kernel's rules and the program in the device do with a packet until it is read from a lane.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

from lispmob.datapath.device.lanes import DEFAULT, UNUSABLE, DeviceLanes, Lane, Lanes
from lispmob.lab.namespace import Namespace
from lispmob.mh.chain_text import Arrival, Hooks

EID = {4: "10.1.0.1", 6: "2001:db8:e::1"}
SITE = {4: "10.1.0.0/24", 6: "2001:db8:e::/63"}
PEER = {4: "10.2.0.1", 6: "2001:db8:e:2::1"}
OVERLAY = {4: "10.0.0.0/8", 6: "2001:db8:e::/48"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass
class LaneHost:
    """A thread collects what arrives in each lane, as (destination port, payload)."""

    namespace: Namespace
    lanes: Lanes
    got: defaultdict[int, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: bool = False

    def run(self, command: str) -> str:
        return self.namespace.run("sh", "-ec", command)

    def hooks(self) -> Hooks:
        """The chains of the kernel into which ours are hooked."""
        lanes = self.lanes.lanes
        arrivals = tuple(Arrival(lane.ifindex, lane.queue) for lane in lanes if lane.ifindex > 0)
        sorts_by_route = isinstance(self.lanes, DeviceLanes)
        sources = tuple(ip_network(prefix) for prefix in SITE.values()) if sorts_by_route else ()
        return Hooks(self.lanes.tun.name, arrivals, sources)

    def route_by_mark(self, mask: int = 0xFFFF) -> None:
        """Install what sorts packets where each lane is a device of its own: a table and a rule for each mark."""
        for family in (4, 6):
            for table, lane in enumerate(self.lanes.lanes, start=900):
                mark = {DEFAULT: f"fwmark 0/{mask:#x}", UNUSABLE: ""}.get(
                    lane.ifindex, f"fwmark {lane.ifindex}/{mask:#x}"
                )
                priority = 101 if lane.ifindex == UNUSABLE else 100
                self.run(f"ip -{family} route add {OVERLAY[family]} dev {lane.device} table {table}")
                self.run(f"ip -{family} rule add priority {priority} from {SITE[family]} {mark} lookup {table}")

    def open_socket(self, family: int = 4, port: int = 0) -> socket.socket:
        made = self.namespace.socket(FAMILIES[family], socket.SOCK_DGRAM)
        made.bind((EID[family], port))
        return made

    def lane_of(
        self, destination: str, port: int = 9, *, prepare: Callable[[socket.socket], None] | None = None
    ) -> int | None:
        """The lane (ifindex) that one packet of a new flow arrives in; None: it is lost."""
        with self.open_socket(6 if ":" in destination else 4) as sender:
            if prepare is not None:
                prepare(sender)
            token = os.urandom(8)
            with contextlib.suppress(PermissionError):  # sendto() fails so when OUTPUT drops
                sender.sendto(token, (destination, port))
            return self.find(token)

    def find(self, token: bytes, wait_s: float = 1.0) -> int | None:
        """The lane in which the token arrived."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with self._lock:
                for ifindex, packets in self.got.items():
                    if any(payload == token for _, payload in packets):
                        return ifindex
            time.sleep(0.002)
        return None

    def inject(self, lane: int, packet: bytes) -> None:
        """Let a packet come in from the uplink of this lane."""
        os.write(next(one.into for one in self.lanes.lanes if one.ifindex == lane), packet)

    def collect(self) -> None:
        while not self._is_over:
            with contextlib.suppress(OSError, ValueError):  # a device of a lane was closed meanwhile
                ready, _, _ = select.select([one.fd for one in self.lanes.readable], [], [], 0.05)
                for lane in self.lanes.readable:  # read again each time, because lanes change
                    if lane.fd in ready:
                        self._read(lane)

    def _read(self, lane: Lane) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            for _ in range(256):
                packet = os.read(lane.fd, 65536)
                header = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
                (port,) = struct.unpack_from("!H", packet, header + 2)
                with self._lock:
                    self.got[lane.ifindex].append((port, packet[header + 8 :]))

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        thread = threading.Thread(target=self.collect, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over = True
            thread.join(5)


def prepare(namespace: Namespace, device: str = "lmn0") -> None:
    """Set the EIDs on the device, and the overlay behind it."""
    namespace.run(
        "sh",
        "-ec",
        f"ip addr add {EID[4]}/32 dev {device}; ip -6 addr add {EID[6]}/128 dev {device} nodad; "
        f"ip route add {OVERLAY[4]} dev {device} src {EID[4]}; ip -6 route add {OVERLAY[6]} dev {device} src {EID[6]}",
    )


def udp(source: str, source_port: int, destination: str, destination_port: int, payload: bytes) -> bytes:
    """An IPv4 packet with UDP inside, without a UDP checksum."""
    length = 28 + len(payload)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    bare = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", bare))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = bare[:10] + struct.pack("!H", checksum) + bare[12:]
    return header + struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload
