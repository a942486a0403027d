"""docs/datapath.md names functions, files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lispmob.datapath.build_ffi import ROOMS

ROOT = Path(__file__).resolve().parents[2]
DATAPATH, TESTS = ROOT / "lispmob" / "datapath", ROOT / "tests" / "datapath"
PAGE = (ROOT / "docs" / "datapath.md").read_text()
RULES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.split("## Rules")[1].splitlines()
    if line.startswith("| ") and not line.startswith("| rule ")
]
PLACES = (DATAPATH / "c", DATAPATH / "bpf", TESTS / "oracle", ROOT)


def found(name: str) -> Path | None:
    return next((place / name for place in PLACES if (place / name).is_file()), None) or next(TESTS.rglob(name), None)


@pytest.mark.parametrize("rule", RULES, ids=[rule[0] for rule in RULES])
def test_a_rule_is_where_the_page_says(rule: list[str]) -> None:
    for cell in rule[2:]:
        words = re.findall(r"`([^`]+)`", cell)
        path = None
        for word in words:
            if "." in word:
                path = found(word)
                assert path is not None, word
            else:
                assert path is not None, cell
                assert re.search(rf"\b{word}\b", path.read_text()), f"{word} is not in {path.name}"


def test_every_function_that_the_page_names_is_one_of_the_c_sources() -> None:
    sources = "".join(path.read_text() for path in [*DATAPATH.glob("c/*/*.c"), *DATAPATH.glob("bpf/**/*.[ch]")])

    assert [name for name in re.findall(r"`(lm_\w+)`", PAGE) if f"{name}(" not in sources] == []


def test_the_page_tells_of_every_room() -> None:
    assert re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE) == list(ROOMS)
