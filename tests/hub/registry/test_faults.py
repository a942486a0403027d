"""Faults of a registry's servers: the log names each in a sentence, and nodes notice as little as possible."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from binascii import crc_hqx
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lispmob.hub.map_server.commit import Prepared
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import Credentials, Server
from lispmob.hub.valkey.registry import SharedRegistry
from lispmob.hub.valkey.servers import Servers
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from tests.hub.exchange import Xtr, eid, xtr
from tests.hub.registry.conftest import addresses
from tests.hub.registry.rig import SILENCE_S, TestHub, ValkeyGround, run, until

LAPTOP = "10.1.9.9/32"
HUB_PAGE = Path(__file__).parents[3] / "docs/hub.md"


def laptop(address: str = "203.0.113.5", name: bytes = b"l" * 16) -> Xtr:
    return xtr(address, xtr_id=name)


def problem(hub: TestHub) -> str:
    return (hub.registry.problem or "") if hub.registry is not None else ""


def shared(hub: TestHub) -> SharedRegistry:
    assert isinstance(hub.registry, SharedRegistry)
    return hub.registry


@pytest.fixture
def own_server(tmp_path: Path, server: ValkeyServer) -> Iterator[ValkeyServer]:
    """A server of this test alone, which is not running yet."""
    ((address, port),) = addresses(21, 1)
    one = ValkeyServer(tmp_path / "own", address, port)
    yield one
    one.kill()


@pytest.fixture
def breakable(tmp_path: Path, server: ValkeyServer) -> Iterator[ValkeyCluster]:
    """A cluster of this test alone, which replaces a primary after half a second of silence."""
    with ValkeyCluster(tmp_path / "cluster", addresses(31, 6), node_timeout_ms=1000) as cluster:
        yield cluster


def test_servers_that_are_away_at_the_start_are_found_later(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(own_server).hub(is_ready=False, is_island_allowed=False)
        told = problem(hub)
        refused = await hub.register(laptop().register(LAPTOP), SILENCE_S)
        asked = await hub.places(LAPTOP, SILENCE_S)

        own_server.start().wait()
        await until(lambda: shared(hub).is_ready)

        assert f"{own_server} cannot be reached" in told
        assert (refused, asked) == (None, None), "it says nothing that it does not know"
        assert await hub.register(laptop().register(LAPTOP)) is not None
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        assert problem(hub) == ""
        await hub.stop()

    run(scene())


def test_an_island_takes_registers_in_and_brings_them_home(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        ground = ValkeyGround(own_server)
        hub = await ground.hub()
        await hub.register(laptop().register(LAPTOP))
        own_server.kill()
        await hub.register(laptop("203.0.113.6").register(LAPTOP), SILENCE_S)
        await asyncio.sleep(0.5)

        taken = await hub.register(laptop("203.0.113.7").register(LAPTOP))
        newcomer = await hub.register(laptop(name=b"n" * 16).register("10.1.1.1/32"))
        answered = await hub.places(LAPTOP)
        unknown = await hub.places("10.1.200.200/32", SILENCE_S)
        own_server.start().wait()
        await until(lambda: shared(hub).counters["registry_island"] == 0)
        await until(lambda: shared(hub).is_ready)
        other = await ground.hub()

        assert taken is not None
        assert newcomer is not None
        assert answered == ["203.0.113.7"]
        assert unknown is None, "somebody else may know it"
        assert await other.places(LAPTOP) == ["203.0.113.7"]
        assert await other.places("10.1.1.1/32") == ["203.0.113.5"]
        await hub.stop()
        await other.stop()

    run(scene())


def test_what_an_island_took_in_gives_way_to_newer_registers(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        ground = ValkeyGround(own_server)
        hub = await ground.hub()
        node = laptop()
        await hub.register(node.register(LAPTOP))
        own_server.freeze()
        await hub.register(node.register(LAPTOP), 1.5)
        await asyncio.sleep(0.5)
        island = laptop("203.0.113.6").register(LAPTOP)
        newer = laptop("203.0.113.9").register(LAPTOP)
        assert await hub.register(island) is not None
        own_server.thaw()
        other = await ground.hub()
        assert await other.register(newer) is not None

        await until(lambda: shared(hub).counters["registry_island"] == 0)
        await until(lambda: shared(hub).is_ready)

        assert await hub.places(LAPTOP) == ["203.0.113.9"]
        assert await other.places(LAPTOP) == ["203.0.113.9"]
        await hub.stop()
        await other.stop()

    run(scene())


def test_an_island_refuses_what_it_knows_to_be_old(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        hub = await ValkeyGround(own_server).hub()
        node = laptop()
        recorded = node.register(LAPTOP, rlocs=["192.0.2.66"])
        await hub.register(recorded)
        await hub.register(node.register(LAPTOP))
        own_server.kill()
        await hub.register(recorded, SILENCE_S)
        await asyncio.sleep(0.5)

        refused = await hub.register(recorded, SILENCE_S)

        assert refused is None
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_a_hub_that_may_be_no_island_stays_silent(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        hub = await ValkeyGround(own_server).hub(is_island_allowed=False)
        await hub.register(laptop().register(LAPTOP))
        own_server.kill()
        await hub.register(laptop().register(LAPTOP), SILENCE_S)
        await asyncio.sleep(0.6)

        refused = await hub.register(laptop("203.0.113.6").register(LAPTOP), SILENCE_S)

        assert refused is None
        assert await hub.places(LAPTOP) == ["203.0.113.5"], "what it knows it answers until that runs out"
        assert shared(hub).counters["registry_silent"] == 2
        await hub.stop()

    run(scene())


def test_a_server_that_stands_still_holds_nobody_up_for_long(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        hub = await ValkeyGround(own_server).hub(is_island_allowed=False)
        own_server.freeze()
        try:
            assert await hub.register(laptop().register(LAPTOP), SILENCE_S) is None
            await until(lambda: "answered nothing" in problem(hub) or "does not answer" in problem(hub))
            await until(lambda: not shared(hub)._tasks or shared(hub).counters.get("registry_silent"))
        finally:
            own_server.thaw()
        await until(lambda: shared(hub).is_ready)
        assert await hub.register(laptop().register(LAPTOP)) is not None
        await hub.stop()

    run(scene())


def test_a_wrong_password_is_said_and_a_right_one_found(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        own_server.ask("CONFIG", "SET", "requirepass", "the right one")
        ground = ValkeyGround(own_server)
        wrong = await ground.hub(password=b"a wrong one", is_ready=False)
        none = await ground.hub(is_ready=False)

        assert "password-file" in problem(wrong)
        assert "password-file" in problem(none)

        right = await ground.hub(password=b"the right one")
        assert await right.register(laptop().register(LAPTOP)) is not None
        for hub in (wrong, none, right):
            await hub.stop()

    run(scene())


def test_a_user_that_may_not_run_scripts_is_said(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        own_server.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")
        hub = await ValkeyGround(own_server).hub(is_ready=False, is_island_allowed=False)

        assert await hub.register(laptop().register(LAPTOP), SILENCE_S) is None

        await until(lambda: "ACL" in problem(hub))
        await hub.stop()

    run(scene())


def test_a_user_with_the_rights_that_the_documentation_names_may_do_all_that_a_hub_does(
    breakable: ValkeyCluster,
) -> None:
    rights = re.search(r"^user hubs on >\S+ (.*)$", HUB_PAGE.read_text(), re.MULTILINE)
    assert rights is not None
    for one in breakable.servers:
        one.ask("ACL", "SETUSER", "hubs", "on", ">word", *rights[1].split())

    async def scene() -> None:
        ground = ValkeyGround(breakable)
        here, there = [await ground.hub(user="hubs", password=b"word", name=name) for name in ("one", "two")]
        assert await here.register(laptop().register(LAPTOP)) is not None
        assert await there.places(LAPTOP) == ["203.0.113.5"]
        await asyncio.sleep(1.5)  # some rounds of the work that is done once a second

        assert (problem(here), problem(there)) == ("", "")
        assert breakable.servers[0].ask("ACL", "LOG") == []

    run(scene())


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.1, 0.3])
def test_a_hub_that_has_just_begun_can_end(cluster: ValkeyCluster, pause_s: float) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(cluster).hub(is_ready=False)
        await asyncio.sleep(pause_s)

        async with asyncio.timeout(10.0):
            await hub.stop()

        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []

    run(scene())


def test_half_a_cluster_serves_its_half_and_the_other_is_named(breakable: ValkeyCluster) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(breakable).hub(is_island_allowed=False)
        primary = breakable.owner_of(str(keys.bucket_of(eid(LAPTOP))))
        mates = [f"10.1.1.{number}/32" for number in range(40)]
        theirs = [one for one in mates if breakable.owner_of(str(keys.bucket_of(eid(one)))) is not primary]
        replica = breakable.replica_of(primary)
        replica.kill()
        primary.kill()

        refused = await hub.register(laptop().register(LAPTOP), SILENCE_S)
        taken = await hub.register(laptop(name=b"t" * 16).register(theirs[0]))
        await until(lambda: " of 1024 parts" in problem(hub))

        assert refused is None
        assert taken is not None
        assert str(primary) in problem(hub)
        assert await hub.places(theirs[0]) == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_writes_that_a_dead_primary_kept_to_itself_are_put_again(breakable: ValkeyCluster) -> None:
    async def scene() -> None:
        ground = ValkeyGround(breakable)
        hub, other = await ground.hub(), await ground.hub()
        bucket = str(keys.bucket_of(eid(LAPTOP)))
        await hub.register(laptop().register(LAPTOP))
        primary = breakable.owner_of(bucket)
        replica = breakable.replica_of(primary)
        replica.freeze()
        assert await hub.register(laptop("203.0.113.6").register(LAPTOP)) is not None
        primary.kill()
        replica.thaw()

        await until(lambda: shared(hub).counters.get("registry_put_again") and shared(hub).is_ready)
        await until(lambda: shared(other).is_ready)

        assert breakable.owner_of(bucket) is replica
        assert await other.places(LAPTOP) == ["203.0.113.6"]
        assert await hub.places(LAPTOP) == ["203.0.113.6"]
        await hub.stop()
        await other.stop()

    run(scene())


def test_what_an_island_brought_home_is_put_again_when_that_home_dies(breakable: ValkeyCluster) -> None:
    async def scene() -> None:
        ground = ValkeyGround(breakable)
        hub, other = await ground.hub(), await ground.hub()
        bucket = str(keys.bucket_of(eid(LAPTOP)))
        primary = breakable.owner_of(bucket)
        replica = breakable.replica_of(primary)
        wanted = hub.plane.prepare(laptop("203.0.113.6").register(LAPTOP), asyncio.get_running_loop().time())
        assert isinstance(wanted, Prepared)
        (taken,) = wanted.puts
        shared(hub)._island[taken.prefix, taken.part.xtr] = taken
        replica.freeze()
        await until(lambda: not shared(hub).counters["registry_island"])
        primary.kill()
        replica.thaw()

        await until(lambda: shared(hub).counters.get("registry_put_again") and shared(hub).is_ready)
        await until(lambda: shared(other).is_ready)

        assert breakable.owner_of(bucket) is replica
        assert await other.places(LAPTOP) == ["203.0.113.6"]

    run(scene())


def test_a_slot_that_moves_loses_nothing_and_refuses_nobody(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        ground = ValkeyGround(cluster)
        hub, other = await ground.hub(), await ground.hub()
        bucket = keys.bucket_of(eid(LAPTOP))
        await hub.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        source = cluster.owner_of(str(bucket))
        target = next(
            server
            for server in cluster.servers
            if server is not source and b"role:master" in server.ask("INFO", "replication")
        )

        answers = [
            await hub.register(laptop(f"203.0.113.{number}").register(LAPTOP))
            for number in moving(bucket, source, target)
        ]
        await until(lambda: shared(hub).is_ready and shared(other).is_ready)
        await hub.register(laptop("203.0.113.99").register(LAPTOP))
        await until(lambda: other.changes[-1].record is not None)

        assert all(answer is not None for answer in answers)
        assert cluster.owner_of(str(bucket)) is target
        assert await other.places(LAPTOP) == ["203.0.113.99"]
        await hub.stop()
        await other.stop()

    run(scene())


def moving(bucket: int, source: ValkeyServer, target: ValkeyServer) -> Iterator[int]:
    """The steps by which redis-cli moves a slot; nodes register between them."""
    slot = crc_hqx(str(bucket).encode(), 0) % 16384
    names = {server: server.ask("CLUSTER", "MYID") for server in (source, target)}
    yield 20
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    yield 21
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    yield 22
    found = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    source.ask("MIGRATE", target.address, target.port, "", 0, 5000, "KEYS", *found)
    yield 23
    for server in (target, source):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    yield 24


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk that is full is made by mounting one: needs root")
def test_a_full_disk_is_said_and_nodes_go_on(own_server: ValkeyServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "lispmob-full", str(disk)], check=True)
    try:
        small = ValkeyServer(
            disk, own_server.address, own_server.port, ["--appendonly", "yes", "--appendfsync", "everysec"]
        )
        small.start().wait()
        try:
            run(_fill(small))
        finally:
            small.kill()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def _fill(small: ValkeyServer) -> None:
    hub = await ValkeyGround(small).hub()
    assert await hub.register(laptop().register(LAPTOP)) is not None
    for number in range(200):
        if str(small.ask("SET", f"waste{number}", b"w" * 4096)).startswith("-MISCONF"):
            break

    await hub.register(laptop("203.0.113.6").register(LAPTOP), SILENCE_S)
    await asyncio.sleep(0.6)
    taken = await hub.register(laptop("203.0.113.7").register(LAPTOP))

    assert "disk" in problem(hub)
    assert taken is not None, "an island"
    assert await hub.places(LAPTOP) == ["203.0.113.7"]
    await hub.stop()


def test_a_registry_of_a_newer_version_is_left_alone(server: ValkeyServer) -> None:
    async def scene() -> None:
        server.ask("SET", keys.VERSION_KEY + b"{0}", "2")
        hub = await ValkeyGround(server).hub(is_ready=False)
        before = server.ask("DBSIZE")

        await hub.register(laptop().register(LAPTOP), SILENCE_S)
        await asyncio.sleep(0.6)
        taken = await hub.register(laptop("203.0.113.7").register(LAPTOP))

        assert "version 2" in problem(hub)
        assert "upgrade" in problem(hub)
        assert taken is not None
        assert server.ask("DBSIZE") == before
        await hub.stop()
        server.ask("DEL", keys.VERSION_KEY + b"{0}")

    run(scene())


def test_values_that_are_damaged_are_counted_and_replaced(server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(server).hub()
        await hub.register(laptop().register(LAPTOP))
        bucket = keys.bucket_of(eid(LAPTOP))
        (name,) = server.ask("ZRANGE", keys.key(b"x", bucket), 0, -1)
        for damaged in (b"\xff\xff", b"\x00\x01x"):
            server.ask("SET", keys.key(b"r", bucket, name), damaged)
            other = await ValkeyGround(server).hub()
            assert await other.places(LAPTOP) == []
            await other.stop()

        acknowledged = await hub.register(laptop("203.0.113.8").register(LAPTOP))

        assert acknowledged is not None
        await hub.stop()

    run(scene())


def test_octets_that_are_no_message_are_counted(server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(server).hub()
        for octets in (b"", b"x", b"\x00" * 27, b"\xff" * 40):
            server.ask("SPUBLISH", keys.channel_of(7), octets)

        await until(lambda: shared(hub).counters.get("registry_unread") == 4)

        assert await hub.register(laptop().register(LAPTOP)) is not None
        await hub.stop()

    run(scene())


class SkewedLoop(asyncio.SelectorEventLoop):
    """The event loop of a machine whose clock differs."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__()
        self._ahead_s = ahead_s

    def time(self) -> float:
        return super().time() + self._ahead_s


