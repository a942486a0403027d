"""`python -m lispmob.hub.bench.measure_core`: the cost of the control plane alone, without sockets.

It prints one line of JSON: microseconds of processor time for each kind of message, and octets of memory for each
registration. `--registrations N` sets how many exist meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord

MESSAGES: Final = 5_000
SITES: Final = 10_000
FIRST_EID: Final = 10 << 24
FIRST_RLOC: Final = (100 << 24) + (64 << 16)
KEY: Final = Key(b"only-for-the-bench")
_HUB: Final = IPv4Address("198.51.100.1")
_ITRS: Final = 185 << 24
_PRIVATE: Final = IPv4Address("192.168.1.2")
FIRST_NONCE: Final = 1_700_000_000_000_000_000


def register(number: int, nonce: int) -> bytes:
    """A Map-Register as lispd sends it: one EID, one locator, an xTR-ID."""
    record = MappingRecord.of(
        EidPrefix.host(IPv4Address(FIRST_EID + number)), (Locator(IPv4Address(FIRST_RLOC + number)),), ttl_min=10
    )
    xtr_id, site_id = (number + 1).to_bytes(16), bytes(8)
    message = MapRegister(nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=xtr_id, site_id=site_id)
    return sign(message, KEY)


def request(eid: IPv4Address, itr: IPv4Address) -> bytes:
    """A Map-Request in an ECM."""
    asked = MapRequest(1, IPv4Address("10.255.255.254"), (itr,), (EidRecord.of(EidPrefix.host(eid)),))
    return EncapsulatedControl(IPv4Address("10.255.255.254"), 4342, eid, 4342, asked.encode()).encode()


def relayed(number: int, nonce: int) -> bytes:
    """A Map-Register from behind a NAT, through this hub's RTR."""
    record = MappingRecord.of(EidPrefix.host(IPv4Address(FIRST_EID + number)), (Locator(_HUB),), ttl_min=10)
    message = MapRegister(
        nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=(number + 1).to_bytes(16), site_id=bytes(8)
    )
    return EncapsulatedControl(_PRIVATE, 4342, _HUB, 4342, sign(message, KEY), to_rtr=True).encode()


def plane(*, is_rtr: bool = False, sites: int = 0) -> ControlPlane:
    """A hub with one wide site, or with many small ones."""
    wide = Site("all", (EidPrefix.parse("10.0.0.0/8"),), (KEY,), accept_more_specifics=True, max_prefixes=1 << 24)
    small = [
        Site(f"site {number}", (EidPrefix.host(IPv4Address(FIRST_EID + number)),), (KEY,)) for number in range(sites)
    ]
    one = ControlPlane(small or [wide], traversal=TraversalPolicy(is_rtr=is_rtr))
    one.on_addresses([_HUB])
    return one


def cpu_us(take: Callable[[Arrival], object], arrivals: Sequence[Arrival]) -> float:
    """Processor time for each of the messages."""
    started_at = time.process_time()
    for arrival in arrivals:
        take(arrival)
    return (time.process_time() - started_at) / len(arrivals) * 1e6


def resident_octets() -> int:
    """Of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def measure(registrations: int) -> dict[str, float]:
    """All figures."""
    figures: dict[str, float] = {}
    hub, now = plane(), 1.0
    every_s = 1e-3  # a thousand a second: below all limits of the hub

    def give(arrival: Arrival) -> object:
        nonlocal now
        now += every_s
        effects = hub.on_datagram(arrival, now)
        return effects, hub.wake_at()

    def from_node(number: int, message: bytes) -> Arrival:
        return Arrival(message, IPv4Address(FIRST_RLOC + number), 4342, _HUB)

    def asked_for(eid: int, number: int) -> Arrival:
        itr = IPv4Address(_ITRS + number)
        return Arrival(request(IPv4Address(eid), itr), itr, 4342, _HUB)

    # The generator's own objects must not count, so each message is made and discarded.
    gc.collect()
    before = resident_octets()
    for number in range(registrations):
        now += 1e-6
        hub.on_datagram(from_node(number, register(number, FIRST_NONCE + number)), now)
        hub.map_server.take_new_nonces() if number % 1000 == 0 else None
    hub.map_server.take_new_nonces()
    gc.collect()
    if registrations >= MESSAGES:
        figures["octets-per-registration"] = (resident_octets() - before) / registrations
    gc.freeze()
    refreshes = [from_node(n, register(n, FIRST_NONCE + (1 << 30) + n)) for n in range(min(MESSAGES, registrations))]
    new = [from_node(n, register(n, FIRST_NONCE + n)) for n in range(registrations, registrations + MESSAGES)]
    requests = [asked_for(FIRST_EID + n, n) for n in range(min(MESSAGES, registrations))]
    figures["refresh"] = cpu_us(give, refreshes)
    figures["new"] = cpu_us(give, new)
    figures["reply"] = cpu_us(give, requests)
    assert hub.counters["tx_map_reply"] == len(requests)
    assert hub.counters["tx_map_notify"] == registrations + len(refreshes) + len(new)

    hub = plane(sites=SITES)
    outside = [asked_for((198 << 24) + (51 << 16) + n, n) for n in range(MESSAGES)]
    figures["hole"] = cpu_us(give, outside)
    assert hub.counters["tx_map_reply"] == MESSAGES

    hub = plane(is_rtr=True)
    for number in range(10_000):
        give(from_node(number, relayed(number, FIRST_NONCE + number)))
    refreshes = [from_node(n, relayed(n, FIRST_NONCE + (1 << 30))) for n in range(MESSAGES)]
    figures["relayed"] = cpu_us(give, refreshes)
    assert hub.counters["tx_data_map_notify"] == 10_000 + MESSAGES
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lispmob.hub.bench.measure_core")
    parser.add_argument("--registrations", type=int, default=10_000)
    sys.stdout.write(json.dumps(measure(parser.parse_args().registrations)) + "\n")


if __name__ == "__main__":
    main()
