"""What lispd runs once before it is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing

import pytest

from lispmob.control.itr_security import LispSecTools
from lispmob.datapath.engine import Engine
from lispmob.datapath.model import EngineConfig
from lispmob.lispd import warm_up as rehearsal
from lispmob.lispd.warm_up import LOOKUPS, rehearse_entries, warm_up
from lispmob.node.node import Node, NodeEffect
from lispmob.protocol.effect import InstallMapping
from tests.crypto.support import KEY_WRAP, needs_libcrypto


class Counting:
    """Key wrap that counts its uses."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()

    def wrap(self, key: bytes, secret: bytes) -> bytes:
        self.used["wrap"] += 1
        return KEY_WRAP.wrap(key, secret)

    def unwrap(self, key: bytes, wrapped: bytes) -> bytes | None:
        self.used["unwrap"] += 1
        return KEY_WRAP.unwrap(key, wrapped)


class Memory:
    """A state directory that refuses every write."""

    def load(self) -> frozenset[str]:
        return frozenset()

    def save(self, marks: Iterable[str]) -> None:
        raise AssertionError(marks)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[NodeEffect]:
    """The forwarding entries that the lookups cause."""
    effects: list[NodeEffect] = []

    class Watched(Node):
        def on_datagram(self, *arguments: object, **named: object) -> list[NodeEffect]:
            out = super().on_datagram(*arguments, **named)  # type: ignore[arg-type]
            effects.extend(effect for effect in out if isinstance(effect, InstallMapping))
            return out

    monkeypatch.setattr(rehearsal, "Node", Watched)
    return effects


@needs_libcrypto
def test_a_rehearsed_lookup_goes_all_the_way_with_lisp_sec_and_leaves_no_trace(installed: list[NodeEffect]) -> None:
    wrap = Counting()

    warm_up(LispSecTools(wrap, lambda: bytes(16), Memory()))

    assert wrap.used == {"wrap": LOOKUPS, "unwrap": LOOKUPS}
    assert len(installed) >= LOOKUPS


def test_a_build_without_libcrypto_rehearses_without_lisp_sec(installed: list[NodeEffect]) -> None:
    warm_up(None)

    assert len(installed) >= LOOKUPS


def test_rehearsed_entries_are_gone_again_and_no_site_has_their_instance_id() -> None:
    entries = warm_up(None)
    with closing(Engine(EngineConfig("unused"))) as engine:
        rehearse_entries(engine, entries)

        assert len(entries) >= LOOKUPS
        assert {entry.prefix.instance_id for entry in entries} == {0xFFFFFE}
        assert not any(engine.table.remove(entry.prefix) for entry in entries)
        assert engine.drain() == []
