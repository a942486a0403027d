"""A node behind a NAT that subscribes: where it asks from, what comes back by the same path, and for how long."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
from msgspec.structs import replace

from lispmob.control.itr_security import ItrSecurity, LispSecTools
from lispmob.control.node_config import NodeConfig
from lispmob.control.sealing.key_lookups import Outside
from lispmob.control.subscriptions import RENEW_S, UNWANTED_S, State, Subscriptions
from lispmob.hub.map_server.effect import Arrival
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count, MachineEffect, MappingLearned, SendControl
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.servers import MapServerPeer, ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.hub.exchange import HUB, KEY, eid, sent
from tests.hub.publishing.subscriber import MOVER, Subscriber, hub, mover
from tests.internet.world import ip

pytestmark = needs_libcrypto

INSIDE, NAT, PORT = ip("192.168.1.7"), ip("198.18.0.9"), 40000
OUTSIDE = Outside(INSIDE, 2, NAT, PORT, HUB)
OWN = eid("10.1.0.1/32")
XTR_ID = b"subscriber 00001"
GUARD = Guard((OWN,), frozenset({INSIDE}), frozenset({HUB}))


class Node:
    """The subscriptions of one node, with the hub on the other side of its NAT."""

    def __init__(self) -> None:
        self.plane = hub()
        self.plane.on_datagram(mover("203.0.113.5"), 0.0)
        Subscriber(self.plane, address=str(NAT)).register()
        secret = ResolverSecret(lisp_sec_auth.resolver_secret(KEY.secret), KEY.key_id)
        keys = (bytes([number]) * 16 for number in count(1))
        security = ItrSecurity("require", {HUB: secret}, LispSecTools(KEY_WRAP, keys.__next__))
        security._shown.update(security._marks.values())  # the hub has answered with LISP-SEC before
        servers = (MapServerPeer(HUB, KEY, sends_xtr_id=True, has_lisp_sec=True),)
        config = NodeConfig((OWN,), servers, (HUB,), publications=True, lisp_sec="require", xtr_id=XTR_ID)
        self.machine = Subscriptions(config, security, new_nonce=count(1 << 40).__next__)
        self.published: list[MappingLearned] = []

    def carry(self, effects: list[MachineEffect], now: float) -> list[SendControl]:
        """Carry messages to the hub through the NAT, and its answers back; returns what the hub has sent."""
        answers: list[SendControl] = []
        for out in (effect for effect in effects if isinstance(effect, SendControl)):
            assert (out.source, out.destination) == (INSIDE, HUB)
            answers += sent(self.plane.on_datagram(Arrival(out.payload, NAT, PORT, HUB), now))
        for answer in answers:
            self.carry(self.hear(answer, now), now)
        return answers

    def hear(self, answer: SendControl, now: float) -> list[MachineEffect]:
        datagram = Datagram(answer.payload, HUB, 4342, INSIDE, 2)
        effects = self.machine.on_map_notify(MapNotify.decode(answer.payload), answer.payload, datagram, GUARD, now)
        assert effects is not None
        self.published += [effect for effect in effects if isinstance(effect, MappingLearned)]
        return effects


def subscribed() -> Node:
    node = Node()
    assert node.machine.on_outside(OUTSIDE, 0.5) == []
    node.carry(node.machine.on_wanted(eid(MOVER), 1.0), 1.0)
    return node


def test_it_asks_from_its_control_port_and_names_the_address_that_the_nat_hides() -> None:
    node = Node()
    node.machine.on_outside(OUTSIDE, 0.5)

    (out,) = sent(node.machine.on_wanted(eid(MOVER), 1.0))

    request = MapRequest.decode(EncapsulatedControl.decode(out.payload).message)
    assert (out.source, out.ifindex, out.destination) == (INSIDE, 2, HUB)
    assert request.itr_rlocs == (INSIDE,)
    assert request.records[0].wants_notify


def test_confirmation_and_publication_come_back_to_where_the_nat_has_the_port() -> None:
    node = subscribed()
    (subscription,) = node.machine.subscriptions
    assert subscription.state is State.SUBSCRIBED

    (out,) = [one for one in sent(node.plane.on_datagram(mover("203.0.113.77"), 5.0)) if one.destination == NAT]
    effects = node.hear(out, 5.0)

    assert (out.port, out.source) == (PORT, HUB)
    assert Count("rx_publication") in effects
    assert [str(one.ip) for one in node.published[-1].records[0].locators] == ["203.0.113.77"]
    assert node.published[-1].reason == "published"


def test_without_a_place_outside_nothing_is_asked_and_with_an_open_uplink_that_one_is_used() -> None:
    node = Node()
    assert sent(node.machine.on_wanted(eid(MOVER), 1.0)) == []

    node = Node()
    node.machine.on_outside(OUTSIDE, 0.5)
    node.machine.on_locators(LocatorSet.of(1, [LocalLocator(ip("203.0.113.7"), 3)]), 0.6)

    (out,) = sent(node.machine.on_wanted(eid(MOVER), 1.0))
    assert (str(out.source), out.ifindex) == ("203.0.113.7", 3)


@pytest.mark.parametrize("moved", [replace(OUTSIDE, port=40001), replace(OUTSIDE, address=ip("198.18.0.10"))])
def test_another_place_outside_has_it_subscribe_again(moved: Outside) -> None:
    node = subscribed()

    assert node.machine.on_outside(OUTSIDE, 6.0) == []
    assert len(sent(node.machine.on_outside(moved, 7.0))) == 1


@pytest.mark.parametrize(
    ("idle_s", "goes_on"), [(UNWANTED_S + 0.1, False), (UNWANTED_S, True), (UNWANTED_S - 0.1, True)]
)
def test_it_ends_when_no_packet_has_gone_there_for_an_hour_and_lives_on_while_some_do(
    idle_s: float, goes_on: bool
) -> None:
    node = subscribed()
    renewed_at = node.machine.wake_at()
    assert renewed_at == 1.0 + RENEW_S
    node.machine.on_wanted(eid(MOVER), renewed_at - idle_s)

    node.machine.on_timer(renewed_at)

    assert len(node.machine.subscriptions) == goes_on


def test_an_unanswered_request_is_tried_after_1_2_and_4_seconds_and_then_after_30_120_and_600() -> None:
    node = Node()
    node.machine.on_outside(OUTSIDE, 0.0)
    asked = [(0.0, out) for out in sent(node.machine.on_wanted(eid(MOVER), 0.0))]
    while (at := node.machine.wake_at()) is not None and at < 1600.0:
        assert sent(node.machine.on_timer(at - 0.01)) == []
        asked += [(at, out) for out in sent(node.machine.on_timer(at))]

    gaps = [round(later - former, 3) for (former, _), (later, _) in pairwise(asked)]
    assert gaps[:11] == [1.0, 2.0, 4.0, 4.0 + 30.0, 1.0, 2.0, 4.0, 4.0 + 120.0, 1.0, 2.0, 4.0]
    assert 4.0 + 600.0 in gaps


@pytest.mark.parametrize(("after_s", "counts"), [(29.9, True), (30.0, True), (30.1, False)])
def test_a_confirmation_may_be_30_seconds_late(after_s: float, counts: bool) -> None:
    node = Node()
    node.machine.on_outside(OUTSIDE, 0.0)
    (out,) = sent(node.machine.on_wanted(eid(MOVER), 0.0))
    (confirmation,) = sent(node.plane.on_datagram(Arrival(out.payload, NAT, PORT, HUB), 0.0))

    node.machine.on_timer(after_s)

    assert node.machine.knows(MapNotify.decode(confirmation.payload).nonce.to_bytes(8))
    datagram = Datagram(confirmation.payload, HUB, 4342, INSIDE, 2)
    effects = node.machine.on_map_notify(
        MapNotify.decode(confirmation.payload), confirmation.payload, datagram, GUARD, after_s
    )
    assert (effects != [Count("rx_auth")]) == counts


@pytest.mark.parametrize(
    ("locators", "action", "state"),
    [
        ((), Action.DROP_AUTH_FAILURE, State.ASKING),  # RFC 9437, 6: the end of a subscription
        ((Locator(ip("203.0.113.5")),), Action.DROP_AUTH_FAILURE, State.SUBSCRIBED),
        ((), Action.NO_ACTION, State.SUBSCRIBED),
    ],
)
def test_only_a_record_without_locators_and_with_act_5_ends_a_subscription(
    locators: tuple[Locator, ...], action: Action, state: State
) -> None:
    node = subscribed()
    (subscription,) = node.machine.subscriptions
    record = MappingRecord.of(eid(MOVER), locators, ttl_min=10, action=action)
    notify = sign(MapNotify(subscription.nonce + 1, (record,)), Key(subscription.secret, 0, Algorithm.HMAC_SHA_256_128))

    node.machine.on_map_notify(MapNotify.decode(notify), notify, Datagram(notify, HUB, 4342, INSIDE, 2), GUARD, 5.0)

    assert subscription.state is state
