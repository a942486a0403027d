"""A flow outlives the lispd that opened it: the next lispd adopts it, and its peer notices nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.errors import LispError
from lispmob.flow import NoFlowDaemon, PeerGone, aio, client
from lispmob.flow.adopting import read_adoption
from lispmob.flow.adoption import Adoption, NotAdoptable
from lispmob.flow.auth import FlowKey
from lispmob.flow.effect import FlowId, FlowOpened
from lispmob.flow.errors import FlowError
from lispmob.flow.limits import Limits
from lispmob.flow.message import Kind, Reason

from .local import LocalFlows, free_port
from .world import B, Host, Network, kinds, pair

KEY = FlowKey(7, b"sixteen octets at least")


def restarted(network: Network, former: Host, name: str, **wishes: Any) -> Host:
    """A new daemon at the same address, without memory; programs and their sockets are still there."""
    new = Host(network, former.address, name, **wishes)
    new.endpoint.new_id = count(1000).__next__  # type: ignore[method-assign]
    return new


def shown(host: Host, opened: FlowOpened, *, is_ours: bool) -> Adoption:
    assert opened.nonces is not None
    return Adoption(
        opened.name.decode(), is_ours, host.address, host.ports[opened.flow], opened.peer, opened.port,
        *opened.nonces, opened.control_port, opened.lifetime_s, opened.granted,
    )  # fmt: skip


def adopt(network: Network, host: Host, one: Adoption, key: FlowKey | None = None) -> FlowId:
    flow, effects = host.endpoint.adopt(one, key, network.now)
    host.ports[flow] = one.own_port
    host.connected[flow] = one.peer, one.peer_port
    host.perform(effects)
    return flow


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("who", ["caller", "holder", "both"])
@pytest.mark.parametrize("closer", ["caller", "holder"])
def test_an_adopted_flow_is_kept_alive_and_ends_for_both(who: str, closer: str, key: FlowKey | None) -> None:
    network, a, b = pair()
    b.hold("safe", key=key)
    a.call(B, "safe", lifetime_s=60, key=key)
    network.run(1.0)
    of_a, of_b = shown(a, a.opened[0], is_ours=True), shown(b, b.opened[0], is_ours=False)
    flows = {"caller": a.opened[0].flow, "holder": b.opened[0].flow}
    network.run(10.0)

    if who in ("caller", "both"):
        a = restarted(network, a, "a")
        flows["caller"] = adopt(network, a, of_a, key)
    if who in ("holder", "both"):
        b = restarted(network, b, "b")
        flows["holder"] = adopt(network, b, of_b, key)
    network.run(600.0)
    assert a.ended == b.ended == []

    closing, hearing = (a, b) if closer == "caller" else (b, a)
    closing.close(flows[closer])
    network.run(10.0)

    assert [ended.reason_code for ended in hearing.ended] == [Reason.DONE]
    assert closing.ended == []


def test_a_flow_that_the_peer_has_forgotten_ends_after_its_lifetime() -> None:
    network, a, b = pair()
    a.call(B, "backup", lifetime_s=60)
    network.run(1.0)
    of_a = shown(a, a.opened[0], is_ours=True)
    b.close(b.opened[0].flow)
    network.run(60.0)

    a = restarted(network, a, "a")
    flow = adopt(network, a, of_a)
    network.run(30.0)
    assert a.ended == []
    network.run(60.0)

    assert [(ended.flow, ended.reason_code) for ended in a.ended] == [(flow, Reason.NO_ANSWER)]


def test_a_flow_without_a_lifetime_is_adopted_without_a_word() -> None:
    network, a, _b = pair()
    a.call(B, "backup", lifetime_s=0)
    network.run(1.0)
    of_a = shown(a, a.opened[0], is_ours=True)
    network.sent.clear()

    adopt(network, restarted(network, a, "a"), of_a)
    network.run(600.0)

    assert Kind.ALIVE not in kinds(network)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_flow_is_adopted_once(is_ours: bool) -> None:
    network, a, b = pair()
    a.call(B, "backup")
    network.run(1.0)
    host = a if is_ours else b
    one = shown(host, host.opened[0], is_ours=is_ours)
    new = restarted(network, host, host.address.exploded)
    adopt(network, new, one)

    with pytest.raises(NotAdoptable, match="known already"):
        adopt(network, new, one)
    with pytest.raises(NotAdoptable, match="known already"):
        host.endpoint.adopt(one, None, network.now)


def test_no_more_flows_are_adopted_than_there_may_be() -> None:
    network, a, b = pair()
    a.call(B, "backup")
    network.run(1.0)
    one = shown(b, b.opened[0], is_ours=False)
    new = restarted(network, b, "b", limits=Limits(flows=1))
    adopt(network, new, one)

    with pytest.raises(NotAdoptable, match="as many flows"):
        adopt(network, new, replace(one, caller_nonce=b"12345678", peer_port=1))


# --- what a program shows


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, dict[str, Any]]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.9", 9))
        yield one, {
            "role": "caller", "name": "backup", "peer": "127.0.0.9", "nonces": ["11" * 8, "22" * 8],
            "control_port": 3359, "lifetime_s": 600,
        }  # fmt: skip


def test_what_a_program_shows_is_read(connected: tuple[socket.socket, dict[str, Any]]) -> None:
    one, params = connected

    read = read_adoption(params, one)

    assert (read.is_ours, str(read.own), read.own_port) == (True, *one.getsockname())
    assert (str(read.peer), read.peer_port) == ("127.0.0.9", 9)
    assert (read.caller_nonce, read.holder_nonce) == (b"\x11" * 8, b"\x22" * 8)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "thief"}, {"role": None}, {"name": 7}, {"name": ""}, {"name": "a\n"}, {"peer": "127.0.0.8"},
        {"nonces": None}, {"nonces": ["11" * 8]}, {"nonces": ["11" * 8, "22" * 7]}, {"nonces": ["11" * 8, "zz" * 8]},
        {"nonces": ["11" * 8, "00" * 8]}, {"nonces": [1, 2]}, {"control_port": 0}, {"control_port": True},
        {"control_port": 65536}, {"lifetime_s": -1}, {"lifetime_s": "600"}, {"qos": "best"}, {"qos": {"loss": 10_001}},
    ],
)  # fmt: skip
def test_what_does_not_make_sense_is_refused(
    connected: tuple[socket.socket, dict[str, Any]], change: dict[str, Any]
) -> None:
    one, params = connected

    with pytest.raises((LispError, ValueError)):
        read_adoption({**params, **change}, one)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_socket_that_is_no_flow_is_refused(
    connected: tuple[socket.socket, dict[str, Any]], kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as unconnected, pytest.raises(NotAdoptable):
        read_adoption(connected[1], unconnected)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(NotAdoptable):
        read_adoption(connected[1], ours)


# --- programs and daemons


class Pair:
    """Two hosts; the daemon of the first one can stop and start."""

    def __init__(self, directory: Path, **flows: Any) -> None:
        self.port, self.directory, self.flows = free_port(), directory, flows
        self.here = self.start()
        self.there = LocalFlows("127.0.0.3", directory / "there", self.port)

    def start(self) -> LocalFlows:
        return LocalFlows("127.0.0.2", self.directory / "here", self.port, **self.flows)

    def restart(self) -> None:
        self.here.stop()
        self.here = self.start()

    def stop(self) -> None:
        self.here.stop()
        self.there.stop()


async def end(*opened: aio.Flow | aio.Name) -> None:
    for one in opened:
        await one.__aexit__(None, None, None)


def with_pair(directory: Path, use: Callable[[Pair], Any], **flows: Any) -> Any:
    async def run() -> Any:
        both = Pair(directory, **flows)
        try:
            return await asyncio.wait_for(use(both), 30)
        finally:
            both.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("is_caller", [True, False])
def test_a_program_with_asyncio_goes_on_when_lispd_is_back(tmp_path: Path, is_caller: bool) -> None:
    async def use(both: Pair) -> tuple[bytes, bytes, bytes, str]:
        holding, calling = (both.there, both.here) if is_caller else (both.here, both.there)
        name = await aio.register("root-notes", path=holding.path)
        outgoing = await aio.allocate(f"root-notes@{'127.0.0.3' if is_caller else '127.0.0.2'}", path=calling.path)
        incoming = await name.accept()
        ours, theirs = (outgoing, incoming) if is_caller else (incoming, outgoing)
        await theirs.send(b"before")
        before = await ours.recv()
        waiting = asyncio.create_task(ours.recv())

        both.restart()
        while not both.here.service.open_flows():  # noqa: ASYNC110 - nothing tells of it but this
            await asyncio.sleep(0.01)
        await theirs.send(b"after")
        after = await waiting
        await ours.send(b"back")
        back = await theirs.recv()
        await ours.close()
        with pytest.raises(PeerGone) as gone:
            await theirs.recv()
        await end(theirs, name)
        return before, after, back, gone.value.reason

    result = with_pair(tmp_path, use, when_stopped="keep")

    assert result == (b"before", b"after", b"back", "program-ended")


def test_a_program_that_blocks_goes_on_when_lispd_is_back(tmp_path: Path) -> None:
    async def use(both: Pair) -> tuple[bytes, bytes, int]:
        name = await aio.register("root-notes", path=both.there.path)
        flow = await asyncio.to_thread(client.allocate, "root-notes@127.0.0.3", path=both.here.path)
        theirs = await name.accept()

        both.here.stop()
        flow.send(b"one")  # without lispd data flows on while the network stays
        one = await theirs.recv()
        both.here = both.start()
        waiting = asyncio.create_task(asyncio.to_thread(flow.recv, timeout=20))
        while not both.here.service.open_flows():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await theirs.send(b"two")
        two = await waiting
        known = len(both.here.service.open_flows())
        await asyncio.to_thread(flow.close)
        with pytest.raises(PeerGone):
            await theirs.recv()
        await end(theirs, name)
        return one, two, known

    assert with_pair(tmp_path, use, when_stopped="keep") == (b"one", b"two", 1)


def test_a_lispd_that_stops_for_good_tells_both_programs(tmp_path: Path) -> None:
    async def use(both: Pair) -> list[str]:
        name = await aio.register("root-notes", path=both.there.path)
        ours = await aio.allocate("root-notes@127.0.0.3", path=both.here.path)
        theirs = await name.accept()
        both.here.stop()
        reasons = []
        for flow in (ours, theirs):
            with pytest.raises(PeerGone) as gone:
                await flow.recv()
            reasons.append(gone.value.reason)
        await end(ours, theirs, name)
        return reasons

    assert with_pair(tmp_path, use) == ["shutting-down", "shutting-down"]


def test_a_program_that_closes_its_name_or_flow_is_not_adopted(tmp_path: Path) -> None:
    async def use(both: Pair) -> list[str]:
        told = []
        for closes_name in (True, False):
            name = await aio.register("root-notes", path=both.there.path)
            ours = await aio.allocate("root-notes@127.0.0.3", path=both.here.path)
            theirs = await name.accept()
            waiting = asyncio.create_task((theirs if closes_name else ours).recv())
            await asyncio.sleep(0)
            await (end(name) if closes_name else ours.close())
            try:
                await asyncio.wait_for(waiting, 5)
            except (PeerGone, OSError) as gone:
                told.append(type(gone).__name__)
            await end(ours, theirs, name)
        return told

    told = with_pair(tmp_path, use)

    assert told[0] == "PeerGone"
    assert len(told) == 2


def test_a_flow_is_closed_after_its_name(tmp_path: Path) -> None:
    async def use(both: Pair) -> bool:
        name = await asyncio.to_thread(client.register, "root-notes", path=both.there.path)
        ours = await aio.allocate("root-notes@127.0.0.3", path=both.here.path)
        theirs = await asyncio.to_thread(name.accept, 10)
        name.close()
        theirs.close()
        with pytest.raises(PeerGone):
            await ours.recv()
        await end(ours)
        return theirs.socket.fileno() < 0

    assert with_pair(tmp_path, use)


def test_who_shows_a_socket_that_is_no_flow_of_this_host_is_told_why(tmp_path: Path) -> None:
    params = {"role": "caller", "name": "n", "nonces": ["11" * 8, "22" * 8], "control_port": 1, "lifetime_s": 0}

    async def use(both: Pair) -> list[str]:
        connection = aio.Connection(client.connect(both.here.path))
        told = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, (tmp_path / "file").open("w") as file:
            one.connect(("127.0.0.77", 9))
            for given in (one, file, None):
                try:
                    await connection.request("adopt", {**params, "peer": "127.0.0.77"}, given=given)  # type: ignore[arg-type]
                except FlowError as error:
                    told.append(str(error))
        connection.close()
        return told

    told = with_pair(tmp_path, use)

    assert told[0].startswith("127.0.0.1 and 127.0.0.77 are not")
    assert told[1:] == ["the descriptor is no socket", "the socket of the flow is needed, in the same packet"]


def test_a_flow_of_version_0_ends_with_lispd() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        flow = client.Flow(
            client.Connection(ours), {"flow": 1, "name": "old", "peer": "127.0.0.1"}, one, owns=True, path=Path("/none")
        )
        theirs.close()

        with pytest.raises(NoFlowDaemon):
            flow.recv(timeout=5)
