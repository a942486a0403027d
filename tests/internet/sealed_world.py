"""Nodes that seal, in the network in memory: they exchange keys as always, and what is sealed is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace

from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import PinnedKey
from lispmob.control.sealing.seal_config import SealTools
from lispmob.hub.rtr.relayed import RtrPeer
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.node.node import NodeEffect
from lispmob.node.sealed_node import SealedNode
from lispmob.protocol.effect import InstallSession, SendControl, SendKeepalive, SendSealed, UseMapVersion
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord
from tests.control.sealing.sealed_pair import Memory, drawing
from tests.crypto.support import KEY_WRAP, ciphers
from tests.internet.world import Lab, NodeHost, Packet, Weather, build, locator

REKEY_S = 120.0  # after that the datapath wants new keys with the next packet
CLOCK = count(1_700_000_000_000_000_000)  # of all nodes


@dataclass
class SealedHost(NodeHost):
    """A node with a static key. What it seals travels as data with a payload."""

    sessions: dict[int, InstallSession] = field(default_factory=dict)  # the latest one of each peer
    installed: dict[int, float] = field(default_factory=dict)  # when that was
    words: list[tuple[float, Packet]] = field(default_factory=list)  # sealed control messages that arrived
    map_version: int = 0  # in its sealed packets
    order: list[NodeEffect] = field(default_factory=list)  # the effects of the last call of the node

    def __post_init__(self) -> None:
        random = self.world.random
        private = bytes((self.config.eids[0].number & 0xFF,)) * 32
        static = KeyPair.of(private, ciphers())
        self.config = replace(self.config, seal="prefer", key_record=KeyRecord((static.public,)))
        version = count(100 * private[0] % 4000 + 1).__next__
        tools = SealTools(ciphers(), static, Memory(), drawing(private[0]), CLOCK.__next__, next_map_version=version)
        self.node: SealedNode = SealedNode(
            self.config,
            new_nonce=lambda: random.getrandbits(64),
            jitter=random.random,
            seal=tools,
            lisp_sec=self.lisp_sec,
        )
        self.world.hosts.append(self)

    @property
    def public_key(self) -> bytes:
        return self.node.sealing.public_key

    def talk_to(self, other: NodeHost) -> None:
        found = self.table.lookup(other.eid)
        peer = 0 if found is None else found[1].peer
        if peer and self.world.now > self.installed.get(peer, float("-inf")) + REKEY_S:
            self.perform(self.node.on_seal_wanted(peer, self.world.now))
        super().talk_to(other)

    def on_packet(self, packet: Packet) -> None:
        now = self.world.now
        if packet.data is None or not packet.payload:
            super().on_packet(packet)
        elif packet.data[1] == self.eid:
            self.words.append((now, packet))
            number = self.number_of(packet.data[0])
            session = self.sessions.get(number)
            if session is not None and packet.payload == b"\0":
                self.perform(self.node.on_seal_confirmed(number, session.local_index, now))
            elif session is not None:
                self.perform(self.node.on_sealed_announcement(number, 0, packet.payload, now))

    def number_of(self, eid: IpAddress) -> int:
        peers = self.node.sealing.entries.peers
        return next((peer.number for peer in peers if peer.known.prefix.contains(eid)), 0)

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        if len(effects) > 1:
            self.order = [effect for effect in effects if isinstance(effect, UseMapVersion | SendSealed | SendControl)]
        for effect in effects:
            match effect:
                case InstallSession(peer=peer):
                    self.sessions[peer] = effect
                    self.installed[peer] = self.world.now
                case UseMapVersion(number):
                    self.map_version = number
                case SendKeepalive(peer):
                    self.seal(peer, b"\0")
                case SendSealed(peer, payload, remote):
                    self.seal(peer, payload, remote)
                case _:
                    super().perform([effect])

    def seal(self, peer: int, payload: bytes, remote: IpAddress | None = None) -> None:
        """Seal as the datapath does, and send to `remote` or by the path of the peer's packets."""
        for _, entry in self.table:
            if entry.peer == peer and entry.locators and peer in self.sessions:
                to = remote or entry.locators[0].address
                uplink = self.node.locators.best(to.version)
                if uplink is not None:
                    data = self.eid, entry.prefix.address
                    self.world.internet.send(Packet(uplink.address, to, payload, data=data))
                return


def sealed(
    weather: Weather | None = None,
    seed: int = 0,
    nodes: int = 2,
    attached: Sequence[Sequence[LocalLocator]] = (),
    rtrs: Sequence[IpAddress] = (),
    **options: object,
) -> Lab:
    """A lab of nodes that have exchanged packets, and have sessions.

    `attached`: the uplinks of each node. `rtrs`: what the hubs name to those that ask.
    """
    lab = build(nodes=nodes, seed=seed, wrap=KEY_WRAP)
    for hub in lab.hubs:
        hub.plane.traversal.on_policy(TraversalPolicy(tuple(RtrPeer(rtr, None) for rtr in rtrs)))
    made: list[NodeHost] = []
    for node in lab.nodes:
        lab.world.hosts.remove(node)
        others = [other for other in lab.nodes if other is not node]
        keys = tuple(PinnedKey(other.config.eids[0], public_of(other.config.eids[0])) for other in others)
        config = replace(node.config, pinned_keys=keys, announcements=True, **options)
        made.append(SealedHost(lab.world, config, lisp_sec=node.lisp_sec))
        made[-1].node._registrations.nonces = node.node._registrations.nonces
    for number, node in enumerate(made, start=1):
        node.attach(*(attached[number - 1] if attached else (locator(f"198.51.100.{number}"),)))
    lab.world.run(1.0)
    lab.world.internet.weather = weather or Weather()
    done = Lab(lab.world, lab.hubs, tuple(made))
    done.chat(6.0)
    return done


def public_of(eid: EidPrefix) -> bytes:
    return KeyPair.of(bytes((eid.number & 0xFF,)) * 32, ciphers()).public
