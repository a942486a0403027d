"""What all tests share: network namespaces that are always given back, and a clear reason where there are none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lispmob.lab import namespace as netns
from lispmob.lab.build import Lab
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.topology import Topology, roaming

# A busy machine makes no property untrue: time is measured by the benchmarks, not by these.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell ignores Ctrl-C in what it starts in the background, and children inherit that: here it ends a command,
# as it does for a user.
signal.signal(signal.SIGINT, signal.default_int_handler)


ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs namespaces, or somebody else who may read this directory, and say what would help."""
    reasons = {"netns": netns.why_unavailable(), "ordinary_user": _why_only_ours()}
    for item in items:
        for marker, reason in reasons.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_only_ours() -> str | None:
    """Root's home, say, is nobody else's: whom root's tests become cannot run what lies there."""
    closed = [parent for parent in (ROOT, *ROOT.parents) if not parent.stat().st_mode & 0o001]
    return f"an ordinary user may not enter {closed[-1]}: keep the project elsewhere" if closed else None


@pytest.fixture(autouse=True)
def _no_namespace_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a namespace behind fails, whoever made it: ours carry the pid in their name."""
    before = _namespaces_of_this_process()
    yield
    leaked = _namespaces_of_this_process() - before
    assert not leaked, f"{request.node.name} left network namespaces behind: {', '.join(sorted(leaked))}"


@pytest.fixture
def namespaces() -> Iterator[NamespaceSet]:
    """Makes namespaces by name; they are deleted after the test, with the processes in them."""
    with NamespaceSet() as made:
        yield made


@pytest.fixture
def namespace(namespaces: NamespaceSet) -> Namespace:
    """One namespace with nothing but `lo`."""
    return namespaces.make("test")


@pytest.fixture
def build_lab() -> Iterator[Callable[[Topology], Lab]]:
    """Makes a topology real; it is taken away after the test."""
    built: list[Lab] = []

    def build(topology: Topology) -> Lab:
        built.append(Lab(topology))
        return built[-1]

    yield build
    for one in built:
        one.close()


@pytest.fixture
def lab(build_lab: Callable[[Topology], Lab]) -> Lab:
    """Two nodes with two uplinks each, a hub, a third network, a host without LISP; 20 ms on every line."""
    return build_lab(roaming())


def _namespaces_of_this_process() -> set[str]:
    directory = Path("/run/netns")
    if not directory.is_dir():
        return set()
    return {path.name for path in directory.iterdir() if path.name.startswith("lm") and str(os.getpid()) in path.name}
