"""Packets without a UDP checksum are sent where they are known to arrive, and nowhere else."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from lispmob.natt.checksum_probe import ANSWER_S, TRIES, ChecksumProbe
from lispmob.protocol.effect import SendControl
from lispmob.wire.map_reply import MapReply
from tests.internet.nat import NatBox
from tests.internet.network import World, ip
from tests.natt.test_every_nat import behind
from tests.natt.world import RTR, RTR2, MapServerHost, NodeHost, RtrHost, locator


def bare(node: NodeHost, since: float = 0.0) -> list[SendControl]:
    """The probes without a checksum that a node has sent."""
    sent = [one for at, one in node.sent if at >= since and isinstance(one, SendControl)]
    return [effect for effect in sent if not effect.has_checksum]


def test_the_datapath_may_leave_checksums_out_once_the_rtr_has_answered_to_a_probe_without() -> None:
    world, _, _, _, node = behind()
    world.run_until(lambda: node.state == "relayed", within_s=1.0)
    assert not node.passes_zero

    world.run_until(lambda: node.passes_zero, within_s=0.05)

    assert len(bare(node)) == 1


def test_behind_a_nat_that_drops_packets_without_a_checksum_all_have_one() -> None:
    world, _, _, _, node = behind(passes_zero=False)

    world.run(600.0)

    assert node.state == "relayed"
    assert not node.passes_zero
    assert len(bare(node)) == TRIES


def test_a_lost_probe_is_repeated() -> None:
    world, _, _, nat, node = behind(passes_zero=False)
    world.run(1.0)
    nat.passes_zero = True

    world.run(2 * ANSWER_S)

    assert node.passes_zero


def test_when_packets_go_unanswered_and_those_without_a_checksum_do_not_get_there_any_more_all_have_one_again() -> None:
    world, _, _, nat, node = behind()
    world.run(1.0)
    assert node.passes_zero
    nat.passes_zero = False

    node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))
    world.run(TRIES * ANSWER_S + 0.1)

    assert node.state == "relayed"
    assert not node.passes_zero


def test_a_silence_of_the_peers_does_not_change_how_packets_are_sent() -> None:
    world, _, _, _, node = behind()
    world.run(1.0)
    plans = []

    for _ in range(100):
        node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))
        plans.append(node.passes_zero)
        world.run(0.1)

    assert all(plans)


def test_another_rtr_is_asked_before_it_gets_packets_without_a_checksum() -> None:
    world = World()
    MapServerHost(world, (RTR, RTR2))
    rtrs = {RTR: RtrHost(world), RTR2: RtrHost(world, RTR2)}
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    world.run(1.0)
    first = node.traversal.machines[0].rtrs[0]
    assert node.passes_zero
    start = world.now
    rtrs[first].is_up = False

    def is_elsewhere() -> bool:
        return node.state == "relayed" and node.traversal.machines[0].rtrs[0] != first

    world.run_until(is_elsewhere, within_s=120.0)
    was_careful = not node.passes_zero
    world.run(0.1)

    assert was_careful
    assert node.passes_zero
    assert {effect.destination for effect in bare(node, start)} <= {RTR, RTR2}


def test_over_ipv6_nothing_is_asked_since_every_packet_has_a_checksum() -> None:
    probe = ChecksumProbe(locator("2001:db8::7"), new_nonce=count().__next__)

    assert probe.on_rtr(ip("2001:db8::1"), 0.0) == []
    assert probe.wake_at() is None
    assert not probe.passes_to(ip("2001:db8::1"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["rtr", "other-rtr", "timer", "answer", "old-answer", "forgery", "doubt", "stop"]),
            st.floats(0.0, 3.0),
        ),
        max_size=60,
    )
)
def test_only_an_answer_from_the_rtr_in_use_proves_anything(steps: list[tuple[str, float]]) -> None:
    probe = ChecksumProbe(locator(), new_nonce=count(1).__next__)
    now, rtr, proven, old = 0.0, None, False, [0]
    asked: dict[int, float] = {}
    for what, pause_s in steps:
        now += pause_s
        effects = []
        match what:
            case "rtr" | "other-rtr":
                wanted = RTR if what == "rtr" else RTR2
                if wanted != rtr:
                    old += asked
                    asked, proven, rtr = {}, False, wanted
                effects = probe.on_rtr(wanted, now)
            case "timer":
                effects = probe.on_timer(now)
            case "doubt":
                effects = probe.on_doubt(now)
            case "answer" if asked:
                if probe.on_map_reply(MapReply(max(asked), (), is_probe=True)):
                    proven = True
            case "old-answer":
                assert not probe.on_map_reply(MapReply(old[-1], (), is_probe=True))
            case "forgery" if asked:
                assert not probe.on_map_reply(MapReply(max(asked), ()))
            case "stop":
                old += asked
                asked, proven, rtr = {}, False, None
                probe.stop()
        for effect in effects:
            if isinstance(effect, SendControl):
                assert not effect.has_checksum
                assert effect.destination == rtr
                asked[int.from_bytes(effect.payload[4:12])] = now
        if rtr is not None and probe.passes_to(rtr):
            assert proven
        assert not probe.passes_to(RTR2 if rtr == RTR else RTR)
