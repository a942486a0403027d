"""The manual pages are whole: each program's page has its synopsis, its options and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "packaging" / "man_pages.py"), str(directory)], check=True, timeout=120)
    return directory


@pytest.mark.parametrize(
    ("page", "options"),
    [
        ("lispd.8", ("--config", "--check", "--log-level", "--version")),
        ("lisphub.8", ("--config", "--check", "--show", "--version")),
        ("lispctl.1", ("--json", "--socket", "--version")),
    ],
)
def test_a_page_has_its_synopsis_its_options_and_its_exit_codes(
    pages: Path, page: str, options: tuple[str, ...]
) -> None:
    text = (pages / page).read_text().replace("\\-", "-")
    synopsis = text.partition(".SH SYNOPSIS\n.nf\n")[2].partition(".fi")[0]

    assert synopsis.split()[:1] == [page.partition(".")[0]]
    assert all(option in text.partition(".SH DESCRIPTION")[2] for option in options)
    assert ".SH EXIT STATUS\n0 " in text


def test_the_page_of_lispctl_explains_every_command_and_what_the_status_ends_with(pages: Path) -> None:
    text = (pages / "lispctl.1").read_text().replace("\\-", "-")

    assert all(f".SS {word}\n" in text for word in ("status", "why", "map-cache", "run", "help"))
    assert "0 working; 4 degraded" in text
