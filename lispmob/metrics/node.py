"""The figures of a node, from the answers of lispd's control socket. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lispmob.metrics.family import Family, Json, counter, gauge, labelled

VERDICTS = ("working", "degraded", "not-working")


def families(answers: Mapping[str, Json]) -> list[Family]:
    """`answers`: those of "status" and "counters"."""
    status, counters = answers["status"], answers["counters"]
    path, move = status["datapath"], status["last_handover"]
    registrations = {
        (str(eid["prefix"]), str(entry["map_server"])): entry["state"] == "registered"
        for eid in status["eids"]
        for entry in eid["registrations"]
    }
    answered = {
        (str(eid["prefix"]), str(entry["map_server"])): entry["rtt_ms"] / 1000
        for eid in status["eids"]
        for entry in eid["registrations"]
        if entry["rtt_ms"] is not None
    }
    problems = Counter((str(problem["key"]), str(problem["severity"])) for problem in status.get("problems", ()))
    gaps = {("out",): move["gap_out_ms"], ("in",): move["gap_in_ms"]} if move is not None else {}
    return [
        labelled("lispd_info", "The version that runs.", ("version",), {(str(status["version"]),): 1}),
        gauge("lispd_uptime_seconds", "How long lispd has run.", status["uptime_s"]),
        labelled(
            "lispd_verdict",
            "1 for how things are, 0 for how they are not.",
            ("verdict",),
            {(verdict,): verdict == status.get("verdict") for verdict in VERDICTS},
        ),
        labelled("lispd_registered", "1 while an EID is registered.", ("eid", "map_server"), registrations),
        labelled("lispd_register_round_trip_seconds", "Of the last Map-Register.", ("eid", "map_server"), answered),
        labelled(
            "lispd_locator",
            "1 for each locator in use.",
            ("address", "interface"),
            {(str(locator["address"]), str(locator["interface"])): 1 for locator in status["locators"]},
        ),
        labelled("lispd_problems", "What is wrong, by kind.", ("key", "severity"), problems),
        gauge("lispd_map_cache_entries", "Mappings in the map-cache.", status["map_cache_size"]),
        labelled(
            "lispd_packets",
            "Packets through the overlay.",
            ("direction",),
            {("out",): path["packets_out"], ("in",): path["packets_in"]},
            counts=True,
        ),
        labelled(
            "lispd_octets",
            "Octets through the overlay.",
            ("direction",),
            {("out",): path["octets_out"], ("in",): path["octets_in"]},
            counts=True,
        ),
        counter("lispd_dropped_packets", "Packets that the datapath dropped.", path["drops"]),
        labelled(
            "lispd_last_move_gap_seconds",
            "How long the last move kept packets from passing.",
            ("direction",),
            {way: gap / 1000 for way, gap in gaps.items() if gap is not None},
        ),
        labelled(
            "lispd_events",
            "What was counted, dropped packets by reason included.",
            ("group", "name"),
            {
                (str(group), str(name)): value
                for group, entries in counters.items()
                for name, value in entries.items()
                if isinstance(value, int | float)
            },
            counts=True,
        ),
    ]
