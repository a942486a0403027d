"""Two machines with one state directory: EID, key and xTR-ID are the same, and each counts its own nonces."""

from __future__ import annotations

from msgspec.structs import replace

from lispmob.node.node import MapServerPeer, NodeConfig
from lispmob.wire.address import EidPrefix
from tests.internet.world import HUB, KEY, Lab, NodeHost, build, ip, locator

EID = EidPrefix.parse("10.1.0.1/32")
CONFIG = NodeConfig(
    (EID,),
    (MapServerPeer(ip(HUB), KEY, sends_xtr_id=True),),
    (ip(HUB),),
    xtr_id=bytes([7]) * 16,
    register_interval_s=20.0,
)


def copies() -> tuple[Lab, NodeHost, NodeHost]:
    """The original, and a copy that began an hour later."""
    lab = build(nodes=1)
    lab.nodes[0].attach()
    original = NodeHost(lab.world, replace(CONFIG, first_nonce=1 << 20))
    original.attach(locator("203.0.113.1"))
    lab.world.run(5.0)
    copy = NodeHost(lab.world, replace(CONFIG, first_nonce=3_600 * 10**9))
    copy.attach(locator("203.0.113.2"))
    return lab, original, copy


def said(node: NodeHost, kind: str) -> list[str]:
    return [
        str(event.fields.get("text") or event.fields.get("shared")) for _, event in node.events if event.kind == kind
    ]


def test_the_one_that_began_later_has_it_and_both_know_of_each_other_within_a_minute() -> None:
    lab, original, copy = copies()

    lab.world.run(60.0)

    assert said(original, "eid-shared")[-1] == "the node at 203.0.113.2 has it, and keeps it"
    assert said(copy, "registered")[-1] == "the node at 203.0.113.1 wants it too, and is refused"


def test_the_one_that_is_refused_gets_in_under_another_xtr_id_once_the_other_has_gone() -> None:
    lab, original, copy = copies()
    lab.world.run(60.0)

    original.perform(original.node.on_config(replace(original.node.config, xtr_id=bytes([8]) * 16), lab.world.now))
    lab.world.run(60.0)
    refused = original.node.registrations[0].is_confirmed
    copy.is_asleep = True
    lab.world.run(120.0)

    assert not refused
    assert original.node.registrations[0].is_confirmed
