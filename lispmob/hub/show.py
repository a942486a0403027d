"""`lisphub --show`: what is registered, read from the state file beside a running hub."""

from __future__ import annotations

import sys
import time

from lispmob.hub.config import HubFile
from lispmob.hub.store import Clock, Store
from lispmob.service.logs import harmless


def show(file: HubFile) -> int:
    """Print one line per registration; the exit code. Raises LispError when the state file cannot be read."""
    if file.state_file is None:
        sys.stderr.write("state-file is none: nothing is kept that could be shown\n")
        return 1
    store = Store(file.state_file, Clock(time.monotonic, time.time))
    store.open_to_read()
    try:
        parts = store.load_registrations()
    finally:
        store.close()
    now = time.monotonic()
    for part in sorted(parts, key=lambda part: str(part.record.eid_prefix)):
        rlocs = harmless(" ".join(f"{one.address}({one.priority}/{one.weight})" for one in part.record.locators))
        sys.stdout.write(f"{part.record.eid_prefix}  {rlocs or 'no locator'}  {part.expires_at - now:.0f} s left\n")
    return 0
