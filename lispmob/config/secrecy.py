"""Whether a file with keys is protected, and what to do if not."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path
from typing import Final

SERVICE_GROUP: Final = "lispmob"  # that the packaged services run in, which have to read the file


def advice(path: Path) -> str | None:
    """A sentence when every user can read the keys in a file; None when not, as in a directory that is closed to them.

    The remedy leaves the services their right to read it.
    """
    try:
        if not os.stat(path).st_mode & stat.S_IROTH:
            return None
        if not all(os.stat(parent).st_mode & stat.S_IXOTH for parent in path.resolve().parents):
            return None
    except OSError:
        return None
    try:
        grp.getgrnam(SERVICE_GROUP)
        remedy = f"chgrp {SERVICE_GROUP} {path} && chmod 640 {path}"
    except KeyError:
        remedy = f"chmod 600 {path}"
    return f"every user can read the keys in {path}; run: {remedy}, or use 'key-file'"
