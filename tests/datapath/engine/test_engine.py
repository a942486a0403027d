"""An engine before any packet moves; all tests but one need no device, root or network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address

import pytest

from lispmob.datapath.engine import Disposition, Engine, EngineConfig, ForwardingEntry, ForwardingLocator
from lispmob.lab.namespace import Namespace
from lispmob.wire.address import EidPrefix

RLOC4 = ForwardingLocator(IPv4Address("192.0.2.1"))
RLOC6 = ForwardingLocator(IPv6Address("2001:db8::1"), priority=2, port=4343)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(Engine(EngineConfig("unused"))) as made:
        yield made


def processors_of_threads(engine: Engine) -> list[frozenset[int]]:
    """The processors that the threads of this engine may run on."""
    engine.open()
    before = set(os.listdir("/proc/self/task"))
    engine.start()
    return [frozenset(os.sched_getaffinity(int(thread))) for thread in set(os.listdir("/proc/self/task")) - before]


@pytest.mark.netns
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
def test_threads_stay_on_a_processor_of_their_own_when_they_are_told_to(namespace: Namespace) -> None:
    with namespace.entered(), closing(Engine(EngineConfig("pinned0", pin_threads=True))) as pinned:
        first, second = processors_of_threads(pinned)

        assert (len(first), len(second), len(first | second)) == (1, 1, 2)

    with namespace.entered(), closing(Engine(EngineConfig("free0"))) as free:
        assert processors_of_threads(free) == [frozenset(os.sched_getaffinity(0))] * 2


def test_a_datapath_that_is_not_open_does_not_start(engine: Engine) -> None:
    with pytest.raises(ValueError, match="is not open"):
        engine.start()


def entry(prefix: str, *locators: ForwardingLocator) -> ForwardingEntry:
    return ForwardingEntry(EidPrefix.parse(prefix), Disposition.ENCAPSULATE, locators)


def test_many_mappings_at_once_are_all_there(engine: Engine) -> None:
    entries = [entry(f"10.{n // 256}.{n % 256}.0/24", *((RLOC4, RLOC6)[: n % 3])) for n in range(1000)]
    entries.append(entry("2001:db8:7::/48", RLOC6))

    engine.table.install_many(entries)

    assert all(engine.table.remove(one.prefix) for one in entries)
    assert not any(engine.table.remove(one.prefix) for one in entries)


def test_none_at_once_is_no_mistake(engine: Engine) -> None:
    engine.table.install_many([])

    assert engine.table.used() == []
