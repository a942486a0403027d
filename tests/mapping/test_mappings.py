"""Programs that follow mappings, blocking or with asyncio, against the real server and the real core."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lispmob import mapping
from lispmob.api.schema import API_VERSION
from lispmob.api.server import HELD_EVENTS, MAX_UNREAD_OCTETS
from lispmob.mapping import Event, Locator, MappingError, NoDaemon, aio
from lispmob.mapping.messages import QUEUE_MAX, VERSION, Queue, Session
from tests.api.fake_backend import Served, served

RLOC = Locator("192.0.2.9")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "lispd.sock") as one:
        yield one


def connect(daemon: Served) -> mapping.Mappings:
    return mapping.connect(str(daemon.path))


def miss(daemon: Served, *eids: str) -> None:
    for eid in eids:
        daemon.run(partial(daemon.backend.parts.miss, eid))


def test_programs_speak_the_version_of_the_control_socket() -> None:
    assert VERSION == API_VERSION


def test_a_program_hears_of_a_miss_and_its_answer_is_used(daemon: Served) -> None:
    with connect(daemon) as mappings:
        mappings.follow("miss")
        miss(daemon, "10.2.0.7")

        event = next(mappings)
        mappings.add("10.2.0.0/16", [RLOC], ttl_s=60)
        found = mappings.get("10.2.0.7")

    assert (event.type, event.eid, event.prefix, event.source_eid, event.why, event.tries) == (
        "miss",
        "10.2.0.7",
        "10.2.0.7",
        "10.0.0.1",
        "miss",
        1,
    )
    assert found is not None
    assert (found.prefix, found.source, found.locators) == ("10.2.0.0/16", "program", (RLOC,))
    assert found.expires_in_s == 60.0


def test_every_change_is_told_with_what_it_is_and_who_made_it(daemon: Served) -> None:
    with connect(daemon) as reader, connect(daemon) as writer:
        reader.follow()
        writer.add("10.2.0.0/16", [RLOC])
        writer.put("10.2.0.0/16", [RLOC])  # changes nothing
        writer.change("10.2.0.0/16", [Locator("192.0.2.10", 2, 50)])
        writer.delete("10.2.0.0/16")

        events = [next(reader) for _ in range(3)]

    assert [(event.type, event.prefix, event.why) for event in events] == [
        ("add", "10.2.0.0/16", None),
        ("change", "10.2.0.0/16", None),
        ("delete", "10.2.0.0/16", "deleted"),
    ]
    changed = events[1].mapping
    assert changed is not None
    assert changed.locators == (Locator("192.0.2.10", 2, 50),)
    assert {event.pid for event in events} == {__import__("os").getpid()}
    assert [event.request for event in events] == [1, 3, 4]


def test_a_program_is_echoed_its_own_changes_unless_it_asks_not_to_be(daemon: Served) -> None:
    with connect(daemon) as quiet, connect(daemon) as loud:
        quiet.follow(echo=False)
        loud.follow()
        quiet.add("10.2.0.0/16", [RLOC])
        loud.add("10.3.0.0/16", [RLOC])
        quiet.flush()

        heard = [next(quiet).prefix]
        told = [(event.type, event.prefix) for event in (next(loud) for _ in range(4))]

        assert heard == ["10.3.0.0/16"]
        assert quiet.next_event(0) is None
    assert told[:2] == [("add", "10.2.0.0/16"), ("add", "10.3.0.0/16")]
    assert sorted(told[2:]) == [("delete", "10.2.0.0/16"), ("delete", "10.3.0.0/16")]


def test_what_happens_by_itself_has_no_author_even_after_a_program_has_set_the_timer(daemon: Served) -> None:
    parts = daemon.backend.parts
    with connect(daemon) as mappings:
        mappings.add("10.2.0.0/16", [RLOC], ttl_s=1)
        mappings.follow(echo=False)

        def expire() -> None:
            parts.clock += 100.0
            parts.perform(parts.node.on_timer(parts.clock))

        daemon.run(expire)
        daemon.run(expire)
        event = next(mappings)

    assert (event.type, event.why, event.pid, event.request) == ("delete", "expired", 0, None)


def test_a_dump_is_whole_and_no_event_between_it_and_the_stream_is_missing(daemon: Served) -> None:
    with connect(daemon) as mappings:
        for number in range(300):
            mappings.add(f"10.{number // 256 + 2}.{number % 256}.0/24", [RLOC], is_static=True)

        there = mappings.follow(dump=True)
        miss(daemon, "10.9.0.7")

        assert len(there) == 301
        assert (there[0].table, there[0].prefix, there[0].source) == ("database", "10.0.0.1/32", "configuration")
        assert all(locator.is_local for locator in there[0].locators)
        assert next(mappings).eid == "10.9.0.7"
        assert {one.prefix for one in mappings.dump()} == {one.prefix for one in there}


def test_a_move_changes_our_own_mappings_and_silence_is_badreach(daemon: Served) -> None:
    from lispmob.lispd.assembly import local_locators
    from lispmob.protocol.effect import Event as CoreEvent
    from tests.api.fake_mappings import LTE

    parts = daemon.backend.parts
    with connect(daemon) as mappings:
        mappings.follow()

        def move() -> None:
            parts.uplinks = (LTE,)
            parts.perform(parts.node.on_locators(local_locators(parts.uplinks, parts.file), parts.clock))
            parts.perform([CoreEvent("rloc-unreachable", {"rloc": "192.0.2.9"})])
            parts.perform([CoreEvent("rloc-reachable", {"rloc": "192.0.2.9"})])

        daemon.run(move)
        events = [next(mappings) for _ in range(3)]

    assert [(event.type, event.rloc) for event in events[:2]] == [("badreach", "192.0.2.9"), ("reach", "192.0.2.9")]
    moved = events[2].mapping
    assert moved is not None
    assert (events[2].type, moved.table) == ("change", "database")
    assert [locator.address for locator in moved.locators] == ["203.0.113.20"]


def test_a_slow_reader_loses_events_is_told_how_many_and_goes_on(daemon: Served) -> None:
    sent = 8000
    with connect(daemon) as mappings:
        mappings.follow("badreach")

        def flood() -> None:
            from lispmob.protocol.effect import Event as CoreEvent

            for number in range(sent):
                daemon.backend.parts.perform([CoreEvent("rloc-unreachable", {"rloc": str(number)})])

        daemon.run(flood)
        with connect(daemon) as other:
            assert other.get("10.0.0.1") is not None, "nobody else waits for it"
        heard: list[Event] = []
        while not heard or heard[-1].type != "lost":
            event = mappings.next_event(5.0)
            assert event is not None
            heard.append(event)
        miss(daemon, "10.2.0.7")
        daemon.run(lambda: daemon.backend.parts.perform([]))

        assert [one.rloc for one in heard[:-1]] == [str(number) for number in range(len(heard) - 1)]
        assert heard[-1].count == sent - (len(heard) - 1)
        assert sum(len(one.rloc) + 60 for one in heard) < 2 * MAX_UNREAD_OCTETS


def test_events_during_a_dump_are_kept_up_to_a_bound_and_the_rest_counted(daemon: Served) -> None:
    from lispmob.protocol.effect import Event as CoreEvent

    parts, sent = daemon.backend.parts, HELD_EVENTS + 10
    whole = daemon.backend.mappings.mapping_dump

    def busy() -> object:
        pages = whole()
        for number in range(sent):
            asyncio.get_running_loop().call_soon(parts.perform, [CoreEvent("rloc-unreachable", {"rloc": str(number)})])
        return pages

    daemon.backend.mappings.mapping_dump = busy  # type: ignore[method-assign, assignment]
    with connect(daemon) as mappings:
        mappings.follow("badreach", dump=True)
        heard: list[Event] = []
        while (event := mappings.next_event(0.5)) is not None:
            heard.append(event)

    missed = sum(one.count for one in heard if one.type == "lost")
    assert len([one for one in heard if one.type == "badreach"]) + missed == sent


def test_errors_are_exceptions_with_an_errno(daemon: Served) -> None:
    with connect(daemon) as mappings:
        mappings.add("10.2.0.0/16", [RLOC])
        with pytest.raises(MappingError) as exists:
            mappings.add("10.2.0.0/16", [RLOC])
        with pytest.raises(MappingError) as twice:
            mappings.put("10.2.0.0/16", [RLOC, RLOC])
        with pytest.raises(MappingError) as endless:
            mappings.put("10.2.0.0/16", [RLOC], is_static=True, ttl_s=5)
        with pytest.raises(MappingError) as strange:
            mappings.follow("misss")

        assert mappings.get("10.77.0.1") is None
    assert [exception_info.value.errno for exception_info in (exists, twice, endless, strange)] == [
        "EEXIST",
        "EINVAL",
        "EINVAL",
        None,
    ]
    assert "did you mean 'miss'?" in str(strange.value)


def test_a_socket_without_lispd_and_the_end_of_lispd_are_no_daemon(daemon: Served, tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="not running"):
        mapping.connect(str(tmp_path / "none"))
    with connect(daemon) as mappings:
        mappings.follow()
        daemon.stop()

        with pytest.raises(NoDaemon):
            next(mappings)


def test_select_tells_when_there_is_something_to_take(daemon: Served) -> None:
    with connect(daemon) as mappings:
        mappings.follow()
        assert mappings.next_event(0) is None
        miss(daemon, "10.2.0.7")

        assert select.select([mappings], [], [], 5)[0] == [mappings]
        event = mappings.next_event(0)
        assert event is not None
        assert event.type == "miss"


# --- asyncio


def test_tasks_ask_and_follow_on_one_connection(daemon: Served) -> None:
    async def program() -> list[tuple[str, str]]:
        async with await aio.connect(str(daemon.path)) as mappings:
            there = await mappings.follow(dump=True)
            assert [one.prefix for one in there] == ["10.0.0.1/32"]
            await asyncio.gather(*(mappings.add(f"10.{n}.0.0/16", [RLOC]) for n in range(2, 6)))
            await mappings.put("10.2.0.0/16", action="native")
            await mappings.change("10.3.0.0/16", [Locator("192.0.2.10")])
            await mappings.delete("10.4.0.0/16")
            with pytest.raises(MappingError) as caught:
                await mappings.add("10.2.0.0/16", [RLOC])
            assert caught.value.errno == "EEXIST"
            assert await mappings.get("10.4.0.1") is None
            found = await mappings.get("10.2.0.1")
            assert found is not None
            assert found.action == "native"
            assert len(await mappings.dump()) == 4
            assert await mappings.flush() == 3
            events = [await mappings.next_event() for _ in range(10)]
        return [(event.type, event.prefix) for event in events]

    heard = asyncio.run(program())

    assert heard[:7] == [
        *(("add", f"10.{n}.0.0/16") for n in range(2, 6)),
        ("change", "10.2.0.0/16"),
        ("change", "10.3.0.0/16"),
        ("delete", "10.4.0.0/16"),
    ]
    assert sorted(heard[7:]) == [("delete", f"10.{n}.0.0/16") for n in (2, 3, 5)]


def test_the_end_of_lispd_ends_every_task_that_waits(daemon: Served) -> None:
    async def program() -> None:
        async with await aio.connect(str(daemon.path)) as mappings:
            await mappings.follow()
            waiting = asyncio.get_running_loop().create_task(mappings.next_event())
            await asyncio.to_thread(daemon.stop)
            with pytest.raises(NoDaemon):
                await waiting
            with pytest.raises(NoDaemon):
                await mappings.dump()

    asyncio.run(program())
    with pytest.raises(NoDaemon):
        asyncio.run(aio.connect("/nowhere/lispd.sock"))


# --- lines


def test_a_program_that_takes_nothing_keeps_a_bound_and_a_count() -> None:
    queue = Queue()
    for number in range(QUEUE_MAX + 5):
        queue.put(Event("reach", rloc=str(number)))
    queue.put(Event("lost", count=3))

    taken = [queue.take() for _ in range(QUEUE_MAX + 1)]

    assert taken[-2].rloc == str(QUEUE_MAX - 1)
    assert (taken[-1].type, taken[-1].count) == ("lost", 8)
    assert not queue


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b"{}", b"7", b'{"error":{}}', b'{"mapping":{}}', b'{"mapping":3}'])
def test_a_line_that_is_none_of_ours_is_an_error(line: bytes) -> None:
    with pytest.raises(MappingError, match="another version"):
        Session().read(line)


def test_fields_that_are_not_known_yet_are_left_out() -> None:
    line = json.dumps({"v": 1, "mapping": {"type": "reach", "rloc": "192.0.2.9", "colour": "red"}}).encode()

    assert Session().read(line) == Event("reach", rloc="192.0.2.9")


def test_a_connection_that_only_follows_stays_open_when_its_writing_half_is_closed(daemon: Served) -> None:
    with socket.socket(socket.AF_UNIX) as one, one.makefile("rb") as reader:
        one.settimeout(5)
        one.connect(str(daemon.path))
        one.sendall(b'{"v":1,"id":1,"method":"mapping-events"}\n')
        one.shutdown(socket.SHUT_WR)
        assert json.loads(reader.readline())["result"] == {"is_following": True}
        miss(daemon, "10.2.0.7")

        assert json.loads(reader.readline())["mapping"]["eid"] == "10.2.0.7"
