"""The default paths of the hub's files, as packaged."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEFAULT_PATH: Final = Path("/etc/lispmob/hub.conf")
DEFAULT_SOCKET: Final = Path("/run/lisphub/lisphub.sock")
