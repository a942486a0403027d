"""Starts a service where systemd runs (adapter)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from lispmob.errors import LispError

SYSTEMD: Final = Path("/run/systemd/system")
PATIENCE_S: Final = 60.0


class NotStarted(LispError):
    """systemd did not start the service; the text is its message."""


def runs_systemd() -> bool:
    """True where systemd starts the services."""
    return SYSTEMD.is_dir()


def start(*units: str) -> None:
    """Start services, now and with each start of the machine; one that runs starts again. Raises NotStarted.

    All in one go: systemd reads its files again each time that one is enabled.
    """
    for words in (("enable", *units), ("restart", *units)):
        try:
            done = subprocess.run(
                ["systemctl", "--no-ask-password", *words],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotStarted(f"systemctl {' '.join(words)}: {error}") from None
        if done.returncode != 0:
            said = [*done.stderr.strip().splitlines(), "failed"][0]
            raise NotStarted(f"systemctl {' '.join(words)}: {said}; why: sudo journalctl -u {units[0]} -n 20")
