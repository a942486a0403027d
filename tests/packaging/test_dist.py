"""The wheel and the source distribution, each installed in a clean virtual environment, and run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lispmob.datapath import tier
from tests.packaging.machine import ROOT, made_once

pytestmark = [pytest.mark.package, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both."""
    with made_once(tmp_path_factory, "dist") as directory:
        if not list(directory.glob("lispmob-*")):
            run(str(ROOT / "packaging" / "build_dist.sh"), str(directory))
    return directory


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_the_wheel_serves_every_python_from_3_11_on(built: Path) -> None:
    (wheel,) = built.glob("lispmob-*.whl")

    assert "-cp311-abi3-linux" in wheel.name


def test_the_wheel_holds_no_laboratory_and_the_source_distribution_does(built: Path) -> None:
    (wheel,), (source,) = built.glob("lispmob-*.whl"), built.glob("lispmob-*.tar.gz")

    installed = zipfile.ZipFile(wheel).namelist()

    assert [name for name in installed if name.startswith("lispmob/lab/") or "/bench/" in name] == []
    assert "/lispmob/lab/demo/__main__.py" in run("tar", "-tf", str(source))


@pytest.mark.parametrize("pattern", ["lispmob-*.whl", "lispmob-*.tar.gz"])
def test_each_installs_in_a_clean_environment_and_runs(built: Path, tmp_path: Path, pattern: str) -> None:
    (package,) = built.glob(pattern)
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    programs = tmp_path / "venv" / "bin"
    run(str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", str(package))

    checked = run(str(programs / "lispd"), "--check", "-c", str(ROOT / "conf" / "lispd.conf"), cwd=tmp_path)
    run(str(programs / "lisphub"), "--check", "-c", str(ROOT / "conf" / "hub.conf"), cwd=tmp_path)
    shown = run(str(programs / "lispctl"), "--help", cwd=tmp_path)
    run(str(programs / "python"), "-c", "import lispmob.datapath._lispdp", cwd=tmp_path)
    built_with = "from lispmob.datapath import tier; print(tier.OBJECT.exists())"
    has_programs = run(str(programs / "python"), "-c", built_with, cwd=tmp_path).strip()

    assert "good" in checked
    assert "status" in shown
    assert has_programs == str(tier.OBJECT.exists()), "the BPF programs are in it where they can be built"


def test_the_source_distribution_holds_what_packaging_and_tests_need(built: Path) -> None:
    (package,) = built.glob("lispmob-*.tar.gz")

    names = {name.partition("/")[2] for name in run("tar", "-tf", str(package)).splitlines()}

    wanted = {
        "conf/lispd.conf",
        "conf/hub.conf",
        "packaging/debian/control",
        "tests/conftest.py",
        "LICENSE",
        "README.md",
    }
    assert wanted <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc")) or "/_lispdp.c" in name]
