"""The debug messages of libraries stay out of the daemons' log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from lispmob import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("name", ["pyroute2.netlink.core", "asyncio", "dbus_next.message_bus", "pr2modules"])
def test_the_debugging_of_a_library_stays_out_although_it_sets_its_level_later(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug")
    library = logging.getLogger(name)
    library.setLevel(1)  # as pyroute2 does when it is imported

    library.debug("every message")
    library.warning("something is wrong")

    said = capsys.readouterr().err
    assert "every message" not in said
    assert "something is wrong" in said


def test_our_own_debugging_is_there_when_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")

    logging.getLogger("lispmob.hub").debug("an answer left")

    assert "an answer left" in capsys.readouterr().err