@pytest.mark.parametrize("ahead_s", [-30_000.0, 365 * 86_400.0])
def test_a_hub_with_a_clock_of_its_own_sees_how_long_what_another_took_in_is_good_for(
    server: ValkeyServer, ahead_s: float
) -> None:
    async def take_in() -> None:
        hub = await ValkeyGround(server).hub()
        assert await hub.register(laptop().register(LAPTOP)) is not None

    async def look() -> None:
        hub = await ValkeyGround(server).hub()
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        registration = hub.plane.map_server.registrations.get(eid(LAPTOP))
        assert registration is not None
        (part,) = registration
        assert 100 < part.expires_at - asyncio.get_running_loop().time() <= 180
        assert await hub.register(laptop("203.0.113.6").register("10.1.7.7/32")) is not None
        await hub.stop()

    run(take_in())
    with asyncio.Runner(loop_factory=lambda: SkewedLoop(ahead_s)) as runner:
        runner.run(look())

    async def look_again() -> None:
        hub = await ValkeyGround(server).hub()
        assert await hub.places("10.1.7.7/32") == ["203.0.113.6"]

    run(look_again())


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[Server, Path, Path]]:
    """A server that speaks TLS, the issuer of its certificate, and another one that is not."""
    ((address, port),) = addresses(51, 1)
    own, stranger = make_certificate(tmp_path / "own", address), make_certificate(tmp_path / "stranger", address)
    tls = ["--tls-port", str(port + 1), "--tls-auth-clients", "no"]
    tls += ["--tls-cert-file", str(own.with_suffix(".pem")), "--tls-key-file", str(own.with_suffix(".key"))]
    tls += ["--tls-ca-cert-file", str(own.with_suffix(".pem"))]
    one = ValkeyServer(tmp_path / "tls", address, port, tls).start()
    try:
        one.wait()
        yield Server(address, port + 1), own.with_suffix(".pem"), stranger.with_suffix(".pem")
    finally:
        one.kill()


def make_certificate(path: Path, address: str) -> Path:
    """Make a key and a self-signed certificate for an address."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path.with_suffix(".pem")), "-days", "2"]
    subprocess.run([*command, "-subj", "/CN=server", "-addext", f"subjectAltName=IP:{address}"], check=True)
    return path


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_servers_are_reached_by_tls_where_their_certificate_is_good(
    server: ValkeyServer, certified: tuple[Server, Path, Path]
) -> None:
    place, own, stranger = certified

    async def problem_with(credentials: Credentials) -> str | None:
        servers = Servers((place,), credentials, lambda _: None)
        await servers.start()
        try:
            with suppress(TimeoutError):
                await until(lambda: not servers.unserved, 3.0)
            return servers.problem
        finally:
            await servers.stop()

    async def scene() -> None:
        assert await problem_with(Credentials(tls=True, tls_ca=own)) is None
        wrong = await problem_with(Credentials(tls=True, tls_ca=stranger))
        assert wrong is not None
        assert "certificate verify failed" in wrong
        assert str(place) in (await problem_with(Credentials()) or "")

    run(scene())
