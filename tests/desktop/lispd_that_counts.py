"""Process: lispd, which on SIGUSR2 also writes what it holds to held.json beside its configuration.

Resident memory says little in a short test, since an allocator keeps what was freed. What is in use shows a leak.
"""

from __future__ import annotations

import ctypes
import gc
import json
import signal
import sys
from pathlib import Path

from lispmob.__main__ import main


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def octets_in_use() -> int:
    """Octets of malloc() in use, by C as well as for Python's larger objects."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo
    return int(mallinfo2().uordblks)


def tell(into: Path) -> None:
    """Write what is held, after garbage collection has found nothing more."""
    gc.collect()
    fresh = into.with_suffix(".new")
    fresh.write_text(json.dumps({"blocks": sys.getallocatedblocks(), "octets": octets_in_use()}), encoding="ascii")
    fresh.rename(into)


if __name__ == "__main__":
    held = Path(sys.argv[sys.argv.index("-c") + 1]).with_name("held.json")
    signal.signal(signal.SIGUSR2, lambda *_: tell(held))
    sys.exit(main())
