from __future__ import annotations

from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd.handover import ways
from lispmob.lispd.report.handovers import KEPT_MOVES, KEPT_STEPS, Direction, HandoverJournal


def test_the_steps_of_a_move_are_timed_from_the_event_that_began_it() -> None:
    journal = HandoverJournal()

    journal.on_change(["wlan0: address lost"], now=10.0, wall=1e9)
    journal.on_step("register", "198.51.100.1", now=10.002)
    journal.on_step("notify", "198.51.100.1", now=10.082)

    assert [(step.at_ms, step.what) for step in journal.moves[0].steps] == [
        (0.0, "uplink"),
        (2.0, "register"),
        (82.0, "notify"),
    ]


def test_how_long_forwarding_took_to_move_is_kept_for_each_move() -> None:
    journal = HandoverJournal()
    journal.on_moved(now=9.0)

    journal.on_change(["wlan0: carrier lost"], now=10.0, wall=1e9)
    journal.on_moved(now=10.0004)
    journal.on_change(["wlan0: carrier back"], now=11.0, wall=1e9)

    assert [move.moved_after_ms for move in journal.moves] == [0.4, None]


def test_the_gap_runs_from_the_last_packet_before_to_the_first_one_after() -> None:
    journal = HandoverJournal()
    journal.on_change(["wlan0: link down"], now=10.0, wall=1e9)

    journal.on_packet(Direction.OUT, at=10.012, last_before=9.995)
    journal.on_packet(Direction.IN, at=10.150, last_before=9.990)

    assert (journal.moves[0].gap_out_ms, journal.moves[0].gap_in_ms) == (17.0, 160.0)


def test_silence_before_the_move_is_not_called_a_gap() -> None:
    journal = HandoverJournal()
    journal.on_change(["wlan0: link down"], now=10.0, wall=1e9)

    journal.on_packet(Direction.OUT, at=12.0, last_before=3.0)
    journal.on_packet(Direction.IN, at=12.0, last_before=None)

    assert (journal.moves[0].gap_out_ms, journal.moves[0].gap_in_ms) == (None, None)


def test_what_happens_before_the_first_move_is_no_part_of_a_move() -> None:
    journal = HandoverJournal()

    journal.on_step("register", "198.51.100.1", now=1.0)
    journal.on_packet(Direction.IN, at=1.0, last_before=None)

    assert list(journal.moves) == []


def test_the_journal_is_bounded_in_moves_and_in_steps() -> None:
    journal = HandoverJournal()

    for number in range(KEPT_MOVES + 5):
        journal.on_change(["again"], now=float(number), wall=0.0)
    for _ in range(KEPT_STEPS * 2):
        journal.on_step("smr", "peer", now=100.0)

    assert len(journal.moves) == KEPT_MOVES
    assert journal.moves[-1].number == KEPT_MOVES + 5
    assert len(journal.moves[-1].steps) == KEPT_STEPS


def test_a_move_says_from_where_to_where_and_what_was_lost_meanwhile_and_no_later() -> None:
    journal = HandoverJournal()
    journal.on_unsent(7, now=1.0)
    journal.on_change(["wlan0: link down"], now=10.0, wall=1e9, left=("wifi wlan0",), unsent=7)
    journal.on_moved(now=10.01, took=("wwan wwan0",))

    journal.on_unsent(9, now=10.2)
    journal.on_unsent(50, now=60.0)

    (move,) = journal.moves
    assert (move.left, move.took, move.lost) == (("wifi wlan0",), ("wwan wwan0",), 2)


def test_the_ways_of_a_move_are_the_uplinks_of_the_best_priority() -> None:
    uplinks = [
        Uplink(name, 1, (), 100, 1500, priority, 1, kind)
        for name, priority, kind in (("wlan0", 1, "wifi"), ("wwan0", 2, "wwan"), ("wlan1", 1, "wifi"))
    ]

    assert ways(uplinks) == ("wifi wlan0", "wifi wlan1")
    assert ways(()) == ()
