"""A node without NAT whose network stops working, and works again, while address, route and carrier stay."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lispmob.node.node import Datagram, LocalLocator, MapServerPeer, Node, NodeConfig
from lispmob.protocol.effect import SendControl
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import MappingRecord
from tests.control.support import EID, KEY, LTE, RESOLVER, SERVER, WIFI, WIFI6, nonces

SOON_S = 5.0
REFRESH_S = 60.0


class Site:
    """A node, its Map-Server and its Map-Resolver, and a network between them that can be cut."""

    def __init__(self, *uplinks: LocalLocator, key: Key = KEY) -> None:
        config = NodeConfig((EID,), (MapServerPeer(SERVER, key),), (RESOLVER,))
        self.node = Node(config, new_nonce=nonces(7), jitter=lambda: 0.5)
        self.now = 0.0
        self.is_open = self.answers_registers = self.answers_requests = True
        self.registers: list[float] = []
        self.sent = 0
        self.take(self.node.on_locators(uplinks, 0.0))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.node.wake_at()) is not None and at <= end:
            self.now = max(self.now, at)
            self.take(self.node.on_timer(self.now))
        self.now = end

    def took_to_register(self, limit_s: float) -> float:
        began, known = self.now, self.node.registrations[0].confirmed_at
        while self.now < began + limit_s and self.node.registrations[0].confirmed_at == known:
            self.run(0.1)
        return self.now - began

    def take(self, effects: Iterable[object]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                self.sent += 1
                self.answer(effect, decode_control(effect.payload))

    def answer(self, sent: SendControl, message: object) -> None:
        if isinstance(message, MapRegister):
            self.registers.append(self.now)
        if not self.is_open or sent.source is None:
            return
        reply = b""
        if isinstance(message, MapRegister) and self.answers_registers:
            reply = sign(MapNotify(message.nonce, message.records), KEY)
        if isinstance(message, EncapsulatedControl) and self.answers_requests:
            request = decode_control(message.message)
            assert isinstance(request, MapRequest)
            reply = MapReply(request.nonce, (MappingRecord.of(EID, ttl_min=1),)).encode()
        if reply:
            self.take(
                self.node.on_datagram(Datagram(reply, sent.destination, 4342, sent.source, sent.ifindex), self.now)
            )


@pytest.mark.parametrize("uplinks", [(WIFI,), (WIFI6, WIFI), (WIFI, LTE)], ids=["one", "two families", "two uplinks"])
@pytest.mark.parametrize("outage_s", [12.0, 33.0, 64.0, 75.0])
def test_an_idle_node_is_registered_again_within_seconds_of_the_end_of_an_outage(
    uplinks: tuple[LocalLocator, ...], outage_s: float
) -> None:
    site = Site(*uplinks)
    site.run(REFRESH_S - 0.1)

    site.is_open = False
    site.run(outage_s)
    site.is_open = True

    assert site.took_to_register(20.0) <= SOON_S


@pytest.mark.parametrize("outage_s", [3.0, 20.0, 61.0])
def test_a_node_that_starts_in_a_network_that_shows_a_login_page_is_registered_within_seconds_of_the_login(
    outage_s: float,
) -> None:
    site = Site()
    site.is_open = False
    site.take(site.node.on_locators([WIFI], site.now))

    site.run(outage_s)
    site.is_open = True

    assert site.took_to_register(20.0) <= SOON_S


def test_after_a_long_outage_it_takes_a_twentieth_of_its_time() -> None:
    site = Site(WIFI)
    site.run(REFRESH_S - 0.1)

    site.is_open = False
    site.run(600.0)
    site.is_open = True

    assert site.took_to_register(60.0) <= 600.0 / 20.0 + 1.0


@pytest.mark.parametrize("why", ["wrong key", "Map-Server down", "both down"])
def test_registers_that_a_working_network_leaves_unanswered_back_off_to_a_minute(why: str) -> None:
    """RFC 9301, 8.2."""
    site = Site(WIFI, key=Key(b"the old key") if why == "wrong key" else KEY)
    site.answers_registers = why == "wrong key"
    site.answers_requests = why != "both down"

    site.run(600.0)
    pauses = [later - earlier for earlier, later in zip(site.registers[2:], site.registers[3:], strict=False)]

    assert pauses[-3:] == [pytest.approx(60.0)] * 3
    assert len(site.registers) < 20


def test_an_outage_of_hours_costs_few_messages() -> None:
    site = Site(WIFI)
    site.run(REFRESH_S - 0.1)
    site.is_open = False
    site.run(3600.0)
    before = site.sent

    site.run(3600.0)

    assert site.sent - before <= 3 * 60


def test_a_lost_register_alone_is_no_outage() -> None:
    site = Site(WIFI)
    site.run(REFRESH_S - 0.1)

    site.is_open = False
    site.run(0.5)
    site.is_open = True
    site.run(30.0)

    assert site.node.registrations[0].is_confirmed
    assert len(site.registers) <= 4
