"""The figures of a hub, from the answers of its control socket. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lispmob.metrics.family import Family, Json, counter, gauge, labelled


def families(answers: Mapping[str, Json]) -> list[Family]:
    """`answers`: those of "status" and "counters"."""
    status, counters = answers["status"], answers["counters"]["counters"]
    problems = Counter((str(problem["key"]),) for problem in status["problems"])
    return [
        labelled("lisphub_info", "The version that runs.", ("version",), {(str(status["version"]),): 1}),
        gauge("lisphub_start_time_seconds", "When the hub started, since 1970.", status["started_at"]),
        gauge("lisphub_sites", "Sites that may register.", status["sites"]),
        gauge("lisphub_sites_registered", "Sites of which an EID-Prefix is registered.", status["sites_registered"]),
        gauge("lisphub_registrations", "EID-Prefixes that are registered.", status["registered"]),
        gauge("lisphub_registrations_behind_rtr", "Those that are reached through an RTR.", status["behind_rtr"]),
        labelled(
            "lisphub_invitations",
            "Invited sites by what became of the invitation.",
            ("state",),
            {(str(state),): count for state, count in status["invitations"].items()},
        ),
        labelled(
            "lisphub_pool_left",
            "EIDs that are left in a pool.",
            ("pool",),
            {(str(pool["prefix"]),): pool["left"] for pool in status["pools"]},
        ),
        labelled("lisphub_problems", "What is wrong, by kind.", ("key",), problems),
        counter("lisphub_moves", "Registrations that moved.", counters.get("registration_moved", 0)),
        labelled(
            "lisphub_events",
            "What was counted, refused messages by reason included.",
            ("name",),
            {(str(name),): count for name, count in counters.items()},
            counts=True,
        ),
    ]
