"""The node and the hub as state machines: any input in any order, without an exception, within their bounds."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lispmob.control.lookups.resolver import MAX_CLAIMS, MAX_LOOKUPS
from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.map_server.effect import Arrival
from lispmob.natt.arrival import DataControl
from lispmob.node.node import Datagram, LocalLocator, MapServerPeer, Node, NodeConfig
from lispmob.protocol.effect import SendControl, UsePrepared
from lispmob.wire.address import IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import EID, KEY, LTE, SERVER, WIFI, ip, prefix, request_in
from tests.fuzz import corpus
from tests.hub.exchange import HUB, plane, site

PAYLOADS = corpus.control_payloads()
EXAMPLES = max(5, int(os.environ.get("FUZZ_RUNS", "20000")) // 2000)
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    derandomize="FUZZ_RUNS" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

addresses = st.sampled_from(["192.0.2.1", "203.0.113.5", "66.66.66.66", "10.2.0.7", "198.51.100.10", "127.0.0.1"]).map(
    ip
)
eids = st.integers(0, 60).map(lambda number: ip("10.2.0.1") + number)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A captured message, complete, changed or cut; or random octets."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=120))
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    octets = bytearray(chance.choice(PAYLOADS))
    for _ in range(draw(st.integers(0, 3))):
        if octets:
            octets[chance.randrange(len(octets))] = chance.randrange(256)
    return bytes(octets[: chance.randrange(len(octets) + 1)] if draw(st.integers(0, 4)) == 0 else octets)


class AnyNode(RuleBasedStateMachine):
    """A node that gets everything that peers, its network and its user can cause."""

    def __init__(self) -> None:
        super().__init__()
        config = NodeConfig((EID,), (MapServerPeer(SERVER, KEY),), (SERVER,), probing=ProbeConfig(), map_cache_limit=50)
        self.node = Node(config, new_nonce=count(1).__next__, jitter=lambda: 0.5, prepares=True)
        self.now = 0.0
        self.sent: list[SendControl] = []
        self.prepared: list[int] = []  # the nonces of the Map-Requests that the datapath may send
        self._take(self.node.on_locators([WIFI], 0.0))

    def _take(self, effects: Sequence[object]) -> None:
        self.sent = [*self.sent, *(effect for effect in effects if isinstance(effect, SendControl))][-20:]
        for use in effects:
            if isinstance(use, UsePrepared):
                kept = [] if use.replaces else self.prepared
                self.prepared = [*kept, *(request.nonce for request in use.requests)]

    @rule(payload=payloads(), source=addresses)
    def arrive(self, payload: bytes, source: IpAddress) -> None:
        self._take([*self.node.on_datagram(Datagram(payload, source, 4342, WIFI.address, 2), self.now)])

    @rule(payload=payloads(), source=addresses, outer=addresses, port=st.sampled_from([4341, 4342, 0]))
    def arrive_in_data(self, payload: bytes, source: IpAddress, outer: IpAddress, port: int) -> None:
        own = WIFI.address
        arrival = DataControl(payload, source, port, own, 4342, outer, port, own, 2)
        self._take([*self.node.on_data_control(arrival, self.now)])

    @rule(eid=eids)
    def miss(self, eid: IpAddress) -> None:
        self._take([*self.node.on_miss(EID.address, eid, 0, self.now)])

    @rule(eid=eids)
    def miss_that_the_datapath_asks_about(self, eid: IpAddress) -> None:
        nonce = self.prepared.pop(0) if self.prepared else 0
        self._take([*self.node.on_miss(EID.address, eid, 0, self.now, nonce)])

    @rule(source=eids)
    def doubt(self, source: IpAddress) -> None:
        self._take([*self.node.on_source_doubted(source, 0, self.now)])

    @rule(bits=st.integers(1, 32), is_positive=st.booleans(), source=addresses, ttl_min=st.sampled_from([0, 1, 1440]))
    def answer(self, bits: int, is_positive: bool, source: IpAddress, ttl_min: int) -> None:
        asked = [effect for effect in self.sent if effect.payload and effect.payload[0] >> 4 == 8]
        if not asked:
            return
        request = request_in(asked[-1])
        about = request.records[0].eid_prefix
        assert about is not None
        wide = prefix(f"{about.address}/{bits}")
        record = MappingRecord.of(wide, (Locator(ip("203.0.113.5")),) if is_positive else (), ttl_min=ttl_min)
        reply = MapReply(request.nonce, (record,)).encode()
        self._take([*self.node.on_datagram(Datagram(reply, source, 4342, WIFI.address, 2), self.now)])

    @rule(eid=eids)
    def use(self, eid: IpAddress) -> None:
        entry = self.node.map_cache.lookup(eid)
        if entry is not None:
            self._take([*self.node.on_used([entry.prefix], self.now)])

    @rule(own=st.lists(st.sampled_from([WIFI, LTE]), max_size=2, unique=True))
    def move(self, own: list[LocalLocator]) -> None:
        self._take([*self.node.on_locators(own, self.now)])

    @rule(remote=addresses, is_flowing=st.booleans())
    def be_silent(self, remote: IpAddress, is_flowing: bool) -> None:
        self._take([*self.node.on_unanswered(remote, is_flowing, self.now)])

    @rule()
    def sleep(self) -> None:
        self._take([*self.node.on_slept(self.now)])

    @rule(pause=st.sampled_from([0.01, 0.5, 2.0, 30.0, 900.0]))
    def wait(self, pause: float) -> None:
        end = self.now + pause
        for _ in range(400):
            at = self.node.wake_at()
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self._take([*self.node.on_timer(self.now)])
        self.now = end

    @invariant()
    def keeps_its_bounds(self) -> None:
        assert len(self.node.lookups) <= MAX_LOOKUPS + MAX_CLAIMS
        assert len(self.node.map_cache) <= 50
        assert not any(entry.prefix.mask_len < 8 for entry in self.node.map_cache)
        assert not any(entry.prefix.covers(EID) for entry in self.node.map_cache)


class AnyHub(RuleBasedStateMachine):
    """A hub that gets everything, from everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = plane(site("10.1.0.0/16"), site("10.2.0.0/16", name="other"))
        self.now = 0.0

    @rule(payload=payloads(), source=addresses, port=st.sampled_from([4341, 4342, 50000]))
    def arrive(self, payload: bytes, source: IpAddress, port: int) -> None:
        self.hub.on_datagram(Arrival(payload, source, port, HUB), self.now)

    @rule(pause=st.sampled_from([0.01, 1.0, 60.0, 900.0]))
    def wait(self, pause: float) -> None:
        self.now += pause
        self.hub.on_timer(self.now)

    @invariant()
    def holds_nothing_that_no_key_of_its_sites_has_signed(self) -> None:
        assert len(self.hub.map_server.registrations) == 0


def test_a_node_stands_whatever_happens_to_it() -> None:
    run_state_machine_as_test(AnyNode, settings=SETTINGS)


def test_a_hub_stands_whatever_arrives() -> None:
    run_state_machine_as_test(AnyHub, settings=SETTINGS)
