"""Runs the tests with two engines in each tier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lispmob.datapath import tier
from tests.datapath import netlab
from tests.datapath.full_size import full_size_lab

IN_EACH_TIER = (
    "acceptance",
    "data_port",
    "echo",
    "engine",
    "last_packet",
    "marks",
    "offload",
    "path_mtu",
    "refusing",
    "silence",
    "source",
    "status",
    "traffic",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.endswith(tuple(f"test_{name}_netns" for name in IN_EACH_TIER)):
        metafunc.parametrize("in_tier", ["tun", "ebpf"], indirect=True)


@pytest.fixture(autouse=True)
def in_tier(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every lab of the test uses this tier, unless the test names another."""
    wish: str = getattr(request, "param", "tun")
    if wish == "ebpf" and not tier.OBJECT.exists():
        pytest.skip("built without the ebpf tier: clang or libbpf's headers are not installed")
    netlab.DEFAULTS["tier"] = wish
    yield wish
    del netlab.DEFAULTS["tier"]


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def outer(request: pytest.FixtureRequest) -> int:
    """The version of the outer header."""
    family: int = request.param
    return family


@pytest.fixture
def both(outer: int) -> Iterator[netlab.Lab]:
    """Two engines with a link that takes packets of full size."""
    with full_size_lab(outer) as made:
        yield made
