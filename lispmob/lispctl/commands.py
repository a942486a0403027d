"""The commands of lispctl in the order of the help, and where each is defined.

Importing all of them takes longer than most of them run. So only the requested one is imported; all are imported for
the help, the man page, the completion files, and an unknown command.
"""

from __future__ import annotations

from typing import Final

PLACES: Final[dict[str, tuple[str, str]]] = {
    "status": ("show.status", "COMMAND"),
    "uplinks": ("show.uplinks", "COMMAND"),
    "peers": ("show.peers", "COMMAND"),
    "ping": ("flows.ping", "PING"),
    "trace": ("flows.ping", "TRACE"),
    "names": ("mappings.site_names", "NAMES"),
    "name": ("mappings.site_names", "NAME"),
    "paths": ("show.paths", "COMMAND"),
    "why": ("flows.why", "COMMAND"),
    "rehearse": ("flows.rehearse", "COMMAND"),
    "run": ("flows.run", "COMMAND"),
    "netcheck": ("show.netcheck", "COMMAND"),
    "handovers": ("show.handovers", "COMMAND"),
    "key": ("show.key", "COMMAND"),
    "believed": ("show.believed", "COMMAND"),
    "map-cache": ("mappings.map_cache", "COMMAND"),
    "map": ("mappings.mappings", "COMMAND"),
    "mapstat": ("mappings.mapstat", "COMMAND"),
    "database": ("mappings.database", "COMMAND"),
    "lookup": ("mappings.lookup", "COMMAND"),
    "events": ("show.events", "COMMAND"),
    "counters": ("show.counters", "COMMAND"),
    "energy": ("show.energy", "COMMAND"),
    "stat": ("show.stat", "COMMAND"),
    "metrics": ("show.metrics", "COMMAND"),
    "watch": ("show.watch", "COMMAND"),
    "wait": ("show.wait", "COMMAND"),
    "bugreport": ("upkeep.bugreport", "COMMAND"),
    "record": ("upkeep.record", "COMMAND"),
    "replay": ("upkeep.replay", "COMMAND"),
    "log-level": ("upkeep.log_level", "COMMAND"),
    "nudge": ("upkeep.nudge", "COMMAND"),
    "reload": ("upkeep.reload", "COMMAND"),
    "join": ("upkeep.join", "COMMAND"),
    "refresh": ("upkeep.refresh", "COMMAND"),
    "up": ("upkeep.switch", "UP"),
    "down": ("upkeep.switch", "DOWN"),
    "config": ("upkeep.config", "COMMAND"),
    "words": ("upkeep.words", "COMMAND"),
    "version": ("show.version", "COMMAND"),
}
"""A command's name, its file below this folder, and its name in that file."""
