"""Passes the datapath's reports to the node; pure."""

from __future__ import annotations

from collections.abc import Sequence

from lispmob.datapath import model
from lispmob.lispd import assembly
from lispmob.node.node import Node, NodeEffect
from lispmob.node.sealed_node import SealedNode


def hand_over(punt: model.Punt, node: Node, now: float) -> Sequence[NodeEffect]:
    """The effects of one report. Reports for the journal of handovers are not handled here."""
    match punt:
        case model.Miss(source, destination, instance_id, nonce):
            return node.on_miss(source, destination, instance_id, now, nonce)
        case model.ControlPacket():
            return node.on_data_control(assembly.data_control(punt), now)
        case model.Stalled(address):
            return node.on_stalled(address, now)
        case model.MtuLearned(locator, mtu_bytes, local, port, source):
            return node.on_too_big(local, locator, port, mtu_bytes, source, now)
        case model.LargeSent(locator, local, port):
            return node.on_large(local, locator, port, now)
        case model.Silent(locator, is_flowing, is_alone):
            return node.on_unanswered(locator, is_flowing, now, is_alone=is_alone)
        case model.HeardAgain(locator, local):
            return node.on_heard([(local, locator)], now)
        case model.Echoed(locator, local):
            return node.on_echoed(local, locator, now)
        case model.StatusBits(source, instance_id, rloc, bits, width):
            return node.on_status_bits(source, instance_id, rloc, bits, width, now)
        case model.SourceDoubted(source, instance_id, _):
            return node.on_source_doubted(source, instance_id, now)
        case model.Refuted(source, instance_id):
            return node.on_heard_from(source, instance_id, now)
        case model.ClearHeard(peer) if isinstance(node, SealedNode):
            return node.on_clear_heard(peer, now)
        case model.SealWanted(peer) if isinstance(node, SealedNode):
            return node.on_seal_wanted(peer, now)
        case model.SealConfirmed(peer, local_index) if isinstance(node, SealedNode):
            return node.on_seal_confirmed(peer, local_index, now)
        case model.SealedFrom(_, outer_source, _, local) if isinstance(node, SealedNode):
            return node.on_sealed_from(outer_source, local, now)
        case model.Announced(peer, _, instance_id, payload) if isinstance(node, SealedNode):
            return node.on_sealed_announcement(peer, instance_id, payload, now)
        case model.PeerBehind(peer) if isinstance(node, SealedNode):
            return node.on_peer_behind(peer, now)
        case model.PeerAhead(_, source, instance_id) if isinstance(node, SealedNode):
            return node.on_peer_ahead(source, instance_id, now)
        case model.PeerBehind() | model.PeerAhead():
            return []  # of a session that was not made here
        case model.ClearHeard() | model.SealWanted() | model.SealConfirmed() | model.SealedFrom() | model.Announced():
            return []  # of a session that was not made here
        case model.TrafficResumed() | model.UnregisteredSource():
            return []
