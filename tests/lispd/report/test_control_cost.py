"""The cost of control messages by the hour, in virtual time."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.config.profile import PROFILES
from lispmob.control.probing.path import ProbeConfig
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispctl.show.energy import energy_lines
from lispmob.lispd.report.control_cost import ControlCost, Cost, purpose_of
from lispmob.lispd.views.upkeep_views import longest_unnoticed_s
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest

OWN, FAR, SIX = map(ip_address, ("192.0.2.9", "198.51.100.1", "2001:db8::1"))
WLAN = Uplink("wlan0", 3, (OWN,), 100, 1500, 1, 100)
PREFIX = EidPrefix.parse("10.1.0.2/32")
PROBE = MapRequest(7, None, (OWN,), (EidRecord.of(PREFIX),), is_probe=True).encode()
LOOKUP = MapRequest(7, None, (OWN,), (EidRecord.of(PREFIX),)).encode()


def ledger() -> ControlCost:
    return ControlCost(lambda: (WLAN,), 0.0)


@pytest.mark.parametrize(
    ("payload", "purpose"),
    [
        (bytes((0x30, 0, 0, 1)), "register"),
        (bytes((0x40, 0, 0, 1)), "register"),
        (PROBE, "probe"),
        (MapReply(7, (), is_probe=True).encode(), "probe"),
        (MapReply(7, ()).encode(), "lookup"),
        (EncapsulatedControl(OWN, 1, FAR, 2, LOOKUP).encode(), "lookup"),
        (EncapsulatedControl(OWN, 1, FAR, 2, bytes((0x30, 0, 0, 1))).encode(), "register"),
        (EncapsulatedControl(SIX, 1, SIX, 2, bytes((0x30, 0, 0, 1))).encode(), "register"),
        (bytes((0x70, 0, 0, 0)), "nat"),
        (b"", "other"),
        (bytes((0x80, 0, 0, 0, 0x45)), "lookup"),
    ],
)
def test_a_message_is_counted_by_what_it_is_for(payload: bytes, purpose: str) -> None:
    assert purpose_of(payload) == purpose


def test_packets_octets_and_wake_ups_are_counted_by_uplink() -> None:
    cost = ledger()

    cost.on_sent(SendControl(PROBE, FAR, source=OWN), 10.0)
    cost.on_received(MapReply(7, (), is_probe=True).encode(), OWN, 3, 10.2)
    cost.on_sent(SendControl(PROBE, FAR, ifindex=3), 40.0)
    cost.on_sent(SendControl(LOOKUP, SIX, source=SIX), 40.0)

    elsewhere, wlan = cost.costs(60.0)
    octets = 2 * (len(PROBE) + 28) + len(MapReply(7, ()).encode()) + 28
    assert wlan == Cost("wlan0", "probe", sent=2, received=1, octets=octets, wake_ups=2)
    assert (elsewhere.uplink, elsewhere.octets) == ("elsewhere", len(LOOKUP) + 48)


def test_what_is_older_than_an_hour_does_not_count() -> None:
    cost = ledger()
    cost.on_sent(SendControl(PROBE, FAR, source=OWN), 1.0)
    cost.on_sent(SendControl(PROBE, FAR, source=OWN), 3000.0)

    assert [one.sent for one in cost.costs(3500.0)] == [2]
    assert [one.sent for one in cost.costs(3700.0)] == [1]
    assert list(cost.costs(50_000.0)) == []
    assert cost.since_s(50_000.0) <= 3600.0


def test_the_battery_profile_says_how_much_later_a_dead_path_is_noticed() -> None:
    usual, battery = ProbeConfig(), PROFILES["battery"]

    longest = [
        longest_unnoticed_s(probe_config) for probe_config in (usual, ProbeConfig(interval_s=battery.probe_interval_s))
    ]

    assert longest == [39.5, 152.0]
    assert battery.register_interval_s < 180  # RFC 9301, 8.2: a Map-Server removes a registration after this time


def test_costs_are_said_by_the_hour_for_people() -> None:
    one = {
        "uplink": "wlan0",
        "purpose": "probe",
        "sent_per_hour": 120.0,
        "received_per_hour": 119.6,
        "octets_per_hour": 20480.0,
        "wake_ups_per_hour": 118.0,
    }

    lines = energy_lines({"profile": "battery", "counted_s": 90.0, "costs": [one], "unnoticed_up_to_s": 152.0})
    quiet = energy_lines({"profile": "normal", "counted_s": 5.0, "costs": [], "unnoticed_up_to_s": None})

    assert lines[1].split() == ["wlan0", "probes", "120", "120", "20.5", "118"]
    assert "noticed within 152 seconds" in " ".join(lines)
    assert "a start sends more" in " ".join(lines)
    assert quiet[0] == "nothing was sent yet"


def test_an_uplink_wakes_once_for_messages_that_follow_closely_whatever_others_do_meanwhile() -> None:
    lte = Uplink("wwan0", 4, (SIX,), 200, 1500, 1, 100)
    cost = ControlCost(lambda: (WLAN, lte), 0.0)
    for tenth in range(5):
        cost.on_sent(SendControl(PROBE, FAR, ifindex=3), 10.0 + tenth / 10)
        cost.on_sent(SendControl(PROBE, FAR, ifindex=4), 10.05 + tenth / 10)

    assert [(one.uplink, one.sent, one.wake_ups) for one in cost.costs(60.0)] == [("wlan0", 5, 1), ("wwan0", 5, 1)]
