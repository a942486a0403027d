"""A hub that starts again knows what it knew, without what has expired meanwhile."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from zlib import crc32

import pytest
from msgspec.structs import replace

from lispmob.errors import LispError
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import RegistrationChanged
from lispmob.hub.map_server.nonces import Count, owner_of
from lispmob.hub.store import stored_rows
from lispmob.hub.store.store import Clock, Store
from lispmob.wire.map_register import MapRegister
from tests.hub.exchange import KEY, ask, eid, plane, reply_in, rlocs_of, site, xtr

LAPTOP = "10.1.0.1/32"


@dataclass
class Time:
    """Two clocks that a test sets; a reboot sets the monotonic one back to zero."""

    monotonic_s: float = 1000.0
    wall_s: float = 1_700_000_000.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.monotonic_s, lambda: self.wall_s)


def store(path: Path, time: Time) -> Store:
    one = Store(path, time.clock)
    one.open()
    return one


def save_all(hub: ControlPlane, one: Store) -> None:
    one.save(
        {prefix: registration.parts for prefix, registration in hub.map_server.registrations},
        hub.map_server.take_new_nonces(),
    )


def restarted(path: Path, time: Time, **options: object) -> ControlPlane:
    hub, one = plane(site("10.1.0.0/16", **options)), store(path, time)  # type: ignore[arg-type]
    restore(hub, one, time)
    return hub


def restore(hub: ControlPlane, one: Store, time: Time) -> None:
    nonces, registrations = one.load()
    one.close()
    hub.map_server.restore_nonces(nonces)
    hub.restore(registrations, time.monotonic_s)
    hub.map_server.on_restored(time.monotonic_s)


def ended_with_a_laptop(path: Path, time: Time) -> None:
    """A hub at which a laptop has registered, and which has written its state and ended."""
    hub, one = plane(site("10.1.0.0/16")), store(path, time)
    hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=time.monotonic_s)
    save_all(hub, one)
    one.close()


def test_a_registration_outlives_the_hub_and_ends_when_it_would_have(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    ended_with_a_laptop(path, time)

    time.monotonic_s, time.wall_s = 5.0, time.wall_s + 100  # a reboot that took 100 s
    again = restarted(path, time)

    assert rlocs_of(reply_in(again.on_datagram(ask(LAPTOP), now=5.0)).records[0]) == ["203.0.113.5"]
    assert again.wake_at() == pytest.approx(85.0)
    assert RegistrationChanged(eid(LAPTOP), None) in again.on_timer(86.0)


def test_what_ran_out_while_the_hub_was_down_stays_gone(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    ended_with_a_laptop(path, time)

    time.wall_s += 181

    assert len(restarted(path, time).map_server.registrations) == 0


def test_a_wall_clock_set_back_prolongs_nothing_beyond_a_lifetime(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    ended_with_a_laptop(path, time)

    time.wall_s -= 86400

    at = restarted(path, time).wake_at()
    assert at is not None
    assert at <= time.monotonic_s + 180.0


def test_a_withdrawn_registration_does_not_come_back_even_by_a_replay(tmp_path: Path) -> None:
    time, path, node = Time(), tmp_path / "hub.sqlite", xtr("203.0.113.5")
    hub, one = plane(site("10.1.0.0/16", strict_nonces=True)), store(path, time)
    old = node.register(LAPTOP)
    hub.on_datagram(old, now=time.monotonic_s)
    save_all(hub, one)
    hub.on_datagram(node.withdraw(LAPTOP), now=time.monotonic_s)
    one.save({eid(LAPTOP): ()}, hub.map_server.take_new_nonces())
    one.close()

    again = restarted(path, time, strict_nonces=True)
    again.on_datagram(old, now=time.monotonic_s)

    assert len(again.map_server.registrations) == 0
    assert again.counters["rx_replay"] == 1


def test_merged_xtrs_and_instances_come_back_as_they_were(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    hub, one = plane(site("[100]10.1.0.0/16")), store(path, time)
    for address, xtr_id in (("203.0.113.5", b"1" * 16), ("192.0.2.9", b"2" * 16)):
        node = xtr(address, xtr_id=xtr_id)
        hub.on_datagram(node.register("[100]10.1.0.1/32", wants_merge=True), now=time.monotonic_s)
    save_all(hub, one)
    one.close()

    again, reopened = plane(site("[100]10.1.0.0/16")), store(path, time)
    restore(again, reopened, time)

    assert [(prefix, list(r)) for prefix, r in again.map_server.registrations] == [
        (prefix, list(r)) for prefix, r in hub.map_server.registrations
    ]


def test_what_the_sites_forbid_by_now_is_not_restored(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    ended_with_a_laptop(path, time)

    assert len(restarted(path, time, more_specifics=False).map_server.registrations) == 0


@pytest.mark.parametrize(
    "octets", [b"not a database, but longer than the header of one would be" * 4, b"SQLite format 3\0"]
)
def test_a_damaged_file_is_kept_aside_and_replaced(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "hub.sqlite"
    path.write_bytes(octets)
    one = Store(path, Time().clock)

    why = one.open()

    assert why is not None
    assert str(path) in why
    assert one.load() == ([], [])
    assert (tmp_path / "hub.sqlite.unusable").read_bytes() == octets
    one.close()


def test_a_file_of_another_program_or_a_later_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    store(path, Time()).close()
    raw = bytearray(path.read_bytes())
    raw[63] = 99  # the schema version, in the header of the file
    path.write_bytes(raw)
    one = Store(path, Time().clock)

    why = one.open()

    assert why is not None
    assert "schema version 99" in why
    one.close()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "hub.sqlite"

    with pytest.raises(LispError, match=str(path)):
        Store(path, Time().clock).open()


def test_a_count_outlives_the_hub_by_any_time(tmp_path: Path) -> None:
    time, path, node = Time(), tmp_path / "hub.sqlite", xtr("203.0.113.5")
    hub, one = plane(site("10.1.0.0/16")), store(path, time)
    old = node.register(LAPTOP)
    hub.on_datagram(old, now=time.monotonic_s)
    save_all(hub, one)
    one.close()

    time.monotonic_s, time.wall_s = 5.0, time.wall_s + 365 * 86400
    again = restarted(path, time)
    again.on_datagram(old, now=time.monotonic_s)

    assert again.counters["rx_replay"] == 1


@pytest.mark.parametrize("nonce", [0, 2**63, 2**64 - 1])
def test_nonces_of_all_sizes_come_back_as_they_were(tmp_path: Path, nonce: int) -> None:
    time, path, node = Time(), tmp_path / "hub.sqlite", xtr("203.0.113.5")
    hub, one = plane(site("10.1.0.0/16")), store(path, time)
    hub.on_datagram(node.register(LAPTOP, nonce=nonce), now=time.monotonic_s)
    save_all(hub, one)

    assert [Count.decode(count).nonce for _, count in one.load()[0]] == [nonce]
    one.close()


REGISTRATIONS_OF_VERSION_2 = """
CREATE TABLE registrations (
    eid TEXT NOT NULL, xtr BLOB NOT NULL, message BLOB NOT NULL, source TEXT NOT NULL,
    registered_at REAL NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (eid, xtr)
) WITHOUT ROWID
"""
NONCES = {
    1: "CREATE TABLE nonces (who TEXT PRIMARY KEY, nonce TEXT NOT NULL) WITHOUT ROWID",
    2: "CREATE TABLE nonces (owner TEXT, name TEXT, nonce TEXT, is_counting INTEGER, heard_at REAL)",
}


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_version_keeps_registrations_and_nonces(tmp_path: Path, version: int) -> None:
    time, path, node = Time(), tmp_path / "hub.sqlite", xtr("203.0.113.5")
    register = MapRegister.decode(node.register(LAPTOP, nonce=2**63).payload)
    message = replace(register, authentication=b"", key_id=0, algorithm_id=0).encode()
    store(path, time).close()
    database = sqlite3.connect(path)
    for statement in ("DROP TABLE nonces", "DROP TABLE registrations", REGISTRATIONS_OF_VERSION_2, NONCES[version]):
        database.execute(statement)
    row = (LAPTOP, node.address.packed, message, str(node.address), time.wall_s - 10, time.wall_s + 170)
    database.execute("INSERT INTO registrations VALUES (?, ?, ?, ?, ?, ?)", row)
    if version == 1:
        rows = [(json.dumps(["home", 0, LAPTOP]), str(2**63)), ("not json", "7")]
        database.executemany("INSERT INTO nonces VALUES (?, ?)", rows)
    else:
        more = [(owner_of(KEY), LAPTOP, str(2**63), 1, time.wall_s - 10), ("", "no EID", "7", 1, 0.0)]
        database.executemany("INSERT INTO nonces VALUES (?, ?, ?, ?, ?)", more)
    database.execute(f"PRAGMA user_version = {version}")
    database.commit()
    database.close()

    again = restarted(path, time)
    again.on_datagram(node.register(LAPTOP, nonce=2**63), now=time.monotonic_s)

    assert rlocs_of(reply_in(again.on_datagram(ask(LAPTOP), now=time.monotonic_s)).records[0]) == ["203.0.113.5"]
    assert again.counters["rx_replay"] == 1
    save_all(again, one := store(path, time))
    assert len(one.load()[0]) == 1
    one.close()


@pytest.mark.parametrize("has_lisp_sec", [False, True])
def test_whether_an_etr_signs_with_lisp_sec_outlives_the_hub(tmp_path: Path, has_lisp_sec: bool) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    hub, one = plane(site("10.1.0.0/16")), store(path, time)
    hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, has_lisp_sec=has_lisp_sec), now=time.monotonic_s)
    save_all(hub, one)
    one.close()

    (registration,) = [found for _, found in restarted(path, time).map_server.registrations]

    assert [part.has_lisp_sec for part in registration] == [has_lisp_sec]


def test_a_refresh_is_known_by_its_nonce_alone(tmp_path: Path) -> None:
    time, path, node = Time(), tmp_path / "hub.sqlite", xtr("203.0.113.5", xtr_id=b"x" * 16)
    hub, one = plane(site("10.1.0.0/16")), store(path, time)
    hub.on_datagram(node.register(LAPTOP), now=time.monotonic_s)
    save_all(hub, one)
    (change,) = (
        effect
        for effect in hub.on_datagram(node.register(LAPTOP), now=time.monotonic_s + 60)
        if isinstance(effect, RegistrationChanged)
    )
    one.save({}, hub.map_server.take_new_nonces())
    one.close()

    time.monotonic_s, time.wall_s = time.monotonic_s + 200, time.wall_s + 200
    again = restarted(path, time)

    assert change.is_stored
    assert again.wake_at() == pytest.approx(time.monotonic_s + 40)


@pytest.mark.parametrize("changed", [{"source": "192.0.2.9"}, {"ttl_min": 7, "uses_ttl": True}, {"proxy": False}])
def test_what_moves_more_than_times_is_written(changed: dict[str, object]) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    rlocs = ["203.0.113.5"]
    hub.on_datagram(node.register(LAPTOP, rlocs=rlocs, ttl_min=7), now=0.0)
    node.address = ip_address(str(changed.pop("source", node.address)))
    is_proxied = bool(changed.pop("proxy", True))

    arrival = node.register(LAPTOP, rlocs=rlocs, proxy_map_reply=is_proxied, **{"ttl_min": 7, **changed})  # type: ignore[arg-type]
    effects = hub.on_datagram(arrival, now=1.0)

    (told,) = (effect for effect in effects if isinstance(effect, RegistrationChanged))
    assert told.is_refresh
    assert not told.is_stored


def test_a_damaged_row_is_left_out_and_the_others_come_back(tmp_path: Path) -> None:
    time, path = Time(), tmp_path / "hub.sqlite"
    hub, one = plane(site("10.1.0.0/16")), store(path, time)
    for number in (1, 2, 3):
        hub.on_datagram(xtr("203.0.113.5").register(f"10.1.0.{number}/32"), now=time.monotonic_s)
    save_all(hub, one)
    one.close()
    database = sqlite3.connect(path)
    rows = database.execute("SELECT eid, parts FROM registrations ORDER BY eid").fetchall()
    for (key, value), octets in zip(rows, (b"", b"\xff", rows[2][1]), strict=True):
        database.execute("UPDATE registrations SET parts = ? WHERE eid = ?", (octets and value[:50] + octets, key))
    database.execute("UPDATE registrations SET parts = ? WHERE eid = ?", (rows[2][1], rows[2][0]))
    database.commit()
    database.close()

    assert [str(prefix) for prefix, _ in restarted(path, time).map_server.registrations] == ["10.1.0.3/32"]


@pytest.mark.parametrize("parts", [b"\0\0", b"\0\3abc", b"\xff\xff" + bytes(80), b"\0\x40" + bytes(63)])
def test_a_row_whose_parts_have_lengths_that_no_part_has_is_damaged(parts: bytes) -> None:
    with pytest.raises(ValueError, match="parts"):
        stored_rows.split(parts + crc32(parts).to_bytes(4), 0.0, 0.0)
