"""Packages are built and installed only on request: it takes minutes, and downloads of hundreds of megabytes."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.packaging import machine
from tests.packaging.machine import ROOT


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker also where only this folder is run."""
    config.addinivalue_line(
        "markers", "package: builds packages and installs them in clean places; `make package-test`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip these tests, unless the marker is requested by name."""
    if "package" in (config.option.markexpr or ""):
        return
    for item in items:
        if item.get_closest_marker("package") is not None:
            item.add_marker(pytest.mark.skip(reason="packages are built and installed by: make package-test"))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb for this Debian, built from this tree; DEBS=dist takes the one that `make debs` has made there."""
    if (made := os.environ.get("DEBS")) is not None:
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        (there,) = (Path(made) / suite).glob(f"lispmob_*_{machine.architecture()}.deb")
        return there
    with machine.made_once(tmp_path_factory, "deb") as directory:
        if not list(directory.glob("lispmob_*.deb")):
            command = [str(ROOT / "packaging" / "build_deb.sh"), str(directory)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            if done.returncode == 77:
                pytest.skip(done.stderr.strip())
            assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    (found,) = directory.glob("lispmob_*.deb")
    return found
