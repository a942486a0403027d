"""A hub of several processes behind one address, with a real server and real sockets."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lispmob.lab import link
from lispmob.lab.cluster.fleet import KEY, Fleet
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Daemon, module
from lispmob.lab.valkey import ValkeyServer, program

pytestmark = pytest.mark.netns

HUB = "127.0.0.21"
PATIENCE_S = 30.0


def configuration(directory: Path, processes: int) -> Path:
    path = directory / "hub.conf"
    path.touch(mode=0o600)
    path.write_text(f"""\
sites:
  - name: all
    eids: [10.0.0.0/8]
    key: {KEY.secret.decode()}
    accept-more-specifics: yes
listen: [{HUB}]
state-file: none
registry: {{valkey: ["127.0.0.11:7100"]}}
workers: {processes}
control-socket: {directory}/hub.sock
""")
    return path


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def wait_for(daemon: Daemon, condition: object) -> None:
    until = time.monotonic() + PATIENCE_S
    assert callable(condition)
    while not condition():
        assert time.monotonic() < until, daemon.log_tail()
        daemon.check()
        time.sleep(0.05)


def is_listening(space: Namespace, count: int) -> bool:
    return len(space.run("ss", "-lunH", f"sport = :4342 and src = {HUB}").splitlines()) == count


def test_three_processes_serve_one_address_and_outlive_one_of_them(namespaces: NamespaceSet, tmp_path: Path) -> None:
    if program() is None:
        pytest.skip("no Valkey or Redis server is installed: apt-get install redis-tools")
    space = namespaces.make("cell")
    link.apply(space, ["link set lo up"])
    server = ValkeyServer(tmp_path / "server", "127.0.0.11", 7100, (), space).start()
    server.wait()
    command = module("lispmob.hub.daemon", "-c", str(configuration(tmp_path, 3)))
    with Daemon("hub", space, command, tmp_path / "hub.log") as daemon:
        wait_for(daemon, lambda: daemon.log_text().count("ready sites") == 3)
        fleet = Fleet(space, [HUB], 60)

        for node in fleet.nodes:
            fleet.register(node)
        assert fleet.settle(PATIENCE_S)
        assert [fleet.where(node, HUB) for node in fleet.nodes[:20]] == [node.rloc for node in fleet.nodes[:20]]

        first, _ = children(daemon.pid)
        os.kill(first, signal.SIGKILL)
        for node in fleet.nodes:
            fleet.register(node, move=True)
        assert fleet.settle(PATIENCE_S)
        wait_for(daemon, lambda: daemon.log_text().count("ready sites") == 4)
        assert [fleet.where(node, HUB) for node in fleet.nodes[:20]] == [node.rloc for node in fleet.nodes[:20]]
        assert is_listening(space, 3)

        another = Daemon("another", space, command, tmp_path / "another.log")
        with another:
            while another.is_running:
                time.sleep(0.05)
            assert "is in use" in another.log_text()
        fleet.close()
    server.kill()

    assert "started again" in (tmp_path / "hub.log").read_text()
    assert is_listening(space, 0)
