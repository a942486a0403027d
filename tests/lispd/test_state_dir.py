from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lispmob.lispd.state_dir import load_xtr_id


def test_the_xtr_id_stays_the_same_over_restarts(tmp_path: Path) -> None:
    first = load_xtr_id(tmp_path / "state")

    assert len(first) == 16
    assert load_xtr_id(tmp_path / "state") == first


def test_two_nodes_draw_different_xtr_ids(tmp_path: Path) -> None:
    assert load_xtr_id(tmp_path / "a") != load_xtr_id(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "zz", "00ff", "é"])
def test_a_damaged_xtr_id_is_replaced_and_said_so(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "xtr-id").write_text(text)

    with caplog.at_level(logging.WARNING):
        drawn = load_xtr_id(tmp_path)

    assert "xtr-id" in caplog.text
    assert load_xtr_id(tmp_path) == drawn


def test_a_state_directory_that_cannot_be_written_does_not_stop_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    with caplog.at_level(logging.WARNING):
        drawn = load_xtr_id(tmp_path / "file" / "state")

    assert len(drawn) == 16
    assert "the next start draws another one" in caplog.text
