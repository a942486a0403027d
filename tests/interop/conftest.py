"""The table of what was run with which peer: `make interop` writes it to the file that INTEROP_TABLE names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

_PEERS = {
    "test_foreign_node": "a node of our own that no kernel helps",
    "test_open_overlay_router": "Open Overlay Router",
    "test_ddt": "Open Overlay Router",
    "test_lispers_net": "lispers.net",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write one line for each test, with the figures that it recorded."""
    if not (path := os.environ.get("INTEROP_TABLE")):
        return
    told = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    rows = sorted((_peer(report.nodeid), _words(report.nodeid), *_result(report)) for report in told)
    text = "\n".join(_lines(rows)) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    terminalreporter.write_line(f"\n{text}\n{path}")


def _lines(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    for peer, of_peer in groupby(rows, key=lambda row: row[0]):
        yield from ("", f"## With {peer}", "", "| what holds | result | figures |", "|---|---|---|")
        for _, words, result, figures in of_peer:
            yield f"| {words} | {result} | {figures} |"


def _peer(nodeid: str) -> str:
    module = Path(nodeid.partition("::")[0]).stem
    return next((peer for name, peer in _PEERS.items() if module.startswith(name)), module)


def _words(nodeid: str) -> str:
    """The name of a test as a sentence, and its parameters."""
    name, _, parameters = nodeid.rpartition("::")[2].removesuffix("]").partition("[")
    sentence = name.removeprefix("test_").replace("_", " ")
    return f"{sentence} ({parameters})" if parameters else sentence


def _result(report: pytest.TestReport) -> tuple[str, str]:
    figures = "; ".join(f"{name} {_figure(value)}" for name, value in report.user_properties)
    return report.outcome, figures


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return ", ".join(map(_figure, value))
    return str(value)
