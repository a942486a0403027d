"""Gateways are verified when messages go unanswered, soon at first, and seldom in an old outage."""

from __future__ import annotations

from ipaddress import ip_address

from lispmob.iface_monitor.gateway_doubts import CALM_S, CONFIRM_S, REST_MAX_S, GatewayDoubts
from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.protocol.outage import RETURN_S

HOME, HOME6 = Gateway(2, ip_address("192.168.1.1")), Gateway(2, ip_address("fe80::1"))
PHONE = Gateway(3, ip_address("192.168.1.1"))  # the same address, another link


def test_the_first_silence_asks_every_gateway_at_once_and_looks_once_for_its_answer() -> None:
    doubts = GatewayDoubts()

    assert set(doubts.on_silence([HOME, HOME6, PHONE], 10.0)) == {HOME, HOME6, PHONE}
    assert doubts.wake_at() == 10.0 + CONFIRM_S
    assert doubts.to_check(10.0 + CONFIRM_S / 2) == ()
    assert set(doubts.to_check(10.0 + CONFIRM_S)) == {HOME, HOME6, PHONE}
    assert doubts.to_check(20.0) == ()
    assert doubts.wake_at() is None


def test_many_silences_in_a_moment_ask_once() -> None:
    doubts = GatewayDoubts()

    asked = [doubts.on_silence([HOME], now / 10) for now in range(int(10 * RETURN_S))]

    assert asked[0] == (HOME,)
    assert not any(asked[1:])


def test_in_an_old_outage_it_asks_seldom() -> None:
    doubts = GatewayDoubts()
    times = [float(now) for now in range(4 * 3600) if doubts.on_silence([HOME], float(now))]

    assert times[1] - times[0] == RETURN_S
    assert times[-1] - times[-2] >= REST_MAX_S
    assert len(times) < 4 * 60 + 60


def test_after_a_calm_time_the_next_silence_is_another_outage() -> None:
    doubts = GatewayDoubts()
    for now in range(1200):
        doubts.on_silence([HOME], float(now))

    later = 1200.0 + CALM_S
    asked = [doubts.on_silence([HOME], later), doubts.on_silence([HOME], later + RETURN_S)]

    assert asked == [(HOME,), (HOME,)]


def test_a_gateway_that_has_just_come_is_asked_although_another_one_rests() -> None:
    doubts = GatewayDoubts()
    doubts.on_silence([HOME], 0.0)

    assert doubts.on_silence([HOME, PHONE], 1.0) == (PHONE,)
    assert doubts.on_silence([PHONE], 2.0) == ()
    assert doubts.on_silence([HOME, PHONE], 3.0) == (HOME,)  # it was gone, and is new
