"""What peers send stays within its line of the log, and controls no terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.logs import configure, harmless
from lispmob.wire.address import DistinguishedName

LOG = logging.getLogger("lispmob.test")


@pytest.fixture(params=[True, False])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log as the journal gets it, and as a terminal does."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    if request.param:
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    else:
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure("info")
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize(
    "name",
    [b"x\nready sites=1", b"\x1b[2J", b"a\rb", b"\x07\x08\x7f", b"\xc2\x9b31m", "\u2028\u202e\u0085".encode()],
)
def test_a_name_from_the_network_stays_in_its_line(written: io.StringIO, name: bytes) -> None:
    LOG.info("moved rlocs=%s", DistinguishedName(name))
    LOG.warning("moved rlocs=%s", name.decode("utf-8", "replace"))

    said = written.getvalue()
    assert said.count("\n") == 2
    assert all(one.isprintable() for line in said.split("\n") for one in line)


def test_an_exception_with_such_a_name_cannot_begin_a_line_of_its_own(written: io.StringIO) -> None:
    try:
        raise ValueError("x\n<3>ready\x1b[2J")
    except ValueError:
        LOG.exception("failed")

    said = written.getvalue()
    assert "\x1b" not in said
    assert not any(line.startswith(("<3>ready", "ready")) for line in said.split("\n"))


@given(st.text())
def test_what_is_harmless_is_one_printable_line_and_plain_text_is_left_alone(text: str) -> None:
    assert harmless(text).isprintable()
    if text.isprintable():
        assert harmless(text) == text


def test_a_half_character_is_escaped() -> None:
    assert harmless("a\udc80b") == "a\\udc80b"
