"""One cluster and one single server for all tests of a process; each test finds them empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab.valkey import ValkeyCluster, ValkeyServer, program
from tests.hub.registry.rig import FileGround, Ground, ValkeyGround

_PORT = 17379
PATIENT_MS = 30_000  # on a busy machine a late server must not count as dead


def addresses(first: int, count: int) -> list[tuple[str, int]]:
    """Addresses on loopback that only this process uses."""
    pid = os.getpid()
    return [(f"127.{64 + (pid >> 8) % 128}.{pid % 256}.{first + number}", _PORT) for number in range(count)]


def require_a_server() -> None:
    """Skip the test where no server is installed."""
    if program() is None:
        pytest.skip("no Valkey or Redis server is installed: apt-get install redis-tools")


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    require_a_server()
    with ValkeyCluster(tmp_path_factory.mktemp("cluster"), addresses(1, 6), node_timeout_ms=PATIENT_MS) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    require_a_server()
    ((address, port),) = addresses(11, 1)
    server = ValkeyServer(tmp_path_factory.mktemp("server"), address, port).start()
    try:
        yield server.wait()
    finally:
        server.kill()


@pytest.fixture
def cluster(running_cluster: ValkeyCluster) -> ValkeyCluster:
    for server in running_cluster.servers[: running_cluster.primaries]:
        server.ask("FLUSHALL")
    return running_cluster


@pytest.fixture
def server(running_server: ValkeyServer) -> ValkeyServer:
    running_server.ask("FLUSHALL")
    return running_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test alone, which is not running yet."""
    require_a_server()
    ((address, port),) = addresses(21, 1)
    one = ValkeyServer(tmp_path / "own", address, port)
    yield one
    one.kill()


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """A cluster of this test alone, which replaces a primary after half a second of silence."""
    require_a_server()
    with ValkeyCluster(tmp_path / "cluster", addresses(31, 6), node_timeout_ms=1000) as cluster:
        yield cluster


@pytest.fixture(params=["file", "server", "cluster"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "file":
        return FileGround(tmp_path)
    servers: ValkeyCluster | ValkeyServer = request.getfixturevalue(request.param)
    return ValkeyGround(servers)
