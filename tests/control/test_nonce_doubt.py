"""When a registration stays unanswered because a Map-Server has seen larger nonces of this node."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.nonce_doubt import FIRST_S, LONGEST_S, MAX_KEPT, NonceDoubt
from lispmob.hub.map_server.claims import COPY_S
from lispmob.protocol.effect import Event
from tests.hub.exchange import ask, events, plane, reply_in, rlocs_of, sent, site, xtr

EID, SERVER = "10.1.0.1/32", "198.51.100.1"
TIMEOUT = Event("register-timeout", {"eid": EID, "map_server": SERVER})
RTR_FAILED = Event("rtr-failed", {"rloc": "192.168.8.2", "rtr": SERVER})
REGISTERED = Event("registered", {"eid": EID, "map_server": SERVER})


def doubts(doubt: NonceDoubt, event: Event, *times: float) -> list[float]:
    """The times at which the count should begin again."""
    return [now for now in times if doubt.on_event(event, now)]


@pytest.mark.parametrize("event", [TIMEOUT, RTR_FAILED], ids=["direct", "by an RTR"])
def test_a_registration_that_stays_unanswered_is_reason_to_begin_again_at_the_clock(event: Event) -> None:
    assert doubts(NonceDoubt(), event, 1.0, 3.0, 7.0, 15.0) == [15.0]


def test_the_map_server_has_time_to_say_that_another_machine_is_there() -> None:
    assert FIRST_S > COPY_S + 4.0  # the pause between the tries around that moment


@pytest.mark.parametrize("end", [REGISTERED, Event("eid-shared", REGISTERED.fields)], ids=["confirmed", "told"])
def test_an_answer_ends_the_doubt(end: Event) -> None:
    doubt = NonceDoubt()
    doubts(doubt, TIMEOUT, 1.0, 3.0)

    assert not doubt.on_event(end, 7.0)
    assert doubts(doubt, TIMEOUT, 15.0, 17.0) == []


def test_the_confirmation_of_another_eid_does_not_end_it() -> None:
    doubt = NonceDoubt()
    doubts(doubt, TIMEOUT, 1.0, 3.0)

    doubt.on_event(Event("registered", {"eid": "2001:db8:e::1/128", "map_server": SERVER}), 7.0)

    assert doubts(doubt, TIMEOUT, 15.0) == [15.0]


def test_a_confirmation_through_another_rtr_ends_the_doubt_about_the_first() -> None:
    doubt = NonceDoubt()
    doubts(doubt, RTR_FAILED, 1.0)

    doubt.on_event(REGISTERED, 5.0)

    assert doubts(doubt, RTR_FAILED, 14.0) == []


def test_a_map_server_that_is_down_for_a_day_costs_few_writes() -> None:
    times = [60.0 * minute for minute in range(24 * 60)]

    found = doubts(NonceDoubt(), TIMEOUT, *times)

    assert len(found) < 24 + 12
    assert found[-1] - found[-2] >= LONGEST_S


def test_forgotten_registrations_take_no_memory_without_bound() -> None:
    doubt = NonceDoubt()

    for n in range(3 * MAX_KEPT):
        doubt.on_event(Event("register-timeout", {"eid": f"10.1.{n}.1/32", "map_server": SERVER}), float(n))

    assert len(doubt._troubles) == MAX_KEPT


def test_a_machine_whose_copy_ran_for_a_while_and_has_gone_is_accepted_again() -> None:
    """A backup that was tried out: the Map-Server remembers its nonces, though its registration is withdrawn."""
    hub, seconds = plane(site("10.1.0.0/24")), 10**9
    machine = xtr("203.0.113.5", xtr_id=b"n" * 16, nonces=count(100 * seconds))
    copy = xtr("192.0.2.9", xtr_id=b"n" * 16, nonces=count(200 * seconds))
    hub.on_datagram(machine.register(EID), 0.0)
    hub.on_datagram(copy.register(EID), 100.0)
    hub.on_datagram(copy.withdraw(EID), 110.0)
    doubt, confirmed = NonceDoubt(), []

    for now in (120.0, 121.0, 123.0, 127.0, 135.0, 151.0):
        effects = hub.on_datagram(machine.register(EID), now)
        if sent(effects):
            confirmed.append(now)
        elif doubt.on_event(TIMEOUT, now):
            machine.nonces = count(int(now + 100) * seconds)

    assert confirmed == [151.0]
    assert rlocs_of(reply_in(hub.on_datagram(ask(EID), 152.0)).records[0]) == ["203.0.113.5"]
    assert [event.kind for event in events(effects)] == ["registered"]
