"""The manual pages are complete: each program's page has its synopsis, its options and its exit codes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from lispmob.hub.cli.parser import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
DAEMONS = {"lispd"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "packaging" / "man_pages.py"), str(directory)], check=True, timeout=120)
    return directory


@pytest.mark.parametrize(
    ("page", "options"),
    [
        ("lispd.8", ("--config", "--check", "--log-level", "--version")),
        (
            "lisphub.8",
            ("--config", "--check", "--show", "--version", "--again", "--address", "--pool", "--listen", "--json"),
        ),
        ("lispctl.1", ("--json", "--socket", "--version")),
        ("lig.1", ("--map-resolver", "--instance-id", "--count", "--timeout", "--source", "--json")),
        ("lisp-echo.1", ("--bind", "--tcp", "--count", "--interval", "--size", "--source", "--json")),
    ],
)
def test_a_page_has_its_synopsis_its_options_and_its_exit_codes(
    pages: Path, page: str, options: tuple[str, ...]
) -> None:
    text = (pages / page).read_text().replace("\\-", "-")
    synopsis = text.partition(".SH SYNOPSIS\n.nf\n")[2].partition(".fi")[0]

    assert synopsis.split()[:1] == [page.rpartition(".")[0]]
    assert all(option in text.partition(".SH DESCRIPTION")[2] for option in options)
    assert ".SH EXIT STATUS\n0 " in text


def test_the_page_of_lispctl_explains_every_command_and_what_the_status_ends_with(pages: Path) -> None:
    text = (pages / "lispctl.1").read_text().replace("\\-", "-")

    words = ("status", "why", "map-cache", "map-cache add", "run", "config", "config convert", "help")
    assert all(f".SS {word}\n" in text for word in words)
    assert "0 working; 4 degraded" in text


def test_the_pages_about_joining_explain_each_command_and_what_it_ends_with(pages: Path) -> None:
    hub, node = ((pages / name).read_text().replace("\\-", "-") for name in ("lisphub.8", "lispctl.1"))

    assert all(f".SS {word}\n" in hub for word in COMMANDS)
    assert "3 lisphub is not running; 4 status: there is a problem" in hub
    assert ".SS join\n" in node
    assert "9 the hub refuses the invitation" in " ".join(node.split())


@pytest.mark.parametrize("program", SCRIPTS)
def test_every_program_has_a_page_and_a_script_in_the_packages_that_runs_the_same(pages: Path, program: str) -> None:
    module, _, function = SCRIPTS[program].partition(":")
    script = ROOT / "packaging" / "debian" / "bin" / program

    assert len(list(pages.glob(f"{program}.[18]"))) == 1
    assert f"from {module} import {function}\n" in script.read_text()
    assert script.stat().st_mode & 0o111 == 0o111
    assert "/usr/bin debian/bin/*\n" in (ROOT / "packaging" / "debian" / "rules").read_text()


@pytest.mark.skipif(shutil.which("man") is None, reason="man is missing: install the Debian packages man-db and groff")
def test_every_page_fits_eighty_columns(pages: Path) -> None:
    wide = []
    for page in sorted(pages.iterdir()):
        shown = subprocess.run(
            ["man", "-P", "cat", "-l", str(page)],
            env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "GROFF_NO_SGR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        plain = re.sub(".\b", "", shown)
        wide += [f"{page.name}: {line}" for line in plain.splitlines() if len(line) > 80]
    assert wide == []


def test_folding_a_configuration_loses_no_word(pages: Path) -> None:
    for name in ("lispd.conf", "hub.conf"):
        text = (pages / f"{name}.5").read_text().replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")
        kept = [word for word in text.split() if set(word) - set("#-")]
        shipped = [word for word in (ROOT / "conf" / name).read_text().split() if set(word) - set("#-")]
        assert sorted(word for word in kept if word in shipped) != []
        assert not Counter(shipped) - Counter(kept)


def test_every_command_of_users_is_completed_by_each_shell(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-P", str(ROOT / "packaging" / "completions.py"), str(tmp_path)], check=True, timeout=60
    )

    assert {path.name for path in tmp_path.iterdir()} == {
        name
        for program in SCRIPTS
        if program not in DAEMONS
        for name in (f"{program}.bash", f"_{program}", f"{program}.fish")
    }
    for name in ("lispctl.bash", "_lispctl", "lispctl.fish"):
        text = (tmp_path / name).read_text()
        assert "lispctl words uplinks" in text
        assert "lispctl words peers" in text
    for path in tmp_path.glob("*.bash"):
        subprocess.run(["bash", "-n", str(path)], check=True, timeout=10)
    rules, recipe = (ROOT / "packaging" / name for name in ("debian/rules", "alpine/APKBUILD"))
    listed = " ".join(program for program in SCRIPTS if program not in DAEMONS)
    assert all(f"for program in {listed}; do" in path.read_text() for path in (rules, recipe))
