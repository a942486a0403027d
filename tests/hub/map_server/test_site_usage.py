"""What one site registers takes no room from another, and is bounded."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.wire.auth import Key
from tests.hub.exchange import KEY, eid, events, plane, site, xtr

EVIL_KEY = Key(b"a key of evil", key_id=0, algorithm=KEY.algorithm)
GOOD = "10.1.0.1/32"


def hub_with_evil(**options: object) -> ControlPlane:
    evil = site("10.9.0.0/16", name="evil", key=EVIL_KEY, **options)  # type: ignore[arg-type]
    return plane(site("10.1.0.0/16"), evil)


def test_a_site_has_no_more_prefixes_than_it_may() -> None:
    hub, evil = hub_with_evil(max_prefixes=10), xtr("192.0.2.66", key=EVIL_KEY)

    for number in range(30):
        hub.on_datagram(evil.register(f"10.9.0.{number}/32"), 0.0)

    assert len(hub.map_server.registrations) == 10
    assert hub.counters["rx_limit"] == 20


def test_a_message_with_many_prefixes_is_taken_whole_or_not_at_all() -> None:
    hub, evil = hub_with_evil(max_prefixes=10), xtr("192.0.2.66", key=EVIL_KEY)

    hub.on_datagram(evil.register(*(f"10.9.0.{number}/32" for number in range(11))), 0.0)
    assert len(hub.map_server.registrations) == 0

    hub.on_datagram(evil.register(*(f"10.9.0.{number}/32" for number in range(10))), 0.0)
    assert len(hub.map_server.registrations) == 10


def test_what_is_withdrawn_or_runs_out_makes_room() -> None:
    hub, evil = hub_with_evil(max_prefixes=1), xtr("192.0.2.66", key=EVIL_KEY)
    for prefix in ("10.9.0.1/32", "10.9.0.2/32"):
        hub.on_datagram(evil.register(prefix), 0.0)
        hub.on_datagram(evil.withdraw(prefix), 0.0)
    hub.on_datagram(evil.register("10.9.0.3/32"), 0.0)
    hub.on_timer(180.0)

    hub.on_datagram(evil.register("10.9.0.4/32"), 181.0)

    assert [str(prefix) for prefix, _ in hub.map_server.registrations] == ["10.9.0.4/32"]


def test_a_refresh_and_a_move_fit_into_a_full_site() -> None:
    hub, evil = hub_with_evil(max_prefixes=1), xtr("192.0.2.66", key=EVIL_KEY)
    hub.on_datagram(evil.register("10.9.0.1/32"), 0.0)
    evil.address = ip_address("192.0.2.67")

    hub.on_datagram(evil.register("10.9.0.1/32"), 1.0)

    assert hub.counters["registration_moved"] == 1


def test_another_sites_full_table_keeps_no_node_out() -> None:
    hub, evil = hub_with_evil(max_prefixes=10), xtr("192.0.2.66", key=EVIL_KEY)
    for number in range(20):
        hub.on_datagram(evil.register(f"10.9.0.{number}/32"), 0.0)

    hub.on_datagram(xtr("203.0.113.5").register(GOOD), 0.0)

    assert hub.map_server.registrations.get(eid(GOOD)) is not None


def test_another_sites_many_xtrs_make_no_old_register_new() -> None:
    hub, evil, good = hub_with_evil(), xtr("192.0.2.66", key=EVIL_KEY), xtr("203.0.113.5")
    captured = good.register(GOOD)
    hub.on_datagram(captured, 0.0)
    hub.on_datagram(good.register(GOOD), 1.0)

    for number in range(70_000):
        if number % 100 == 0:  # the Map-Server decodes one in a hundred, which keeps the test short
            evil.xtr_id = (number + 1).to_bytes(16)
            hub.on_datagram(evil.register("10.9.0.1/32"), 2.0)
    hub.on_datagram(captured, 3.0)

    assert hub.counters["rx_replay"] == 1


def test_a_site_with_one_eid_cannot_fill_the_memory_with_xtr_ids() -> None:
    hub, evil = hub_with_evil(more_specifics=False), xtr("192.0.2.66", key=EVIL_KEY)

    for number in range(300):
        evil.xtr_id = (number + 1).to_bytes(16)
        hub.on_datagram(evil.register("10.9.0.0/16"), 0.0)

    assert len(hub.map_server._nonces) < 100
    assert hub.counters["rx_limit"] > 200


def test_registering_and_withdrawing_for_hours_leaves_nothing_behind() -> None:
    hub, evil = hub_with_evil(), xtr("192.0.2.66", key=EVIL_KEY)

    for _ in range(300):
        hub.on_datagram(evil.register("10.9.0.1/32", ttl_min=1440, uses_ttl=True), 0.0)
        hub.on_datagram(evil.withdraw("10.9.0.1/32"), 0.0)

    assert len(hub.map_server._due) == 0


def test_the_octets_of_a_site_have_an_end() -> None:
    hub, evil = hub_with_evil(max_prefixes=400), xtr("192.0.2.66", key=EVIL_KEY)
    rlocs = [f"192.0.2.{number}" for number in range(1, 31)]

    for low in range(400):
        hub.on_datagram(evil.register(f"10.9.{low // 200}.{low % 200}/32", rlocs=rlocs, ttl_min=1440), 0.0)

    held = sum(registration.octets for _, registration in hub.map_server.registrations)
    assert held <= 400 * 512
    assert hub.counters["rx_limit"] == 0

    evil_table = hub_with_evil(max_prefixes=1)
    for number in range(16):
        evil.xtr_id = (number + 1).to_bytes(16)
        evil_table.on_datagram(evil.register("10.9.0.1/32", rlocs=rlocs, wants_merge=True), 0.0)
    (found,) = [registration for _, registration in evil_table.map_server.registrations]
    assert found.octets <= 65536


@pytest.mark.parametrize("counter", ["rx_replay", "rx_limit", "rx_policy"])
def test_the_log_says_once_a_minute_what_a_site_does_wrong_whatever_strangers_send(counter: str) -> None:
    hub, evil = hub_with_evil(max_prefixes=1), xtr("192.0.2.66", key=EVIL_KEY)
    hub.on_datagram(evil.register("10.9.0.1/32"), 0.0)
    for low in range(300):  # attackers, from everywhere
        hub.on_datagram(xtr(f"198.18.0.{low % 250 + 1}", key=Key(b"junk")).register(GOOD), 1.0)
    wrong: dict[str, Callable[[], Arrival]] = {
        "rx_replay": lambda: evil.register("10.9.0.1/32", nonce=0),
        "rx_limit": lambda: evil.register("10.9.0.2/32"),
        "rx_policy": lambda: evil.register("10.9.0.1/32", GOOD),
    }

    told = [event for second in range(60) for event in events(hub.on_datagram(wrong[counter](), 2.0 + second))]

    assert [event.kind for event in told if event.fields["source"] == "192.0.2.66"] == ["refused"]


def test_strangers_from_everywhere_do_not_fill_the_log() -> None:
    hub, told = hub_with_evil(), 0

    for number in range(5000):
        stranger = xtr(f"198.18.{number // 250}.{number % 250 + 1}", key=Key(b"junk"))
        told += len(events(hub.on_datagram(stranger.register(GOOD), number / 500)))

    assert told <= 25
