"""The messages that systemd gets (sd_notify)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lispmob.api import sd_notify


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)

    assert not sd_notify.ready("registered")
    assert sd_notify.watchdog_interval_s() is None


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_manager_hears_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool) -> None:
    name = f"@lispmob-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if is_abstract else name)

        assert sd_notify.ready("registered\nwith 1")
        assert manager.recv(1000) == b"READY=1\nSTATUS=registered with 1"
        assert sd_notify.reloading()
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert sd_notify.watchdog()
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert sd_notify.status("moved")
        assert manager.recv(1000) == b"STATUS=moved"
        assert sd_notify.stopping()
        assert manager.recv(1000) == b"STOPPING=1"


def test_a_manager_that_went_away_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))

    assert not sd_notify.stopping()


def test_the_watchdog_is_fed_twice_as_often_as_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert sd_notify.watchdog_interval_s() == 15.0

    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert sd_notify.watchdog_interval_s() is None
