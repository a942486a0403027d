"""Short time slices, so that the kernel runs this process soon after it wakes, though another one runs (adapter).

A process that computes is interrupted for another one only when its slice is over, 3 ms mostly, or when the other one's
is shorter (EEVDF, Linux 6.12 and later). A move consists of a dozen such wake-ups at three hosts, and a flood keeps a
processor computing. The share of the processor stays the same. Threads started afterwards have short slices, too.
"""

from __future__ import annotations

import ctypes
import os
import platform
from struct import Struct
from typing import Final

SLICE_NS: Final = 100_000  # ours: the kernel's least

# sched_setattr(2), <asm/unistd.h>. The C library has it only since its version 2.41.
_NUMBERS: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "armv7l": 380, "i686": 351}
_ATTRIBUTES: Final = Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, ...


def shorten_slices() -> bool:
    """Ask for them; False where the kernel has none, refuses, or runs this process by another policy."""
    number = _NUMBERS.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)
    asked = ctypes.CDLL(None).syscall(number, 0, ctypes.create_string_buffer(attributes, len(attributes)), 0)
    return bool(asked == 0)
