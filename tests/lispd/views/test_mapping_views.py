"""Mappings that are added, changed and deleted while lispd runs: what is refused, and what stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, cast

import msgspec
import pytest

from lispmob.api.backend import ApiError
from lispmob.api.mapping.backend import StaticLocator
from lispmob.api.mapping.schema import MappingDone, MappingFlushParams, MappingParams
from lispmob.config.eid import OwnEid
from lispmob.config.node import MapResolverSection, StaticMapping
from lispmob.lispd.views.mapping_views import MappingViews
from lispmob.node.node import Node
from lispmob.protocol.effect import DropPending, InstallMapping, MappingChanged, MappingWanted
from lispmob.wire.address import EidPrefix
from tests.api.fake_mappings import LTE, OWN, WLAN, MappingParts
from tests.control.support import only

PEER = EidPrefix.parse("10.2.0.0/16")
RLOC = StaticLocator(ip_address("192.0.2.9"), 1, 100)
OURS = StaticLocator(WLAN.addresses[0], 3, 70)


class Table(MappingViews):
    """The views, with shorter methods for the tests."""

    def __init__(self, limit: int = 1000) -> None:
        self.parts = MappingParts(limit)
        super().__init__(cast(Any, self.parts))

    @property
    def node(self) -> Node:
        return self.parts.node

    def add(
        self, prefix: EidPrefix = PEER, rlocs: Sequence[StaticLocator] = (RLOC,), change: bool = False, **more: Any
    ) -> MappingDone:
        params = MappingParams(prefix=str(prefix), **more)
        return self.mapping_add(prefix, rlocs, params, is_change=change)

    def sources(self) -> dict[str, str]:
        return {value.prefix: value.source for page in self.mapping_dump().pages for value in page}  # type: ignore[attr-defined]


def errno_of(caught: pytest.ExceptionInfo[ApiError]) -> str | None:
    return caught.value.errno


def test_a_mapping_that_is_added_is_in_use_at_once_and_has_no_end() -> None:
    table = Table()

    done = table.add()

    assert done.mapping is not None
    assert (done.mapping.source, done.mapping.expires_in_s) == ("static", None)
    assert [effect.prefix for effect in only(table.parts.effects, InstallMapping)] == [PEER]
    entry = table.node.map_cache.get(PEER)
    assert entry is not None
    assert entry.expires_at is None


def test_a_mapping_that_exists_is_eexist_unless_it_is_to_be_replaced() -> None:
    table = Table()
    table.add()

    with pytest.raises(ApiError, match=r"already \(static\); change it") as caught:
        table.add()

    assert errno_of(caught) == "EEXIST"
    table.add(replaces=True)
    table.add(change=True)


def test_to_change_what_there_is_not_is_esrch() -> None:
    with pytest.raises(ApiError) as caught:
        Table().add(change=True)

    assert errno_of(caught) == "ESRCH"


def test_when_the_table_is_full_a_static_mapping_is_enobufs_and_one_that_is_there_may_still_change() -> None:
    table = Table(limit=16)
    for number in range(16):
        table.add(EidPrefix.parse(f"10.2.{number}.0/24"))

    with pytest.raises(ApiError) as caught:
        table.add(EidPrefix.parse("10.3.0.0/16"))

    assert errno_of(caught) == "ENOBUFS"
    table.add(EidPrefix.parse("10.2.3.0/24"), change=True)


def test_the_word_of_a_program_gives_way_to_others_instead() -> None:
    table = Table(limit=16)

    for number in range(40):
        table.parts.clock += 100.0
        table.add(EidPrefix.parse(f"10.2.{number}.0/24"), is_static=False)

    assert len(table.node.map_cache) == 16
    assert table.node.map_cache.get(EidPrefix.parse("10.2.39.0/24")) is not None
    evicted = [effect for effect in only(table.parts.effects, MappingChanged) if effect.what == "delete"]
    assert len(evicted) == 24


def test_an_eid_of_our_own_cannot_be_somewhere_else() -> None:
    with pytest.raises(ApiError, match="EID of our own") as caught:
        Table().add(OWN)

    assert errno_of(caught) == "EINVAL"


def test_what_is_only_checked_changes_nothing() -> None:
    table = Table()

    done = table.add(check_only=True)
    table.add(EidPrefix.parse("10.7.0.0/16"), [OURS], table="database", check_only=True)

    assert done.mapping is not None
    assert table.sources() == {str(OWN): "configuration"}


def test_static_mappings_outlive_a_reload_a_flush_a_sleep_and_an_answer_from_elsewhere() -> None:
    table = Table()
    table.add()

    table.parts.use(msgspec.structs.replace(table.parts.file, map_cache=table.parts.file.map_cache))
    asyncio.run(table.mapping_flush(MappingFlushParams()))
    table.parts.perform(table.node.on_slept(200.0))
    table.parts.perform(table.node.on_timer(1e6))

    assert table.sources()[str(PEER)] == "static"


def test_flush_all_takes_static_ones_that_were_added_and_our_own() -> None:
    table = Table()
    table.add()
    table.add(EidPrefix.parse("10.3.0.0/16"), is_static=False)
    table.add(EidPrefix.parse("10.7.0.0/16"), [OURS], table="database")

    done = asyncio.run(table.mapping_flush(MappingFlushParams(table="all")))

    assert done.count == 3
    assert table.sources() == {str(OWN): "configuration"}


def test_deleting_says_what_was_there_and_what_was_not_is_esrch() -> None:
    table = Table()
    table.add()

    done = table.mapping_delete(PEER, "cache", check_only=False)

    assert done.mapping is not None
    assert done.mapping.locators[0].address == "192.0.2.9"
    for where in ("cache", "database"):
        with pytest.raises(ApiError) as caught:
            table.mapping_delete(PEER, cast(Any, where), check_only=False)
        assert errno_of(caught) == "ESRCH"


def test_get_finds_the_narrowest_mapping_that_holds_all_of_what_is_asked_for() -> None:
    table = Table()
    table.add()
    table.add(EidPrefix.parse("10.2.3.0/24"))

    found = [table.mapping_get(EidPrefix.parse(text)).prefix for text in ("10.2.3.4/32", "10.2.0.0/17", "10.0.0.1/32")]

    assert found == ["10.2.3.0/24", "10.2.0.0/16", "10.0.0.1/32"]
    with pytest.raises(ApiError) as caught:
        table.mapping_get(EidPrefix.parse("10.0.0.0/8"))
    assert errno_of(caught) == "ESRCH"


# --- our own mappings


def test_a_local_mapping_without_an_address_of_ours_is_einval() -> None:
    with pytest.raises(ApiError, match=r"such as 198\.51\.100\.10") as caught:
        Table().add(EidPrefix.parse("10.7.0.0/16"), [RLOC], table="database")

    assert errno_of(caught) == "EINVAL"


def test_a_local_mapping_counts_what_was_said_and_its_other_uplinks_come_last() -> None:
    table, seven = Table(), EidPrefix.parse("10.7.0.0/16")

    done = table.add(seven, [OURS, RLOC], table="database")

    assert done.left_out == ["192.0.2.9"]
    assert done.mapping is not None
    told = {locator.address: (locator.priority, locator.weight) for locator in done.mapping.locators}
    assert told == {"198.51.100.10": (3, 70), "203.0.113.20": (254, 50)}
    assert table.node.config.owner_of(ip_address("10.7.9.9"), 0) == seven


def test_a_local_rloc_that_is_said_to_be_unreachable_is_not_to_be_used() -> None:
    table, seven = Table(), EidPrefix.parse("10.7.0.0/16")
    silent = StaticLocator(LTE.addresses[0], 1, 100, is_reachable=False)

    done = table.add(seven, [OURS, silent], table="database")

    assert done.mapping is not None
    assert {locator.address: locator.priority for locator in done.mapping.locators}["203.0.113.20"] == 255


def test_a_local_mapping_can_be_changed_and_deleted_and_one_of_the_configuration_cannot() -> None:
    table, seven = Table(), EidPrefix.parse("10.7.0.0/16")
    table.add(seven, [OURS], table="database")

    changed = table.add(seven, [StaticLocator(LTE.addresses[0], 9, 9)], table="database", change=True)
    table.mapping_delete(seven, "database", check_only=False)

    assert changed.mapping is not None
    assert {locator.address: locator.priority for locator in changed.mapping.locators} == {
        "198.51.100.10": 254,
        "203.0.113.20": 9,
    }
    assert [eid.prefix for eid in table.parts.file.own_eids] == [OWN]
    with pytest.raises(ApiError, match=r"lispd\.conf"):
        table.mapping_delete(OWN, "database", check_only=False)
    with pytest.raises(ApiError, match=r"lispd\.conf"):
        table.add(OWN, [OURS], table="database", change=True)


def test_a_local_mapping_that_holds_the_way_to_the_mapping_system_is_refused_and_leaves_no_trace() -> None:
    table = Table()
    resolver = MapResolverSection(place=ip_address("10.7.0.9"))
    table.parts.file = msgspec.structs.replace(table.parts.file, written_resolvers=(resolver,))

    with pytest.raises(ApiError, match="an RLOC is needed"):
        table.add(EidPrefix.parse("10.7.0.0/16"), [OURS], table="database")

    assert table.parts.local_mappings.prefixes == ()
    assert table.sources() == {str(OWN): "configuration"}


def test_no_address_of_a_kind_that_is_no_eid_becomes_one() -> None:
    with pytest.raises(ApiError, match="loopback"):
        Table().add(EidPrefix.parse("127.0.0.0/8"), [OURS], table="database")


def test_a_local_mapping_outlives_a_reload_and_yields_to_the_file() -> None:
    table, seven = Table(), EidPrefix.parse("10.7.0.0/16")
    table.add(seven, [OURS], table="database")
    local, base = table.parts.local_mappings, table.parts.local_mappings.without(table.parts.file)

    again = local.onto(base)
    named = local.onto(msgspec.structs.replace(base, own_eids=(*base.own_eids, OwnEid(seven))))

    assert [eid.prefix for eid in again.own_eids] == [OWN, seven]
    assert [eid.prefix for eid in named.own_eids] == [OWN, seven]
    assert local.prefixes == ()


# --- a program instead of a Map-Resolver


def test_without_a_map_resolver_a_program_is_asked_each_second_and_packets_wait_for_it() -> None:
    table = Table()
    table.parts.miss("10.2.0.7")
    for _ in range(3):
        table.parts.clock += 1.0
        table.parts.perform(table.node.on_timer(table.parts.clock))

    asked = only(table.parts.effects, MappingWanted)

    assert [(str(effect.asked), effect.why, effect.tries) for effect in asked] == [
        ("10.2.0.7/32", "miss", n) for n in (1, 2, 3, 4)
    ]
    assert only(table.parts.effects, DropPending) == []


def test_the_answer_of_a_program_ends_the_asking() -> None:
    table = Table()
    table.parts.miss("10.2.0.7")

    table.add(is_static=False)

    assert only(table.parts.effects, InstallMapping)[-1].disposition == "ENCAPSULATE"
    assert table.node.lookups == ()


def test_a_program_that_says_nothing_for_ten_seconds_has_packets_refused_and_may_still_answer() -> None:
    table = Table()
    table.parts.miss("10.2.0.7")
    for _ in range(11):
        table.parts.clock += 1.0
        table.parts.perform(table.node.on_timer(table.parts.clock))

    assert [effect.reason for effect in only(table.parts.effects, DropPending)] == ["unanswered"]
    table.add(EidPrefix.parse("10.2.0.7/32"), is_static=False)
    assert table.sources()["10.2.0.7/32"] == "program"


def test_a_mapping_of_a_program_that_is_in_use_is_asked_for_again_before_it_ends() -> None:
    table = Table()
    table.add(is_static=False, ttl_s=60.0)
    table.parts.clock += 54.5
    table.parts.perform(table.node.on_used([PEER], table.parts.clock))

    table.parts.perform(table.node.on_timer(table.parts.clock))

    assert [(str(effect.asked), effect.why) for effect in only(table.parts.effects, MappingWanted)] == [
        (str(PEER), "refresh")
    ]


def test_a_node_that_asks_no_program_fails_at_once_without_a_map_resolver() -> None:
    table = Table()
    static = StaticMapping(prefix=PEER)
    cache = msgspec.structs.replace(table.parts.file.map_cache, program=False, static=(static,))
    table.parts.use(msgspec.structs.replace(table.parts.file, map_cache=cache))

    table.parts.miss("10.3.0.7")

    assert [effect.reason for effect in only(table.parts.effects, DropPending)] == ["no-map-resolver"]
    assert only(table.parts.effects, MappingWanted) == []
