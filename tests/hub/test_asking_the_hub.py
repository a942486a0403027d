"""`lisphub --check`, `--show` and `--reload` tell the truth about the file, and about the running hub."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob import logs
from lispmob.config.secrecy import SERVICE_GROUP, advice
from lispmob.errors import LispError, NotRunning
from lispmob.hub.asking import Answer, ask
from lispmob.hub.control import HubSocket
from lispmob.hub.daemon import main

CONF = """\
listen: [127.0.0.1]
sites:
  - {{name: a, eids: [10.1.0.1/32], key: secret}}
state-file: {directory}/hub.sqlite
control-socket: {directory}/hub.sock
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "hub.conf"
    path.write_text(CONF.format(directory=tmp_path))
    path.chmod(0o600)
    return path


def is_listening(path: Path) -> bool:
    """False while the socket exists and no process listens on it."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


@pytest.fixture
def hub(conf: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running hub that answers."""
    running = subprocess.Popen([sys.executable, "-m", "lispmob.hub.daemon", "-c", str(conf)])
    deadline = time.monotonic() + 20.0
    while not is_listening(conf.parent / "hub.sock"):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield running
    running.terminate()
    running.wait(20.0)


def test_check_says_that_a_good_file_is_good(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(conf), "--check"]) == 0
    assert capsys.readouterr().out == f"{conf}: good\n"


def test_show_without_a_hub_says_so_and_shows_what_was_kept(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(conf), "--show"]) == 3
    assert "lisphub is not running" in capsys.readouterr().err


def test_show_and_reload_ask_the_hub_that_runs(
    hub: subprocess.Popen[bytes], conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (conf.parent / "hub.sqlite").unlink()  # so that what is shown cannot be the file

    assert main(["-c", str(conf), "--show"]) == 0
    assert main(["-c", str(conf), "--reload"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("mistake", ["sites: [{name: a, eids: [10.1.0.1/32]}]", "sitez: []", "sites: [\t]"])
def test_a_reload_with_a_mistake_fails_and_names_it(
    hub: subprocess.Popen[bytes], conf: Path, tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = conf.read_text()
    conf.write_text(mistake)

    assert main(["-c", str(conf), "--reload"]) == 78
    conf.write_text(good)

    assert "hub.conf:1:" in capsys.readouterr().err
    assert main(["-c", str(conf), "--reload"]) == 0
    assert hub.poll() is None


def test_a_refusal_of_the_hub_reaches_the_user_who_asked(tmp_path: Path) -> None:
    async def play() -> list[Answer]:
        async def answer(asked: Answer) -> Answer:
            return {"asked": asked.get("ask")}

        served = HubSocket(tmp_path / "s", answer)
        await served.start()
        answers = [await asyncio.to_thread(ask, tmp_path / "s", what) for what in ("reload", "registrations")]
        assert os.stat(tmp_path / "s").st_mode & 0o007 == 0
        await served.stop()
        return answers

    assert asyncio.run(play()) == [{"asked": "reload"}, {"asked": "registrations"}]
    with pytest.raises(NotRunning):
        ask(tmp_path / "s", "reload")


def test_a_request_that_the_hub_would_not_read_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(LispError, match=r"takes no request of \d+ octets: 4096 at most"):
        ask(tmp_path / "hub.sock", "invite", name="n" * 100_000)


def test_a_hub_that_ends_the_connection_has_its_log_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "hub.sock"))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                reader.readline()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()

        with pytest.raises(LispError, match="ended the connection without an answer; why: sudo journalctl -u lisphub"):
            ask(tmp_path / "hub.sock", "status")
        hanging_up.join()


@pytest.mark.parametrize("line", [b"[" * 4000, b"{}", b"7", b"\xff", b"x" * 10_000])
def test_a_line_that_asks_nothing_ends_its_connection_and_the_next_is_answered(tmp_path: Path, line: bytes) -> None:
    async def play() -> Answer:
        async def answer(asked: Answer) -> Answer:
            return {"asked": asked.get("ask")}

        def send() -> None:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(5)
                one.connect(str(tmp_path / "s"))
                one.sendall(line + b"\n")
                with contextlib.suppress(ConnectionError):
                    while one.recv(4096):
                        pass

        served = HubSocket(tmp_path / "s", answer)
        await served.start()
        trouble: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        await asyncio.to_thread(send)
        answered = await asyncio.to_thread(ask, tmp_path / "s", "again")
        await served.stop()
        assert trouble == []
        return answered

    assert asyncio.run(play()) == {"asked": "again"}


def test_a_file_that_is_no_socket_is_left_alone_and_the_hub_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: Answer) -> Answer:
        return {}

    place = tmp_path / "s"
    place.write_text("mine")
    asyncio.run(HubSocket(place, answer).start())

    assert place.read_text() == "mine"
    assert "no control socket" in caplog.text
    with pytest.raises(LispError):
        ask(place, "reload")


# --- the file with the keys


@pytest.mark.parametrize("file_mode", [0o640, 0o600])
def test_a_file_that_others_cannot_read_needs_no_advice(tmp_path: Path, file_mode: int) -> None:
    path = tmp_path / "hub.conf"
    path.touch()
    path.chmod(file_mode)

    assert advice(path) is None


def test_a_readable_file_in_a_closed_directory_is_a_secret(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o750)
    path = closed / "hub.conf"
    path.touch(mode=0o644)

    assert advice(path) is None


def test_the_advice_leaves_the_service_its_right_to_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = Path("/etc/passwd")  # a file that every user can read, in directories that every user can enter
    groups = {group.gr_name for group in grp.getgrall()}

    told = advice(path)

    assert told is not None
    assert ("chgrp lispmob" in told and "chmod 640" in told) if SERVICE_GROUP in groups else "chmod 600" in told


# --- the log


@pytest.mark.parametrize("name", ["pyroute2", "pyroute2.netlink.core", "asyncio"])
def test_at_debug_the_log_is_ours_whenever_a_library_sets_its_own_level(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("debug")
        logging.getLogger(name.partition(".")[0]).setLevel(logging.DEBUG)  # as if it were loaded later
        logging.getLogger(name).debug("await data on <queue>")
        logging.getLogger(name).warning("something is wrong")
        logging.getLogger("lispmob.hub").debug("ours")
    finally:
        root.handlers[:], root.level = before

    said = capsys.readouterr().err
    assert "await data" not in said
    assert "something is wrong" in said
    assert "ours" in said
