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


def start(unit: str) -> None:
    """Start a service now and at each boot; a running service is restarted. Raises NotStarted."""
    for words in (("enable", unit), ("restart", unit)):
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
            said = done.stderr.strip().splitlines()
            raise NotStarted(
                f"systemctl {' '.join(words)}: {said[0] if said else 'failed'}; why: sudo journalctl -u {unit} -n 20"
            )
