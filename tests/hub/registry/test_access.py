"""Access to the servers of a registry: passwords, the rights of a user, and certificates."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lispmob.hub.valkey.connection import Credentials, Server
from lispmob.hub.valkey.servers import Servers
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from tests.hub.registry.conftest import addresses
from tests.hub.registry.rig import LAPTOP, SILENCE_S, ValkeyGround, laptop, problem, run, until

HUB_PAGE = Path(__file__).parents[3] / "docs/hub.md"


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
