"""The real views of mappings on a real core, without a daemon around them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from lispmob.api.schema import RemoteLocator
from lispmob.api.server import ControlServer
from lispmob.api.upkeep.belief_schema import Believed, Correspondent, MappingSystemBelief
from lispmob.config.eid import OwnEid
from lispmob.config.node import MapCacheSection, NodeFile
from lispmob.control.node_config import NodeConfig
from lispmob.datapath.model import Traffic
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd.assembly import local_locators, node_config
from lispmob.lispd.local_mappings import LocalMappings
from lispmob.lispd.report.control_cost import ControlCost
from lispmob.lispd.views.mapping_feed import MappingFeed
from lispmob.lispd.views.mapping_views import MappingViews
from lispmob.node.node import Node, NodeEffect
from lispmob.protocol.effect import Event, MappingChanged, MappingWanted, SendControl
from lispmob.recording.recorder import Tape
from lispmob.wire.address import EidPrefix, IpAddress

OWN = EidPrefix.parse("10.0.0.1/32")
WLAN = Uplink(
    name="wlan0",
    ifindex=2,
    addresses=(ip_address("198.51.100.10"),),
    metric=100,
    mtu_bytes=1500,
    priority=1,
    weight=100,
)
LTE = Uplink(
    name="lte0", ifindex=3, addresses=(ip_address("203.0.113.20"),), metric=200, mtu_bytes=1420, priority=2, weight=50
)


class FakeLiveness:
    """Says that 7 packets went to 192.0.2.9, and that the path there is known."""

    def traffic(self) -> dict[IpAddress, Traffic]:
        return {ip_address("192.0.2.9"): Traffic(sent=7)}

    def path_mtus(self) -> dict[IpAddress, int]:
        return {ip_address("192.0.2.9"): 1400}


class FakeBelieving:
    """Says that one Map-Resolver and one peer hold what is true; a test may set other beliefs."""

    def __init__(self) -> None:
        rloc = RemoteLocator(address="198.51.100.10")
        self.believed = Believed(
            mapping_system=[
                MappingSystemBelief(
                    map_resolver="192.0.2.1", eid=str(OWN), answer="record", says=[rloc], truth=[rloc], rtt_ms=12.34
                )
            ],
            correspondents=[
                Correspondent(
                    rloc="203.0.113.5", eid="10.2.0.0/16", verdict="right", sends_to="198.51.100.10", ago_s=2.0
                )
            ],
        )

    async def ask(self, _parts: object) -> Believed:
        return self.believed


class MappingParts:
    """The part of a daemon that mappings need: a core and its configuration, and nothing that moves packets."""

    def __init__(self, limit: int = 1000) -> None:
        self.file = NodeFile(own_eids=(OwnEid(OWN),), map_cache=MapCacheSection(limit=limit, program=True))
        self.node = Node(self._config(), new_nonce=count(1).__next__, jitter=lambda: 0.5)
        self.path = Path("/etc/lispmob/lispd.conf")
        self.local_mappings = LocalMappings()
        self.engine = SimpleNamespace(liveness=FakeLiveness())
        self.tape: Tape | None = None
        self.believing = FakeBelieving()
        self.uplinks: tuple[Uplink, ...] = (WLAN, LTE)
        self.clock = 100.0
        self.cost = ControlCost(lambda: self.uplinks, 0.0)
        self.cost.on_sent(SendControl(bytes((0x30, 0, 0, 1)), WLAN.addresses[0], ifindex=WLAN.ifindex), 60.0)
        self.effects: list[NodeEffect] = []
        self.feed: MappingFeed | None = None
        self.perform(self.node.on_locators(local_locators(self.uplinks, self.file), self.clock))

    def _config(self) -> NodeConfig:
        return node_config(self.file, bytes(16))

    def now(self) -> float:
        return self.clock

    def follow(self, server: ControlServer) -> None:
        """Let this server publish the events."""
        self.feed = MappingFeed(cast(Any, self), server.publish_mapping, lambda: server.has_mapping_readers)
        self.feed.look()

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            if self.feed is not None:
                match effect:
                    case MappingChanged():
                        self.feed.on_changed(effect)
                    case MappingWanted():
                        self.feed.on_wanted(effect)
                    case Event():
                        self.feed.on_event(effect)

    def use(self, file: NodeFile) -> None:
        """Do what a reload of the configuration does."""
        self.file = file
        self.perform(self.node.on_config(self._config(), self.clock))
        self.perform(self.node.on_locators(local_locators(self.uplinks, self.file), self.clock))

    def use_local_mappings(self) -> None:
        self.use(self.local_mappings.onto(self.local_mappings.without(self.file)))
        if self.feed is not None:
            self.feed.look()

    def miss(self, eid: str) -> None:
        """Send a packet to an EID that no mapping covers."""
        self.perform(self.node.on_miss(OWN.address, ip_address(eid), 0, self.clock))


class FakeMappings(MappingViews):
    """The views of these parts."""

    def __init__(self) -> None:
        self.parts = MappingParts()
        super().__init__(cast(Any, self.parts))
