"""All scenarios, in the order in which they are listed. Add a file and a line here for another kind of problem."""

from __future__ import annotations

from typing import Final

from lispmob.lab.real import (
    dead_providers,
    in_the_open,
    ipv6_only,
    narrow,
    other_hosts,
    peers,
    rented,
    spoiled_ports,
    two_families,
)
from lispmob.lab.real.scenario import Scenario

SCENARIOS: Final[tuple[Scenario, ...]] = (
    *in_the_open.SCENARIOS,
    *two_families.SCENARIOS,
    *ipv6_only.SCENARIOS,
    *dead_providers.SCENARIOS,
    *narrow.SCENARIOS,
    *other_hosts.SCENARIOS,
    *peers.SCENARIOS,
    *rented.SCENARIOS,
    *spoiled_ports.SCENARIOS,
)


def by_name(name: str) -> Scenario:
    """KeyError for an unknown name."""
    return {scenario.name: scenario for scenario in SCENARIOS}[name]
