"""One observed move: its figures from its probes and its messages."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lispmob.lab.charts import Picture, Span, draw
from lispmob.lab.handover import Handover, Message
from lispmob.lab.packet_log import PacketLog
from lispmob.lab.uplink_watch import Sent

LOSS = 10.0


def stream(gone: range) -> PacketLog:
    sent = [(n, 9.0 + n * 0.01) for n in range(300)]
    return PacketLog.of(sent, [(n, at + 0.04) for n, at in sent if n not in gone])


def handover(out: range, back: range, **changes: object) -> Handover:
    messages = (
        Message(10.005, "a", "map-register", is_out=True, peer="198.51.100.10"),
        Message(10.006, "a", "smr", is_out=True, peer="198.19.1.10"),
        Message(10.046, "b", "encapsulated smr-invoked map-request", is_out=True, peer="198.51.100.10"),
        Message(10.090, "a", "map-notify", is_out=False, peer="198.51.100.10"),
    )
    values: dict[str, object] = {
        "name": "moved",
        "title": "a wlan0: moved to another network (cafe)",
        "began_at": LOSS,
        "ended_at": LOSS + 0.002,
        "seen_until": 11.9,
        "rate_hz": 100.0,
        "out": stream(out),
        "back": stream(back),
        "messages": messages,
    }
    return Handover(**(values | changes))  # type: ignore[arg-type]


def test_losses_and_gaps_are_told_for_each_direction() -> None:
    fields = handover(range(100, 102), range(96, 112)).fields()

    assert (fields["lost_out"], fields["lost_in"]) == (2, 16)
    assert (fields["gap_out_ms"], fields["gap_in_ms"]) == (60.0, 160.0)
    assert fields["took_ms"] == 2.0


def test_what_left_before_the_loss_does_not_end_the_outgoing_gap() -> None:
    # Packets sent before the loss still arrive for 40 ms after it.
    assert handover(range(0), range(0)).fields()["gap_out_ms"] == 50.0


def test_what_arrives_after_the_loss_took_the_new_way() -> None:
    gap_ms = handover(range(0), range(0)).fields()["gap_in_ms"]

    assert isinstance(gap_ms, float)
    assert 0 < gap_ms <= 10


def test_a_direction_that_never_opens_again_has_no_gap_but_a_silence() -> None:
    shut = handover(range(0), range(100, 300))

    assert not shut.has_reopened
    assert shut.fields()["gap_in_ms"] is None
    assert shut.fields()["silence_in_ms"] == pytest.approx(1870, abs=1)


def test_without_packets_before_the_move_there_is_no_baseline() -> None:
    assert handover(range(0), range(0)).has_baseline()
    assert not handover(range(100), range(0)).has_baseline()


def test_the_picture_is_well_formed_and_names_moves_networks_and_losses(tmp_path: Path) -> None:
    seen = handover(range(100, 102), range(96, 112))
    back = handover(range(0), range(0), title="a wlan0: uplink came back", is_break=False)
    spans = (Span("lte0", "lte", 8.0, 20.0), Span("wlan0", "home", 8.0, 10.0), Span("wlan0", "cafe", 10.0, 20.0))

    draw(Picture(8.0, 20.0, spans, (seen, back)), tmp_path / "timeline.svg")

    text = "".join(ET.parse(tmp_path / "timeline.svg").getroot().itertext())  # noqa: S314 -- drawn a line above
    for wanted in ("home", "cafe", "lost 2 out, 16 in", "Map-Register", "SMR", "one-way delay, ms"):
        assert wanted in text


def test_a_demonstration_without_moves_is_drawn_too(tmp_path: Path) -> None:
    draw(Picture(0.0, 1.0, (), ()), tmp_path / "timeline.svg")

    assert (tmp_path / "timeline.svg").stat().st_size > 0


def test_the_picture_shows_what_left_by_each_uplink(tmp_path: Path) -> None:
    rloc = ip_address("198.51.100.7")
    sent = tuple(Sent(0.1 * number, "lte0" if number % 4 == 0 else "wlan0", rloc, 20_000, 128) for number in range(50))

    draw(Picture(0.0, 5.0, (), (), sent), tmp_path / "timeline.svg")

    text = "".join(ET.parse(tmp_path / "timeline.svg").getroot().itertext())  # noqa: S314 -- drawn a line above
    for wanted in ("wlan0", "lte0", "kB per 0.1 s", "What left by each uplink"):
        assert wanted in text
