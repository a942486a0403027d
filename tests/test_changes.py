"""The fragments of the changelog: towncrier accepts them, and a user can read them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "changes"
FRAGMENTS = sorted(path for path in FOLDER.rglob("*.md") if path.name != "README.md")
KINDS = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_is_one_paragraph_of_a_known_kind(path: Path) -> None:
    named = re.fullmatch(r"\+[a-z0-9-]+\.(\w+)\.md", path.name)
    text = path.read_text()

    assert named is not None, "the name is +topic.kind.md"
    assert named[1] in KINDS
    assert "\n\n" not in text.rstrip("\n")
    assert text[0] not in "-*#"
    assert 20 < len(text) < 500


def test_the_page_names_the_kinds_that_towncrier_knows() -> None:
    assert re.findall(r'^directory = "(\w+)"\nname', (ROOT / "pyproject.toml").read_text(), re.MULTILINE) == KINDS


def test_the_page_names_the_parts_that_towncrier_knows() -> None:
    parts = re.findall(r"^\| `(\w+)/` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)

    assert re.findall(r'^path = "(\w+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE) == parts
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} <= set(parts)


def test_every_fragment_is_in_the_next_part_of_the_changelog() -> None:
    pytest.importorskip("towncrier", reason="make setup installs it")
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "next"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    missing = [path.name for path in FRAGMENTS if path.read_text().splitlines()[0] not in done.stdout]
    assert missing == []


def test_nothing_is_written_into_the_changelog_by_hand() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    start, _, versions = text.partition("<!-- towncrier release notes start -->\n")
    assert versions, "towncrier writes behind this line"
    assert "\n- " not in start
    assert re.findall(r"^## (.*)$", versions, re.MULTILINE) == sorted(
        re.findall(r"^## (.*)$", versions, re.MULTILINE), reverse=True
    )
    assert "Unreleased" not in text
