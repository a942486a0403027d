"""Figures for Prometheus: its own parser reads the text, and a scrape shows that a daemon is gone."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lispmob.errors import LispError, NotRunning
from lispmob.metrics import hub, node
from lispmob.metrics.exposition import MOST, serve, text_of
from lispmob.metrics.family import Family, labelled
from lispmob.metrics.serving import place_of

HUB: dict[str, Any] = {
    "status": {
        "version": "1.0",
        "started_at": 1000.0,
        "sites": 3,
        "sites_registered": 2,
        "registered": 4,
        "behind_rtr": 1,
        "invitations": {"joined": 2, "invited": 1, "expired": 0},
        "pools": [{"prefix": "10.99.0.0/24", "left": 251}],
        "problems": [{"key": "wrong-key"}, {"key": "wrong-key"}],
    },
    "counters": {"counters": {"registration_moved": 7, "rx_auth": 2}},
}
NODE: dict[str, Any] = {
    "status": {
        "version": "1.0",
        "uptime_s": 12.5,
        "verdict": "degraded",
        "eids": [
            {
                "prefix": "10.99.0.1/32",
                "registrations": [{"map_server": "198.51.100.1", "state": "registered", "rtt_ms": 20.0}],
            }
        ],
        "locators": [{"address": "203.0.113.5", "interface": 'wl"an\\0\n'}],
        "problems": [{"key": "no-answer", "severity": "degraded"}],
        "map_cache_size": 2,
        "datapath": {"packets_out": 5, "packets_in": 6, "octets_out": 500, "octets_in": 600, "drops": 1},
        "last_handover": {"gap_out_ms": 40.0, "gap_in_ms": None},
    },
    "counters": {"datapath": {"no_mapping": 3}},
}


def read(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample, by its name and the values of its labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_of_a_hub_are_read_as_they_are() -> None:
    samples = read(text_of("lisphub_up", hub.families(HUB)))

    assert samples["lisphub_up", ()] == 1
    assert samples["lisphub_sites_registered", ()] == 2
    assert samples["lisphub_invitations", ("invited",)] == 1
    assert samples["lisphub_pool_left", ("10.99.0.0/24",)] == 251
    assert samples["lisphub_problems", ("wrong-key",)] == 2
    assert samples["lisphub_moves_total", ()] == 7
    assert samples["lisphub_events_total", ("rx_auth",)] == 2


def test_the_figures_of_a_node_are_read_as_they_are_whatever_an_interface_is_called() -> None:
    samples = read(text_of("lispd_up", node.families(NODE)))

    assert samples["lispd_verdict", ("degraded",)] == 1
    assert samples["lispd_verdict", ("working",)] == 0
    assert samples["lispd_registered", ("10.99.0.1/32", "198.51.100.1")] == 1
    assert samples["lispd_register_round_trip_seconds", ("10.99.0.1/32", "198.51.100.1")] == 0.02
    assert samples["lispd_locator", ("203.0.113.5", 'wl"an\\0\n')] == 1
    assert samples["lispd_octets_total", ("out",)] == 500
    assert samples["lispd_last_move_gap_seconds", ("out",)] == 0.04
    assert ("lispd_last_move_gap_seconds", ("in",)) not in samples
    assert samples["lispd_events_total", ("datapath", "no_mapping")] == 3


def test_each_scrape_asks_again_and_reports_when_no_daemon_answers() -> None:
    answers: list[list[Family]] = [[labelled("lisphub_sites", "x", (), {(): 3})], []]

    def ask() -> list[Family]:
        if not (found := answers.pop(0)):
            raise NotRunning("gone")
        return found

    port, stop = serve("127.0.0.1", 0, "lisphub_up", ask)
    try:
        first, second = (_scrape(port) for _ in range(2))
    finally:
        stop()

    assert (first["lisphub_up", ()], first["lisphub_sites", ()]) == (1, 3)
    assert second == {("lisphub_up", ()): 0}


def test_requests_that_do_not_end_keep_no_scrape_out() -> None:
    port, stop = serve("127.0.0.1", 0, "lisphub_up", list)
    try:
        with contextlib.ExitStack() as stack:
            for number in range(3 * MOST):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                connection.sendall((b"", b"GET /metrics HTTP/1.1\r\nX: ", b"\x16\x03\x01")[number % 3])

            scraped = _scrape(port)
    finally:
        stop()

    assert scraped == {("lisphub_up", ()): 0}


def test_it_is_served_by_ipv6_as_well() -> None:
    port, stop = serve("::1", 0, "lisphub_up", list)
    try:
        with urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=5) as answer:
            assert answer.status == 200
    finally:
        stop()


def _scrape(port: int) -> dict[tuple[str, tuple[str, ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return read(answer.read().decode())


@pytest.mark.parametrize(
    ("text", "place"),
    [("9342", ("127.0.0.1", 9342)), ("192.0.2.1:80", ("192.0.2.1", 80)), ("[::1]:9342", ("::1", 9342))],
)
def test_without_an_address_it_is_served_to_this_machine_alone(text: str, place: tuple[str, int]) -> None:
    assert place_of(text) == place


@pytest.mark.parametrize("text", ["", "x", "localhost:1", "127.0.0.1:70000", "::1:"])
def test_what_is_no_place_to_listen_at_is_told(text: str) -> None:
    with pytest.raises(LispError, match="no place to listen at"):
        place_of(text)


def test_the_dashboard_asks_for_figures_that_there_are() -> None:
    board = json.loads((Path(__file__).resolve().parents[2] / "examples" / "grafana-lispmob.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:lispd|lisphub)_\w+", target["expr"])
    }
    known = {name for name, _ in read(text_of("lisphub_up", hub.families(HUB)))}
    known |= {name for name, _ in read(text_of("lispd_up", node.families(NODE)))}

    assert asked <= known
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
