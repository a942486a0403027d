"""What a user installs, without building it: setuptools collects the files of the wheel in a second."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABORATORY = ("lispmob.lab", "lispmob.datapath.bench", "lispmob.hub.bench")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree from which the wheel is packed, without what is compiled."""
    into = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build_py", "--build-lib", str(into)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return into


def modules(tree: Path) -> dict[str, Path]:
    paths = {path.relative_to(tree).with_suffix(""): path for path in (tree / "lispmob").rglob("*.py")}
    return {".".join(place.parts).removesuffix(".__init__"): path for place, path in paths.items()}


def test_the_laboratory_is_not_installed(collected: Path) -> None:
    assert [name for name in modules(collected) if name.startswith(LABORATORY)] == []
    assert [path for path in collected.rglob("*") if path.name in ("lab", "bench", "tests")] == []


def test_everything_else_of_the_package_is(collected: Path) -> None:
    wanted = {name for name in modules(ROOT) if not name.startswith(LABORATORY)}

    assert set(modules(collected)) == wanted


def test_nothing_that_is_installed_imports_what_is_not(collected: Path) -> None:
    guilty = []
    for name, path in modules(collected).items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            guilty += [f"{name} imports {imported}" for imported in names if imported.startswith(LABORATORY)]

    assert guilty == []


@pytest.mark.parametrize(
    "file",
    [
        "py.typed",
        "datapath/c/engine/engine.h",
        "datapath/c/base/rules.h",
        "datapath/bpf/lisp.bpf.c",
        "datapath/bpf/lib/maps.h",
        "datapath/bpf/shared.h",
        "crypto/chacha.c",
        "hub/web/page.html",
        "hub/web/page.js",
        "hub/web/page.css",
    ],
)
def test_files_that_are_no_python_are_there_too(collected: Path, file: str) -> None:
    assert (collected / "lispmob" / file).is_file()
