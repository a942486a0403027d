"""Map-Requests that the datapath sends itself: what is in them, and how a lookup goes on after one."""

from __future__ import annotations

import pytest

from lispmob.control.itr_security import ItrSecurity, LispSecTools
from lispmob.control.lookups.lookup_limits import GLOBAL_BURST
from lispmob.control.lookups.prepared import KEPT, PER_GROUP, RECOUNT_S, REFILL_S
from lispmob.control.lookups.resolver import Resolver
from lispmob.crypto.key_wrap import AesKeyWrap
from lispmob.node.node import Node
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.effect import (
    Count,
    DropPending,
    InstallMapping,
    MachineEffect,
    MappingLearned,
    PreparedRequest,
    PreparedSent,
    SendControl,
    UsePrepared,
)
from lispmob.protocol.servers import LispSecMode, ResolverSecret
from lispmob.wire.address import EidPrefix
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import (
    EID,
    EID6,
    LTE,
    RESOLVER,
    SPARE_RESOLVER,
    WIFI,
    ip,
    locators,
    nonces,
    only,
    prefix,
    request_in,
)
from tests.node.test_node import CONFIG, datagram

PEER = prefix("10.2.0.7/32")
GUARD = Guard((EID,), frozenset({WIFI.address}), frozenset({RESOLVER}))
RECORD = MappingRecord.of(prefix("10.2.0.0/24"), (Locator(ip("203.0.113.5")),))
SECRET = ResolverSecret(bytes(32), 0)


def resolver(*eids: EidPrefix, security: ItrSecurity | None = None) -> Resolver:
    machine = Resolver(
        [RESOLVER, SPARE_RESOLVER],
        new_nonce=nonces(1000),
        security=security,
        eids=eids or (EID,),
        draw=nonces(5000),
    )
    machine.on_locators(locators(WIFI))
    return machine


def made(effects: list[MachineEffect]) -> list[PreparedRequest]:
    return [request for use in only(effects, UsePrepared) for request in use.requests]


def sends(machine: Resolver, request: PreparedRequest, now: float, asked: EidPrefix = PEER) -> list[MachineEffect]:
    """The datapath sends this one for a packet to `asked`."""
    return machine.on_miss(EID.address, asked, now, machine.take_prepared(request.nonce, asked, now))


def test_some_are_made_in_advance_and_the_machine_rests_then() -> None:
    machine = resolver()

    (use,) = only(machine.on_timer(0.0), UsePrepared)

    assert (len(use.requests), use.replaces) == (PER_GROUP, True)
    assert len({request.nonce for request in use.requests}) == PER_GROUP
    assert machine.wake_at() is None
    assert machine.on_timer(100.0) == []


def test_without_draw_none_are_made() -> None:
    machine = Resolver([RESOLVER], new_nonce=nonces(1000), eids=(EID,))
    machine.on_locators(locators(WIFI))

    assert machine.on_timer(0.0) == []
    assert machine.wake_at() is None


EIDS = [EID, EID6, EidPrefix.host(EID.address, 7), EidPrefix.host(EID6.address, 0xFFFFFE)]


@pytest.mark.parametrize("eid", EIDS)
def test_it_is_a_whole_map_request_but_for_the_eids(eid: EidPrefix) -> None:
    first, *_ = made(resolver(eid).on_timer(0.0))

    ecm = EncapsulatedControl.decode(first.message.payload)
    request = MapRequest.decode(ecm.message)
    zero = ip("0.0.0.0" if eid.family == 4 else "::")
    assert (first.message.destination, first.message.source) == (RESOLVER, WIFI.address)
    assert (ecm.source, ecm.destination, request.nonce) == (zero, zero, first.nonce)
    assert request.itr_rlocs == (WIFI.address,)
    assert request.records[0].eid_prefix == EidPrefix.host(zero, eid.instance_id)
    assert request.source_eid == from_prefix(EidPrefix.host(zero, eid.instance_id))


