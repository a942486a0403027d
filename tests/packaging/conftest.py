"""Packages are built and installed only when asked for: minutes, and hundreds of megabytes of downloads."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known where only this folder is run."""
    config.addinivalue_line(
        "markers", "package: builds packages and installs them in clean places; `make package-test`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, unless the marker is asked for by name."""
    if "package" in (config.option.markexpr or ""):
        return
    for item in items:
        if item.get_closest_marker("package") is not None:
            item.add_marker(pytest.mark.skip(reason="packages are built and installed by: make package-test"))
