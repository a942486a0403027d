"""The control port on real sockets, over loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from ipaddress import IPv4Address, ip_address
from typing import Any, TypeVar

import pytest

from lispmob.control_port.flood_watch import ANY_TYPE, Part, sender_of
from lispmob.control_port.port import ANY, DRAIN_LIMIT, DRAIN_S, ControlPort, Received, _attach_filter
from lispmob.errors import LispError
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress

LOOPBACK_INDEX = socket.if_nametoindex("lo")
HERE = IPv4Address(f"127.{os.getpid() % 200 + 1}.{os.getpid() // 200 % 250}.1")
T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, 10))


class Bench:
    """A control socket on a free port; records everything that it receives."""

    def __init__(self, *addresses: IpAddress) -> None:
        self.received: asyncio.Queue[Received] = asyncio.Queue()
        self.socket = ControlPort(self.received.put_nowait, addresses=addresses or ANY, port=0)

    async def __aenter__(self) -> Bench:
        self.socket.open()
        self.socket.start(asyncio.get_running_loop())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()


@pytest.mark.parametrize("own", ["127.0.0.1", "::1"])
def test_a_datagram_comes_with_where_it_was_sent_to(own: str) -> None:
    async def main() -> Received:
        async with Bench(ip_address(own)) as bench:
            family = socket.AF_INET6 if ":" in own else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as peer:
                peer.bind((own, 0))
                peer.sendto(b"octets", (own, bench.socket.port))
                received = await bench.received.get()
                assert received.source_port == peer.getsockname()[1]
            return received

    received = run(main())

    assert (received.payload, received.ifindex) == (b"octets", LOOPBACK_INDEX)
    assert (received.source, received.destination) == (ip_address(own), ip_address(own))


@pytest.mark.parametrize("own", ["127.0.0.1", "::1"])
def test_a_message_leaves_from_another_port_and_is_answered_there_until_the_port_is_given_up(own: str) -> None:
    async def main() -> tuple[Received, int, int]:
        async with Bench() as bench:
            family, other = socket.AF_INET6 if ":" in own else socket.AF_INET, 61000 + os.getpid() % 4000
            with socket.socket(family, socket.SOCK_DGRAM) as peer:
                peer.bind((own, 0))
                peer.settimeout(5.0)
                question = SendControl(b"?", ip_address(own), peer.getsockname()[1], source=ip_address(own))
                assert bench.socket.send(question, other_port=other)
                sender = peer.recvfrom(100)[1]
                assert sender[:2] == (own, other)
                peer.sendto(b"!", sender)
                received = await bench.received.get()
                bench.socket.keep_other_ports({other})
                peer.sendto(b"!", sender)
                assert (await bench.received.get()).other_port == other
                bench.socket.keep_other_ports(())
                peer.sendto(b"!", sender)
                assert bench.socket.send(question)
                usual = peer.recvfrom(100)[1][1]
                peer.sendto(b"usual", (own, usual))
                assert (await bench.received.get()).payload == b"usual"
                return received, other, usual

    received, other, usual = run(main())

    assert received.other_port == other != usual
    assert (received.payload, received.destination) == (b"!", ip_address(own))


def test_a_port_that_another_program_has_is_a_failed_send_and_no_error() -> None:
    async def main() -> int:
        async with Bench() as bench:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
                program.bind(("0.0.0.0", 0))
                question = SendControl(b"?", IPv4Address("127.0.0.1"), 9)
                assert not bench.socket.send(question, other_port=program.getsockname()[1])
            return bench.socket.counters["send-failed"]

    assert run(main()) == 1


@pytest.mark.parametrize("own", ["127.0.0.1", "::1", "::", "0.0.0.0"])
def test_data_meets_the_socket_of_the_datapath_and_messages_meet_ours(own: str) -> None:
    data, message = b"\x08\0\0\0\xff\xff\xff\0" + bytes(40), b"\x20" + bytes(40)

    async def main() -> tuple[bytes, bytes]:
        received: asyncio.Queue[Received] = asyncio.Queue()
        control = ControlPort(received.put_nowait, addresses=[ip_address(own)], port=0, shares_with_datapath=True)
        control.open()
        control.start(asyncio.get_running_loop())
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        try:
            (descriptor,) = control.data_sockets
            datapath = socket.socket(fileno=os.dup(descriptor))
            with socket.socket(family, socket.SOCK_DGRAM) as peer, datapath:
                for payload in (data, message):
                    peer.sendto(payload, ("::1" if family == socket.AF_INET6 else "127.0.0.1", control.port))
                return datapath.recv(100), (await received.get()).payload
        finally:
            control.close()

    assert run(main()) == (data, message)


def test_a_socket_on_all_addresses_answers_from_the_one_it_is_told() -> None:
    async def main() -> tuple[bytes, str]:
        async with Bench(IPv4Address(0)) as bench:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.setblocking(False)
                peer.bind(("127.0.0.1", 0))
                port = peer.getsockname()[1]
                answer = SendControl(b"answer", IPv4Address("127.0.0.1"), port, source=HERE, ifindex=LOOPBACK_INDEX)
                assert bench.socket.send(answer)
                payload, sender = await asyncio.get_running_loop().sock_recvfrom(peer, 100)
            assert sender[1] == bench.socket.port
            return payload, sender[0]

    assert run(main()) == (b"answer", str(HERE))


def test_what_cannot_be_sent_is_counted_and_never_raised() -> None:
    async def main() -> dict[str, int]:
        async with Bench(IPv4Address("127.0.0.1")) as bench:
            send = bench.socket.send
            nobody = SendControl(b"x", IPv4Address("127.0.0.1"), 9)
            assert not send(SendControl(b"x", IPv4Address("198.51.100.1"), 9, source=IPv4Address("127.0.0.1")))
            assert not send(SendControl(b"x", IPv4Address("127.0.0.1"), 9, ifindex=987654))  # an interface that is gone
            assert not send(SendControl(b"x", ip_address("::1"), 9))  # a family without a socket
            assert not send(SendControl(bytes(70000), IPv4Address("127.0.0.1"), 9))
            assert send(nobody)
            assert send(nobody)  # the "port unreachable" of the first one is not an error of the second
            return dict(bench.socket.counters)

    assert run(main()) == {"send-failed": 4, "sent": 2}


def test_a_burst_is_read_in_bounded_turns_and_completely() -> None:
    async def main() -> int:
        async with Bench(HERE) as bench:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for number in range(3 * DRAIN_LIMIT):
                    peer.sendto(number.to_bytes(2), (str(HERE), bench.socket.port))
            sizes: list[int] = []
            while sum(sizes) < 3 * DRAIN_LIMIT:
                await asyncio.sleep(0)
                sizes.append(bench.received.qsize() - sum(sizes))
            assert max(sizes) <= DRAIN_LIMIT
            return bench.received.qsize()

    assert run(main()) == 3 * DRAIN_LIMIT


def test_a_taken_port_is_a_clear_error_and_leaves_nothing_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((str(HERE), 0))
        port = other.getsockname()[1]
        control = ControlPort(lambda _: None, addresses=[IPv4Address("127.0.0.1"), HERE], port=port)

        with pytest.raises(LispError, match=f"UDP port {port} on {HERE} is in use"):
            control.open()

        assert control.families == frozenset()


def test_an_address_of_another_machine_is_a_clear_error() -> None:
    with pytest.raises(LispError, match="does not have the address"):
        ControlPort(lambda _: None, addresses=[IPv4Address("198.51.100.1")], port=0).open()


def test_closing_in_the_middle_of_a_burst_ends_it() -> None:
    async def main() -> int:
        got: list[Received] = []
        closed = asyncio.Event()

        def take(received: Received) -> None:
            got.append(received)
            control.close()
            closed.set()

        control = ControlPort(take, addresses=[HERE], port=0)
        control.open()
        control.start(asyncio.get_running_loop())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(3):
                peer.sendto(b"x", (str(HERE), control.port))
        await closed.wait()
        return len(got)

    assert run(main()) == 1


@pytest.mark.parametrize("own", ["127.0.0.1", "::1"])
def test_the_kernel_passes_one_in_64_of_a_sampled_sender_and_all_of_others(own: str) -> None:
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, socket.socket(family, socket.SOCK_DGRAM) as flooder:
        receiver.bind((own, 0))
        receiver.setblocking(False)

        def heard(*sampled: Part) -> int:
            _attach_filter(receiver, sampled)
            received = 0
            for _ in range(20):
                for _ in range(100):
                    flooder.sendto(bytes(4), receiver.getsockname())
                received += sum(1 for _ in iter(lambda: _receive(receiver), None))
            return received

        other, flooding = ip_address("198.51.100.1" if own != "::1" else "2001:db8::1"), sender_of(ip_address(own))
        assert heard() == 2000
        assert heard((sender_of(other), ANY_TYPE)) == 2000
        assert 5 <= heard((flooding, ANY_TYPE)) <= 90
        assert 5 <= heard((flooding, 0)) <= 90  # the type of the flood
        assert heard((flooding, 2)) == 2000
        assert heard() == 2000


def _receive(one: socket.socket) -> bytes | None:
    try:
        return one.recv(100)
    except BlockingIOError:
        return None


def test_what_is_noise_is_counted_and_goes_no_further() -> None:
    async def main() -> tuple[list[bytes], dict[str, int]]:
        received: list[bytes] = []
        seen: list[bytes] = []
        all_seen = asyncio.Event()

        def is_noise(octets: bytes) -> bool:
            seen.append(octets)
            if len(seen) == 40:
                all_seen.set()
            return octets[:1] == b"!"

        noisy = ControlPort(lambda one: received.append(one.payload), addresses=[HERE], port=0, is_noise=is_noise)
        noisy.open()
        noisy.start(asyncio.get_running_loop())
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for number in range(40):
                    peer.sendto(b"!" if number % 4 else b"good", (str(HERE), noisy.port))
            await all_seen.wait()
        finally:
            noisy.close()
        return received, dict(noisy.counters)

    received, counters = run(main())

    assert received == [b"good"] * 10
    assert counters == {"received": 40, "noise": 30}


def test_a_turn_of_the_loop_ends_in_time_however_long_each_datagram_takes() -> None:
    async def main() -> list[int]:
        clock = {"turn": 0}
        turns: list[int] = []
        all_seen = asyncio.Event()

        def handle(_: Received) -> None:
            turns.append(clock["turn"])
            if len(turns) == 10:
                all_seen.set()
            ends_at = time.monotonic() + 2 * DRAIN_S
            while time.monotonic() < ends_at:
                pass

        async def count() -> None:
            while True:
                clock["turn"] += 1
                await asyncio.sleep(0)

        slow = ControlPort(handle, addresses=[HERE], port=0)
        slow.open()
        slow.start(asyncio.get_running_loop())
        counting = asyncio.create_task(count())
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for _ in range(10):
                    peer.sendto(b"slow", (str(HERE), slow.port))
            await all_seen.wait()
        finally:
            counting.cancel()
            slow.close()
        return turns

    turns = run(main())

    assert len(set(turns)) == 10
