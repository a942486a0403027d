"""A namespace with one link for the monitor to watch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab.namespace import NamespaceSet
from tests.iface_monitor.watch import ip


@pytest.fixture
def inside() -> Iterator[None]:
    """The test's thread is in a fresh namespace with eth0, whose far end is far0."""
    with NamespaceSet() as namespaces, namespaces.make("watch").entered():
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0", encoding="ascii")
        ip("link add eth0 type veth peer name far0", "link set far0 up", "link set eth0 up")
        yield
