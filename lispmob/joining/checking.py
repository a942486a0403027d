"""Whether lispd would take a configuration: for who writes one."""

from __future__ import annotations

from pathlib import Path

from lispmob.config.node import load_node


def check_node(path: Path) -> None:
    """Raises ConfigError for what lispd would not start with."""
    load_node(path)
