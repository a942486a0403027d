"""The name of a C function says in which file it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lispmob.datapath.build_ffi import C_DIRECTORY, ROOMS

ROOT = Path(__file__).resolve().parents[2] / C_DIRECTORY
SOURCES = sorted(ROOT.glob("*/*.c"))
HEADERS = sorted([*ROOT.rglob("*.h"), *(ROOT.parent / "bpf").rglob("*.h")])
EXPORTED = re.compile(r"^(?!static\b)(?:\w+[ *]+)+\*?lm_(\w+)\(", re.MULTILINE)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_exported_function_begins_with_the_name_of_its_file(path: Path) -> None:
    """`lm_engine_`, the functions that Python calls, may be in any file of its folder."""
    named = (path.stem, "engine") if path.parent.name == "engine" else (path.stem,)

    assert [name for name in EXPORTED.findall(path.read_text()) if not name.startswith(named)] == []


def test_every_source_is_in_a_room() -> None:
    assert {path.parent.name for path in SOURCES} == set(ROOMS)
    assert list(ROOT.glob("*.[ch]")) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/*.h")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_functions_of_a_header_are_those_of_files_that_exist(path: Path) -> None:
    """Only the linker would find a declaration whose function was renamed, and only if it is called."""
    defined = {name for source in SOURCES for name in EXPORTED.findall(source.read_text())}
    declared = re.findall(r"^(?!static\b|typedef\b)(?:\w+[ *]+)+\*?lm_(\w+)\([^;{]*\);", path.read_text(), re.MULTILINE)

    assert [name for name in declared if name not in defined] == []


def test_the_guard_of_a_header_is_named_after_it_and_belongs_to_it_alone() -> None:
    """Two headers with one guard exclude each other without an error."""
    guards = {path: re.findall(r"^#ifndef (\w+)$", path.read_text(), re.MULTILINE)[0] for path in HEADERS}
    misnamed = {
        path.name: guard
        for path, guard in guards.items()
        if not re.fullmatch(rf"LM_(BPF_)?{path.stem.upper()}_H", guard)
    }

    assert misnamed == {}
    assert len(set(guards.values())) == len(guards)
