"""What the datapath tells, as inputs of the core; pure."""

from __future__ import annotations

from lispmob.control.effect import Event
from lispmob.control.node import Node, NodeEffect
from lispmob.datapath import model
from lispmob.service import assembly


def tell(node: Node, punt: model.Punt, now: float) -> list[NodeEffect]:
    """Give one report to the node; what it wants done about it."""
    match punt:
        case model.Miss(source, destination, instance_id):
            return node.on_miss(source, destination, instance_id, now)
        case model.ControlPacket():
            return node.on_data_control(assembly.data_control(punt), now)
        case model.Stalled(address):
            return node.on_stalled(address, now)
        case model.MtuLearned(locator, mtu_bytes):
            return [Event("mtu-learned", {"rloc": str(locator), "mtu_bytes": mtu_bytes})]
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
        case model.TrafficResumed() | model.Stranger():
            return []
