"""The control socket as a file, and the client's side of it."""

from __future__ import annotations

import asyncio
import socket
import stat
import time
from pathlib import Path

import pytest

from lispmob.api import server as server_module
from lispmob.api.client import Client, ReplyError
from lispmob.api.listen import SocketRefusedError
from lispmob.api.schema import Event
from lispmob.api.server import ControlServer
from lispmob.errors import LispError, NotRunning
from tests.api.fake_backend import FakeBackend, served

AT = "2026-01-31T12:00:00Z"


def test_every_user_may_connect_and_the_file_goes_with_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lispd.sock"
    with served(path):
        mode = path.lstat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666
    assert not path.exists()


def test_a_socket_without_a_listener_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lispd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with served(path), Client(str(path)) as client:
        assert client.call("version")["api"] == 1


def refusal(path: Path) -> str:
    with pytest.raises(SocketRefusedError) as caught:
        asyncio.run(ControlServer(FakeBackend(), path).start())
    return str(caught.value)


def test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "lispd.sock"
    with served(path):
        assert refusal(path) == f"{path}: another lispd listens here; stop it first, or set control.socket"
        with Client(str(path)) as client:
            assert client.call("version")["api"] == 1


def test_a_path_that_cannot_be_a_socket_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")

    assert "something that is no socket stands here" in refusal(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    assert "File exists" in refusal(tmp_path / "file" / "sock")
    assert "at most 107 octets" in refusal(tmp_path / ("x" * 120))


def test_a_client_that_is_sent_away_and_stays_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LEAVE_PATIENCE_S", 0.05)
    with served(tmp_path / "s") as daemon, socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(str(daemon.path))
        one.sendall(b'{"v":1,"id":1,"method":"events","params":{"follow":true}}\n')
        one.recv(1000)
        daemon.publish(*([Event(kind="miss", at=AT, fields={"text": "x" * 10_000})] * 100))

        deadline = time.monotonic() + 5
        while daemon.server._clients and time.monotonic() < deadline:
            daemon.run(lambda: time.sleep(0.01))

        assert not daemon.server._clients


def test_closing_does_not_wait_for_clients_that_do_not_read(tmp_path: Path) -> None:
    with served(tmp_path / "s") as daemon, socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(str(daemon.path))
        one.sendall(b'{"v":1,"id":1,"method":"events","params":{"follow":true}}\n')
        one.recv(1000)
        daemon.publish(*([Event(kind="miss", at=AT, fields={"text": "x" * 10_000})] * 40))

        daemon.stop()


def test_a_socket_file_that_another_daemon_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "lispd.sock"
    with served(path):
        path.unlink()
        path.write_text("another's")

    assert path.exists()


@pytest.mark.parametrize("path", ["a\0b", "x" * 200, "/dev/null/x"])
def test_a_path_that_cannot_be_connected_to_is_one_of_our_errors(path: str) -> None:
    with pytest.raises(LispError):
        Client(path)


def test_the_client_says_how_to_start_a_daemon_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="systemctl start lispd"):
        Client(str(tmp_path / "none"))


@pytest.mark.parametrize("raw", [b"", b"nonsense\n", b"[]\n", b"{}\n", b'{"v":1,"id":99,"result":1}\n', b'{"v":1'])
def test_the_client_survives_a_server_that_talks_nonsense(tmp_path: Path, raw: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with Client(str(tmp_path / "s")) as client:
            other, _ = server.accept()
            other.sendall(raw)
            other.close()
            with pytest.raises(ReplyError):
                client.call("status")
