from __future__ import annotations

from lispmob.control.smr import BATCH, FOLLOW_UPS_S, SmrSender, SmrTarget, State, solicited
from lispmob.protocol.effect import Event, FollowUpDue, MachineEffect, SendControl
from lispmob.wire.address import EidPrefix
from lispmob.wire.lcaf_types import InstanceId
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.control.support import EID, LTE, WIFI, ip, locators, nonces, only, prefix, request_in, run_until

PEER = prefix("10.2.0.0/24")
RLOC = ip("203.0.113.5")
TARGET = SmrTarget(RLOC, EID, PEER)
OWN = locators(WIFI)


def sender() -> SmrSender:
    return SmrSender(new_nonce=nonces())


def told(effects: list[MachineEffect]) -> list[object]:
    return [send.destination for send in only(effects, SendControl)]


def test_a_move_is_told_in_the_same_call() -> None:
    effects = sender().on_moved(OWN, [TARGET], 0.0)

    (send,) = only(effects, SendControl)
    request = request_in(send)
    assert (send.destination, send.port, send.source) == (RLOC, 4342, WIFI.address)
    assert request.is_smr
    assert request.dont_map_reply
    assert request.source_eid == EID.address
    assert request.itr_rlocs == (WIFI.address,)
    assert [record.eid_prefix for record in request.records] == [PEER]


def test_a_move_is_followed_up_twice_and_then_rests() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)

    happened = run_until(machine, 100.0)

    assert [(at, effects) for at, effects in happened] == [(at, [FollowUpDue()]) for at in FOLLOW_UPS_S]
    assert machine.state is State.QUIET


def test_one_rloc_hears_of_moves_of_one_eid_in_a_burst_and_then_once_a_second() -> None:
    machine = sender()

    at_once = [len(told(machine.on_moved(OWN, [TARGET], number / 10))) for number in range(5)]
    later = [(at, len(told(effects))) for at, effects in run_until(machine, 4.0) if told(effects)]

    assert at_once == [1, 1, 1, 0, 0]
    assert later == [(1.0, 1)]


def test_one_rloc_hears_again_of_one_move_in_a_burst_and_then_once_in_three_seconds() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)

    again = [len(told(machine.on_peers([TARGET], number / 8))) for number in range(5)]
    later = [(at, len(told(effects))) for at, effects in run_until(machine, 3.5) if told(effects)]

    assert again == [1, 1, 1, 0, 0]
    assert later == [(3.0, 1)]


def test_a_link_that_is_lost_and_found_again_every_four_seconds_is_told_each_time_at_once() -> None:
    machine = sender()

    told_at_once = []
    for lost_at in range(0, 400, 4):
        told_at_once.append(told(machine.on_moved(locators(LTE), [TARGET], lost_at)))
        told_at_once.append(told(machine.on_moved(OWN, [TARGET], lost_at + 1.0)))
        run_until(machine, lost_at + 4.0)

    assert told_at_once == [[RLOC]] * 200


def test_several_eids_are_told_to_one_rloc_at_once() -> None:
    eids = [EidPrefix.host(EID.address + number) for number in range(6)]

    at_once = sender().on_moved(OWN, [SmrTarget(RLOC, eid, PEER) for eid in eids], 0.0)

    assert len(told(at_once)) == 6


def test_a_second_move_is_told_at_once_too() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)

    effects = machine.on_moved(locators(LTE, version=2), [TARGET], 0.5)

    assert [send.source for send in only(effects, SendControl)] == [LTE.address]


def test_a_node_with_a_thousand_peers_tells_them_in_batches() -> None:
    machine = sender()
    targets = [SmrTarget(ip("203.0.113.0") + number, EID, PEER) for number in range(1000)]

    at_once = machine.on_moved(OWN, targets, 0.0)
    rest = [told(effects) for _, effects in run_until(machine, 2.0)]

    assert len(told(at_once)) == BATCH
    assert len(told(at_once)) + sum(map(len, rest)) == 1000


def test_nothing_is_sent_to_a_family_that_we_do_not_have() -> None:
    assert told(sender().on_moved(OWN, [SmrTarget(ip("2001:db8::5"), EID, PEER)], 0.0)) == []


def test_without_locators_there_is_nothing_to_wait_for() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)

    machine.on_moved(locators(version=2), [], 1.0)

    assert machine.wake_at() is None
    assert machine.state is State.QUIET


def test_a_peer_that_moved_at_the_same_time_is_told_once_at_its_new_rloc() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)
    new = SmrTarget(ip("203.0.113.6"), EID, PEER)

    assert told(machine.on_peer_moved([TARGET, new], 1.0)) == [new.rloc]
    assert told(machine.on_peer_moved([new], 2.0)) == []


def test_a_peer_that_moves_long_after_us_is_not_told_what_it_knows() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)
    run_until(machine, 100.0)

    assert machine.on_peer_moved([SmrTarget(ip("203.0.113.6"), EID, PEER)], 100.0) == []


def test_a_register_that_got_through_late_is_told_again() -> None:
    machine = sender()
    machine.on_moved(OWN, [TARGET], 0.0)
    run_until(machine, 100.0)

    assert machine.on_registered_late(100.0) == [FollowUpDue()]
    assert machine.wake_at() == 100.0 + FOLLOW_UPS_S[0]


def test_the_event_names_all_that_were_told() -> None:
    (event,) = only(sender().on_moved(OWN, [TARGET], 0.0), Event)

    assert event == Event("smr-sent", {"rlocs": ["203.0.113.5"], "version": 1})


def test_the_eid_of_an_smr_is_a_host_in_its_instance() -> None:
    records = (EidRecord.of(EID),)

    assert solicited(MapRequest(0, ip("10.2.0.7"), (RLOC,), records)) == prefix("10.2.0.7/32")
    assert solicited(MapRequest(0, InstanceId(7, ip("2001:db8::7")), (RLOC,), records)) == prefix("[7]2001:db8::7/128")
    assert solicited(MapRequest(0, None, (RLOC,), records)) is None
