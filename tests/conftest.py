"""What all tests share: network namespaces that are always deleted, and a clear reason where there are none."""

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

# A slow machine must not make a property fail. `make bench` measures time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell lets what it starts in the background ignore Ctrl-C, and children inherit that. Here it ends a command, as it
# does for a user.
signal.signal(signal.SIGINT, signal.default_int_handler)


ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need namespaces, or another user who may read this directory; the reason names the remedy."""
    reasons = {"netns": netns.why_unavailable(), "ordinary_user": _why_only_ours()}
    for item in items:
        for marker, reason in reasons.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_only_ours() -> str | None:
    """Why root's tests cannot become another user, who may not enter root's home, for example; None: they can."""
    closed = [parent for parent in (ROOT, *ROOT.parents) if not parent.stat().st_mode & 0o001]
    return f"an ordinary user may not enter {closed[-1]}: keep the project elsewhere" if closed else None


@pytest.fixture(autouse=True)
def _no_namespace_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a namespace behind fails. The names of ours contain the pid of this process."""
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
    """Builds a topology from namespaces; they are deleted after the test."""
    built: list[Lab] = []

    def build(topology: Topology) -> Lab:
        built.append(Lab(topology))
        return built[-1]

    yield build
    for one in built:
        one.close()


@pytest.fixture
def lab(build_lab: Callable[[Topology], Lab]) -> Lab:
    """Two nodes with two uplinks each, a hub, a third network, a host without LISP; 20 ms on every link."""
    return build_lab(roaming())


def _namespaces_of_this_process() -> set[str]:
    directory = Path("/run/netns")
    if not directory.is_dir():
        return set()
    return {path.name for path in directory.iterdir() if path.name.startswith("lm") and str(os.getpid()) in path.name}
