"""A fake daemon: a Backend with fixed answers, which a thread of its own serves on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from lispmob.api.backend import ApiError
from lispmob.api.mapping.backend import StaticLocator
from lispmob.api.schema import (
    DatabaseEntry,
    Datapath,
    EidStatus,
    Event,
    Handover,
    LocalLocator,
    Lookup,
    MapCacheEntry,
    NetCheck,
    Problem,
    Registration,
    Reloaded,
    RemoteLocator,
    Routing,
    Status,
    Step,
    Uplink,
)
from lispmob.api.schema import (
    Path as PathView,
)
from lispmob.api.server import ControlServer
from lispmob.api.turns import Pages
from lispmob.errors import ConfigError
from lispmob.lispd.views.upkeep_views import UpkeepViews
from lispmob.wire.address import EidPrefix, IpAddress
from tests.api.fake_mappings import FakeMappings
from tests.api.fake_peers import FakePeers
from tests.api.fake_seal import FakeSeal
from tests.api.fake_steering import FakeSteering

WLAN = Uplink(name="wlan0", ifindex=3, addresses=["198.51.100.23"], priority=1, weight=100, mtu_bytes=1500, type="wifi")
WWAN = Uplink(
    name="wwan0",
    ifindex=4,
    addresses=["203.0.113.80", "2001:db8:4::80"],
    priority=10,
    weight=50,
    mtu_bytes=1420,
    is_used=False,
    note="not used: rule 'wwan*'",
)
LEARNED = MapCacheEntry(
    prefix="192.0.2.64/28",
    source="reply",
    action="no-action",
    locators=[
        RemoteLocator(address="203.0.113.5", rtt_ms=12.34),
        RemoteLocator(address="2001:db8:5::5", priority=2, weight=50, is_reachable=False),
    ],
    age_s=61.0,
    expires_in_s=539.0,
    unused_s=0.25,
)
NEGATIVE = MapCacheEntry(prefix="[7]10.0.0.0/8", source="static", action="drop", age_s=90000.0)
MOVE = Handover(
    id=4,
    started_at="2026-01-31T12:00:00.123Z",
    reasons=["wlan0: address 198.51.100.23 appeared", "wwan0: carrier lost"],
    steps=[
        Step(at_ms=0.0, what="uplink", detail="wlan0 198.51.100.23"),
        Step(at_ms=0.84, what="register", detail="198.51.100.1"),
        Step(at_ms=0.91, what="smr", detail="203.0.113.5"),
        Step(at_ms=23.4, what="notify", detail="198.51.100.1"),
        Step(at_ms=31.05, what="first-packet-in"),
    ],
    moved_after_ms=0.4,
    gap_out_ms=1.25,
    gap_in_ms=31.0,
)
PATHS = [
    PathView(
        local="198.51.100.23",
        interface="wlan0",
        remote="203.0.113.5",
        state="up",
        why="answered",
        since_s=75.0,
        rtt_ms=12.34,
        rtt_min_ms=10.0,
        jitter_ms=0.75,
        loss=0.015625,
        probes=64,
        heard_s=0.5,
    ),
    PathView(local="203.0.113.80", interface="wwan0", remote="203.0.113.5", state="down", why="no answer", since_s=3.0),
]
MINE = [LocalLocator(address="198.51.100.23", interface="wlan0", priority=1, weight=100)]


class FakeBackend:
    """Records its calls in `calls`. With `broken`, the next status raises as a programming error would."""

    def __init__(self) -> None:
        self.steering = FakeSteering()
        self.mappings = FakeMappings()
        self.seals = FakeSeal()
        self.peers = FakePeers()
        self.parts = self.mappings.parts
        self.upkeep = UpkeepViews(cast(Any, self.parts))
        self.calls: list[tuple[object, ...]] = []
        self.is_broken = False
        self.told_state: Literal["starting", "partly-registered", "registered"] = "partly-registered"
        self.verdict: Literal["working", "degraded", "not-working"] = "working"
        self.headline = "working"
        self.problems: list[Problem] = []
        self.entries = [LEARNED, NEGATIVE]
        self.reload_s = 0.0
        self.reload_problem: str | None = None

    def version(self) -> str:
        return "0.1.0"

    def status(self) -> Status:
        if self.is_broken:
            raise RuntimeError("a bug")
        return Status(
            state=self.told_state,
            version="0.1.0",
            pid=4711,
            started_at="2026-01-31T10:00:00Z",
            uptime_s=7320.0,
            eids=[
                EidStatus(
                    prefix="192.0.2.7/32",
                    registrations=[
                        Registration(
                            map_server="198.51.100.1",
                            state="registered",
                            since="2026-01-31T10:00:01Z",
                            last_notify="2026-01-31T12:01:59Z",
                            next_in_s=58.6,
                            rtt_ms=12.34,
                        ),
                        Registration(map_server="198.51.100.2", state="failed", problem="authentication failed"),
                    ],
                )
            ],
            uplinks=[WLAN, WWAN],
            locators=MINE,
            locator_set_version=9,
            routing=Routing(
                mode="split", fallback="native", tun="lmn0", mtu_bytes=1444, overlay_prefixes=["192.0.2.0/24"]
            ),
            datapath=Datapath(
                tier="tun",
                why="bpf(2) refused (EPERM)",
                marks="devices",
                marks_why="bpf(2) refused (EPERM)",
                packets_out=1,
                packets_in=20,
                octets_out=999,
                octets_in=123456,
                drops=3,
            ),
            map_cache_size=2,
            map_cache_limit=10000,
            last_handover=MOVE,
            verdict=self.verdict,
            headline=self.headline,
            problems=self.problems,
        )

    def uplinks(self) -> Sequence[Uplink]:
        return [WLAN, WWAN]

    def netcheck(self) -> Sequence[NetCheck]:
        return [
            NetCheck(
                uplink="wlan0",
                address="192.168.1.2",
                state="relayed",
                dialect="e19",
                seen_address="203.0.113.200",
                seen_port=4342,
                has_nat=True,
                mapping="endpoint-independent",
                filtering="address-and-port-dependent",
                lifetime_at_least_s=30.0,
                lifetime_below_s=60.0,
                keepalive_s=22.5,
                rtr="198.51.100.77",
                rtr_rtt_ms=23.4,
                passes_zero_checksum=True,
            ),
            NetCheck(uplink="wwan0", address="198.51.100.23", state="probing"),
        ]

    def map_cache(self) -> Pages:
        halves: tuple[list[MapCacheEntry], ...] = self.entries[:1], [], self.entries[1:]
        return Pages(iter(halves), {"limit": 10000})

    def database(self) -> Sequence[DatabaseEntry]:
        return [DatabaseEntry(prefix="192.0.2.7/32", locators=MINE, ttl_min=10, map_version=9)]

    def paths(self) -> Sequence[PathView]:
        return PATHS

    def handovers(self) -> Sequence[Handover]:
        return [MOVE]

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return {"control": {"rx_auth": 12, "rx_short": 0}, "datapath": {"data_ttl": 0}}

    def lookup(self, eid: IpAddress, instance_id: int) -> Lookup:
        self.calls.append(("lookup", str(eid), instance_id))
        if str(eid).startswith("192.0.2."):
            return Lookup(eid=str(eid), verdict="encapsulate", entry=LEARNED, locator="203.0.113.5")
        return Lookup(eid=str(eid), verdict="ask")

    def map_cache_add(
        self, prefix: EidPrefix, locators: Sequence[StaticLocator], action: Literal["drop", "native"]
    ) -> None:
        if str(prefix) == "192.0.2.7/32":
            raise ApiError("refused", "192.0.2.7/32 is our own")
        self.calls.append(("add", str(prefix), [(str(x.address), x.priority, x.weight) for x in locators], action))

    def map_cache_delete(self, prefix: EidPrefix) -> bool:
        self.calls.append(("delete", str(prefix)))
        return str(prefix) == "192.0.2.64/28"

    async def map_cache_flush(self) -> int:
        self.calls.append(("flush",))
        return 1

    def nudge(self) -> bool:
        self.calls.append(("nudge",))
        return True

    async def reload(self) -> Reloaded:
        await asyncio.sleep(self.reload_s)
        self.calls.append(("reload",))
        if self.reload_problem is not None:
            raise ConfigError(self.reload_problem)
        return Reloaded(changed=["uplinks", "control.socket"], needs_restart=["control.socket"])


class Served:
    """A FakeBackend behind its socket, in a thread with an event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = FakeBackend()
        self._loop = asyncio.new_event_loop()
        self.problems: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self.problems.append(str(context)))
        self.server = ControlServer(self.backend, path, group="no-such-group-here")
        self.backend.parts.follow(self.server)

    def publish(self, *events: Event) -> None:
        """Publish in the server's loop, and return when that is done."""

        def all_of_them() -> None:
            for event in events:
                self.server.publish(event)

        self.run(all_of_them)

    def run(self, call: Callable[[], object]) -> None:
        """Call in the server's loop, and wait until the call has returned."""

        async def inside() -> None:
            call()

        asyncio.run_coroutine_threadsafe(inside(), self._loop).result(10)

    def start(self) -> None:
        """Start the thread, and wait until it serves."""
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(10)

    def stop(self) -> None:
        """Close the server; fails when that takes longer than the server's own timeout."""
        asyncio.run_coroutine_threadsafe(self.server.close(), self._loop).result(10)

    def end(self) -> None:
        """Close the server, and end the thread."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def served(path: Path) -> Iterator[Served]:
    """A served FakeBackend. The test fails when anything raised inside the loop."""
    one = Served(path)
    one.start()
    try:
        yield one
    finally:
        one.end()
    assert one.problems == []
