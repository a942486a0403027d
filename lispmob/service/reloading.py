"""What a reload may change while packets flow, and what waits for a restart. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.config.node import NodeFile

# A device, a socket and a directory are opened once.
NEEDS_RESTART: Final = ("tun", "control", "dbus", "state_dir")


def compare(old: NodeFile, new: NodeFile) -> tuple[list[str], list[str]]:
    """(keys that changed, those among them that wait for a restart), as they stand in the file."""
    changed = [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]
    return [_key(name) for name in changed], [_key(name) for name in changed if name in NEEDS_RESTART]


def merge(old: NodeFile, new: NodeFile) -> NodeFile:
    """The new configuration, with what waits for a restart as it was."""
    return msgspec.structs.replace(new, **{name: getattr(old, name) for name in NEEDS_RESTART})


def _key(name: str) -> str:
    return name.replace("_", "-")