@pytest.mark.parametrize("eid", EIDS)
def test_the_eids_belong_where_it_says(eid: EidPrefix) -> None:
    first, *_ = made(resolver(eid).on_timer(0.0))
    zero, octets = ip("0.0.0.0" if eid.family == 4 else "::"), len(eid.address.packed)
    message = bytearray(first.message.payload)

    message[first.source_at : first.source_at + octets] = eid.address.packed
    message[-octets:] = eid.address.packed
    udp = first.inner + (20 if eid.family == 4 else 40)
    message[udp + 6 : udp + 8] = bytes(2)  # no checksum
    request = MapRequest.decode(EncapsulatedControl.decode(bytes(message)).message)

    assert (message[first.inner] >> 4, first.family, first.instance_id) == (eid.family, eid.family, eid.instance_id)
    assert request.source_eid == from_prefix(eid)
    assert request.records[0].eid_prefix == eid
    assert zero.packed == message[first.inner + (12 if eid.family == 4 else 8) :][:octets]


def test_a_lookup_goes_on_as_if_the_resolver_had_sent_it() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))

    effects = sends(machine, first, 7.0)
    answer = machine.on_map_reply(MapReply(first.nonce, (RECORD,)), WIFI.address, GUARD, 7.125)

    assert only(effects, SendControl) == []
    assert only(effects, PreparedSent) == [PreparedSent(first.message)]
    assert [count.name for count in only(effects, Count)] == ["tx_map_request"]
    (learned,) = only(answer, MappingLearned)
    assert (learned.asked, learned.records, learned.rtt_ms) == (PEER, (RECORD,), 125.0)


def test_without_an_answer_the_resolver_asks_again_after_a_second_by_the_next_way() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))
    sends(machine, first, 7.0)

    early, late = machine.on_timer(7.5), machine.on_timer(8.0)

    assert only(early, SendControl) == []
    (again,) = only(late, SendControl)
    assert (again.destination, request_in(again).nonce == first.nonce) == (SPARE_RESOLVER, False)


def test_used_ones_are_replaced_a_little_later_and_without_the_rest() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))
    sends(machine, first, 7.0)

    assert machine.wake_at() == 7.0 + REFILL_S
    (use,) = only(machine.on_timer(7.0 + REFILL_S), UsePrepared)

    assert (len(use.requests), use.replaces) == (1, False)
    assert use.requests[0].nonce != first.nonce


def test_the_last_one_is_replaced_at_once() -> None:
    machine = resolver()
    for number, request in enumerate(made(machine.on_timer(0.0))):
        sends(machine, request, 7.0, prefix(f"10.2.0.{number}/32"))

    assert machine.wake_at() == 7.0
    assert len(made(machine.on_timer(7.0))) == PER_GROUP


def test_each_is_taken_once() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))

    assert machine.take_prepared(first.nonce, PEER, 1.0) is not None
    assert machine.take_prepared(first.nonce, PEER, 1.0) is None
    assert machine.take_prepared(99, PEER, 1.0) is None
    assert machine.take_prepared(0, PEER, 1.0) is None


def test_when_the_datapath_sends_none_although_it_should_have_some_all_are_replaced() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))

    assert machine.take_prepared(0, PEER, 1.0) is None
    (use,) = only(machine.on_timer(1.0), UsePrepared)

    assert (len(use.requests), use.replaces) == (PER_GROUP, True)
    assert machine.take_prepared(first.nonce, PEER, 1.1) is None


def test_they_are_replaced_for_that_reason_once_a_minute_at_most() -> None:
    machine = resolver()
    machine.on_timer(0.0)
    machine.take_prepared(0, PEER, 1.0)
    machine.on_timer(1.0)

    machine.take_prepared(0, PEER, 1.0 + RECOUNT_S - 0.1)
    early = machine.on_timer(1.0 + RECOUNT_S - 0.1)
    machine.take_prepared(0, PEER, 1.0 + RECOUNT_S)
    late = machine.on_timer(1.0 + RECOUNT_S)

    assert (made(early), len(made(late))) == ([], PER_GROUP)


