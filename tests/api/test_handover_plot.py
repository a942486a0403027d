"""lispctl handovers --plot: the picture of moves."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.lispctl.handover_plot import LEFT, RIGHT, WIDTH, plot
from lispmob.lispctl.main import main
from tests.api.fake_backend import MOVE, served

SVG = "{http://www.w3.org/2000/svg}"
MS = st.floats(-5000, 60_000, allow_nan=False)


def drawn(moves: list[dict[str, Any]]) -> ElementTree.Element:
    return ElementTree.fromstring(plot(moves))  # noqa: S314 - our own


def bars(picture: ElementTree.Element) -> list[tuple[float, float]]:
    found = [element for element in picture.iter(f"{SVG}rect") if "x" in element.attrib]
    return [(float(element.attrib["x"]), float(element.attrib["width"])) for element in found]


def move(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(MOVE)
    return made | more


def test_a_move_shows_its_steps_and_a_bar_for_each_silence() -> None:
    picture = drawn([move()])
    texts = [element.text or "" for element in picture.iter(f"{SVG}text")]

    assert texts[0].startswith("#4")
    assert [text for text in texts if "smr" in text] == ["+0.9 ms  smr  203.0.113.5"]
    assert {"gap out", "1.2 ms", "gap in", "31.0 ms"} <= set(texts)
    assert len(list(picture.iter(f"{SVG}circle"))) == len(MOVE.steps)


def test_a_bar_ends_with_the_first_packet_after_the_silence() -> None:
    picture = drawn([move(gap_out_ms=None)])
    ((begin, width),) = bars(picture)
    last = max(float(element.attrib["cx"]) for element in picture.iter(f"{SVG}circle"))

    assert begin + width == pytest.approx(last, abs=0.2)


@given(
    st.lists(
        st.builds(
            lambda at_ms, what: {"at_ms": at_ms, "what": what, "detail": "<&\"'>\x1b"},
            MS,
            st.sampled_from(["uplink", "register", "first-packet-in", "first-packet-out"]),
        ),
        max_size=6,
    ),
    st.none() | st.floats(0, 1e5),
    st.none() | st.floats(0, 1e5),
)
def test_whatever_a_move_was_like_the_picture_is_well_formed_and_within_its_frame(
    steps: list[dict[str, Any]], gap_out: float | None, gap_in: float | None
) -> None:
    picture = drawn([move(steps=steps, gap_out_ms=gap_out, gap_in_ms=gap_in)] * 2)

    for begin, width in bars(picture):
        assert LEFT - 1 <= begin <= begin + width <= WIDTH - RIGHT + 2
    ticks = [element for element in picture.iter(f"{SVG}text") if element.attrib["text-anchor"] == "middle"]
    assert len(ticks) <= 2 * 12


def test_the_picture_goes_into_a_file_and_what_cannot_be_written_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "lispd.sock") as one:
        base = ["--socket", str(one.path), "handovers", "--plot"]
        assert main([*base, str(tmp_path / "moves.svg")]) == 0
        assert main([*base, str(tmp_path / "none" / "moves.svg")]) == 1
        assert main([*base, str(tmp_path / "empty.svg"), "--last", "0"]) == 0

    printed = capsys.readouterr()
    assert printed.out.startswith("drew 1 move into ")
    assert "No such file" in printed.err
    assert "no move since" in (tmp_path / "empty.svg").read_text()
    assert ElementTree.parse(tmp_path / "moves.svg").getroot().tag == f"{SVG}svg"  # noqa: S314 - our own
