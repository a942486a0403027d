"""ICMP errors that answer control messages, on a real loopback interface."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest

from lispmob.control_port.icmp_errors import Unreachable
from lispmob.control_port.port import ControlPort, Received
from lispmob.protocol.effect import SendControl

PATIENCE_S = 5.0


@pytest.fixture(params=["127.0.0.1", "::1"])
def here(request: pytest.FixtureRequest) -> str:
    host: str = request.param
    return host


def closed_port(host: str) -> int:
    """A UDP port on which no process listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


def test_a_port_without_a_listener_is_heard_of_and_the_next_datagram_is_not_lost(here: str) -> None:
    async def scenario() -> None:
        errors: asyncio.Queue[Unreachable] = asyncio.Queue()
        received: asyncio.Queue[Received] = asyncio.Queue()
        sender = ControlPort(lambda _: None, addresses=[ip_address(here)], port=0, on_unreachable=errors.put_nowait)
        other = ControlPort(received.put_nowait, addresses=[ip_address(here)], port=0)
        for control_port in (sender, other):
            control_port.open()
        other.start(asyncio.get_running_loop())
        try:
            port = closed_port(here)
            assert sender.send(SendControl(b"hello", ip_address(here), port))
            assert sender.send(SendControl(b"again", ip_address(here), other.port)), "the error was another datagram's"

            error = await asyncio.wait_for(errors.get(), PATIENCE_S)
            assert error == Unreachable(ip_address(here), port, "port")
            assert (await asyncio.wait_for(received.get(), PATIENCE_S)).payload == b"again"
        finally:
            sender.close()
            other.close()

    asyncio.run(scenario())


def test_an_error_that_comes_while_nothing_is_sent_is_read_and_the_loop_rests_again(here: str) -> None:
    async def scenario() -> None:
        errors: asyncio.Queue[Unreachable] = asyncio.Queue()
        sender = ControlPort(lambda _: None, addresses=[ip_address(here)], port=0, on_unreachable=errors.put_nowait)
        sender.open()
        sender.start(asyncio.get_running_loop())
        try:
            sender.send(SendControl(b"hello", ip_address(here), closed_port(here)))
            assert (await asyncio.wait_for(errors.get(), PATIENCE_S)).reason == "port"

            before = sender.counters.copy()
            for _ in range(50):
                await asyncio.sleep(0)
            assert sender.counters == before
            assert errors.empty()
        finally:
            sender.close()

    asyncio.run(scenario())


def test_without_a_listener_errors_change_nothing(here: str) -> None:
    async def scenario() -> None:
        sender = ControlPort(lambda _: None, addresses=[ip_address(here)], port=0)
        sender.open()
        try:
            port = closed_port(here)
            assert all(sender.send(SendControl(b"hello", ip_address(here), port)) for _ in range(3))
        finally:
            sender.close()

    asyncio.run(scenario())