@pytest.mark.parametrize("asked", [EID6, EidPrefix.host(PEER.address, 7)])
def test_none_are_replaced_for_an_eid_that_no_prepared_one_serves(asked: EidPrefix) -> None:
    machine = resolver()
    machine.on_timer(0.0)

    machine.take_prepared(0, asked, 1.0)

    assert machine.on_timer(1.0) == []


def test_none_are_replaced_before_their_time_when_the_datapath_has_used_all() -> None:
    machine = resolver()
    for number, request in enumerate(made(machine.on_timer(0.0))):
        sends(machine, request, 7.0, prefix(f"10.2.0.{number}/32"))

    machine.take_prepared(0, PEER, 7.0)
    (use,) = only(machine.on_timer(7.0), UsePrepared)

    assert (len(use.requests), use.replaces) == (PER_GROUP, False)


def test_a_second_one_for_an_open_lookup_changes_nothing() -> None:
    machine = resolver()
    first, second, *_ = made(machine.on_timer(0.0))
    sends(machine, first, 1.0)

    assert sends(machine, second, 1.1) == []


def test_after_a_move_all_are_replaced_and_what_left_by_the_old_uplink_is_asked_again() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))

    machine.on_locators(locators(LTE))
    effects = sends(machine, first, 1.0)
    (use,) = only(machine.on_timer(1.0), UsePrepared)

    assert [send.source for send in only(effects, SendControl)] == [LTE.address]
    assert use.replaces
    assert {request.message.source for request in use.requests} == {LTE.address}


def test_without_locators_none_are_left() -> None:
    machine = resolver()
    machine.on_timer(0.0)

    machine.on_locators(locators())

    assert machine.on_timer(1.0) == [UsePrepared((), True)]


def test_after_a_reload_all_are_replaced_although_they_would_be_asked_alike() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))

    machine.on_resolvers([RESOLVER, SPARE_RESOLVER], (EID,))

    assert machine.take_prepared(first.nonce, PEER, 1.0) is None
    (use,) = only(machine.on_timer(1.0), UsePrepared)
    assert (len(use.requests), use.replaces) == (PER_GROUP, True)


def test_the_map_resolver_that_answered_last_is_the_one_to_ask() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))
    sends(machine, first, 1.0)
    (again,) = only(machine.on_timer(2.0), SendControl)
    machine.on_map_reply(MapReply(request_in(again).nonce, (RECORD,)), WIFI.address, GUARD, 2.1)

    (use,) = only(machine.on_timer(2.1), UsePrepared)

    assert use.replaces
    assert {request.message.destination for request in use.requests} == {SPARE_RESOLVER}


def test_eids_of_one_family_and_instance_share_theirs() -> None:
    machine = resolver(EID, prefix("10.1.0.64/26"), EID6)

    requests = made(machine.on_timer(0.0))

    assert [request.family for request in requests] == [4] * PER_GROUP + [6] * PER_GROUP


def test_a_lookup_beyond_the_limit_is_not_given_up_when_it_has_been_sent() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))
    for number in range(GLOBAL_BURST):
        machine.on_miss(EID.address, prefix(f"10.3.0.{number}/32"), 1.0)

    assert only(machine.on_miss(EID.address, prefix("10.3.1.1/32"), 1.0), DropPending)
    assert only(sends(machine, first, 1.0), PreparedSent)


def test_the_oldest_ones_are_forgotten_when_the_uplinks_flap() -> None:
    machine = resolver()
    first, *_ = made(machine.on_timer(0.0))
    for number in range(KEPT):
        machine.on_locators(locators(WIFI if number % 2 else LTE))
        latest = made(machine.on_timer(float(number)))

    assert machine.take_prepared(first.nonce, PEER, float(KEPT)) is None
    assert machine.take_prepared(latest[-1].nonce, PEER, float(KEPT)) is not None


