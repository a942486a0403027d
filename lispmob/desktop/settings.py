"""The user's settings of the indicator: a small file, and a file for the start with the session (adapter)."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

_AUTOSTART: Final = """[Desktop Entry]
Type=Application
Name=LISP indicator
Exec=lispmob-indicator
Icon=lispmob
X-GNOME-Autostart-enabled=true
"""


class Settings:
    """`directory`: XDG_CONFIG_HOME. An unreadable file has the defaults; a failure to write is ignored."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self._file = self._directory / "lispmob" / "indicator.json"
        self._autostart = self._directory / "autostart" / "lispmob-indicator.desktop"

    @property
    def notifies(self) -> bool:
        """True unless the user has switched notifications off."""
        try:
            chosen = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return True
        return not isinstance(chosen, dict) or chosen.get("notifications") is not False

    @property
    def starts_with_session(self) -> bool:
        """True when the autostart file exists."""
        return self._autostart.exists()

    def set_notifies(self, notifies: bool) -> None:
        """Store the setting."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps({"notifications": notifies}), "utf-8")

    def set_starts_with_session(self, starts: bool) -> None:
        """Write or remove the autostart file."""
        with contextlib.suppress(OSError):
            if starts:
                self._autostart.parent.mkdir(parents=True, exist_ok=True)
                self._autostart.write_text(_AUTOSTART, "utf-8")
            else:
                self._autostart.unlink(missing_ok=True)