@pytest.mark.parametrize(("mode", "is_protected"), [("require", True), ("prefer", False), ("off", False)])
def test_lisp_sec_is_used_as_in_the_first_map_request_of_a_lookup(mode: LispSecMode, is_protected: bool) -> None:
    first, *_ = made(resolver(security=secured(mode)).on_timer(0.0))

    assert (EncapsulatedControl.decode(first.message.payload).authentication is not None) is is_protected


def test_the_trial_of_lisp_sec_follows_a_plain_one_that_the_datapath_has_sent() -> None:
    machine = resolver(security=secured("prefer"))
    first, *_ = made(machine.on_timer(0.0))

    effects = sends(machine, first, 1.0)

    (trial,) = only(effects, SendControl)
    assert EncapsulatedControl.decode(trial.payload).authentication is not None
    assert [count.name for count in only(effects, Count)] == ["tx_map_request", "tx_lisp_sec_trial"]


def test_a_plain_answer_is_refused_to_a_protected_one() -> None:
    machine = resolver(security=secured("require"))
    first, *_ = made(machine.on_timer(0.0))
    sends(machine, first, 1.0)

    assert only(machine.on_map_reply(MapReply(first.nonce, (RECORD,)), WIFI.address, GUARD, 1.1), MappingLearned) == []


def test_a_plain_one_is_not_adopted_once_the_map_resolver_has_shown_lisp_sec() -> None:
    security = secured("prefer")
    machine = resolver(security=security)
    first, *_ = made(machine.on_timer(0.0))
    security.on_config("require", {RESOLVER: SECRET, SPARE_RESOLVER: SECRET})

    effects = sends(machine, first, 1.0)

    (send,) = only(effects, SendControl)
    assert EncapsulatedControl.decode(send.payload).authentication is not None
    assert only(machine.on_map_reply(MapReply(first.nonce, (RECORD,)), WIFI.address, GUARD, 1.1), MappingLearned) == []


def secured(mode: LispSecMode) -> ItrSecurity:
    tools = LispSecTools(AesKeyWrap(), lambda: bytes(range(16)))
    return ItrSecurity(mode, {RESOLVER: SECRET, SPARE_RESOLVER: SECRET}, tools)


def machine_with_a_datapath() -> Node:
    machine = Node(CONFIG, new_nonce=nonces(7000), jitter=lambda: 0.5, prepares=True)
    machine.on_locators([WIFI], 0.0)
    return machine


def test_a_node_installs_the_answer_to_what_its_datapath_has_asked() -> None:
    machine = machine_with_a_datapath()
    (use,) = only(machine.on_timer(0.0), UsePrepared)
    first, *_ = use.requests

    asked = machine.on_miss(EID.address, PEER.address, 0, 1.0, first.nonce)
    answered = machine.on_datagram(datagram(MapReply(first.nonce, (RECORD,)).encode()), 1.1)

    assert only(asked, SendControl) == []
    assert [entry.prefix for entry in only(answered, InstallMapping)] == [RECORD.eid_prefix]


def test_before_the_datapath_has_reported_that_it_asked_an_answer_is_noise() -> None:
    """Otherwise each of them would be a nonce that a stranger may guess for as long as it lies there."""
    machine = machine_with_a_datapath()
    (use,) = only(machine.on_timer(0.0), UsePrepared)
    answer = MapReply(use.requests[0].nonce, (RECORD,)).encode()

    assert machine.gate.is_noise(answer) == "rx_nonce"
    machine.on_miss(EID.address, PEER.address, 0, 1.0, use.requests[0].nonce)
    assert machine.gate.is_noise(answer) is None


def test_a_node_without_uplinks_prepares_none() -> None:
    machine = machine_with_a_datapath()
    machine.on_timer(0.0)
    machine.on_locators([], 1.0)

    (use,) = only(machine.on_timer(1.0), UsePrepared)

    assert (use.requests, use.replaces) == ((), True)
