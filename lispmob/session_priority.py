"""The niceness of a service among the sessions of the machine (adapter).

Where the kernel groups processes by session (autogroup, sched(7)), niceness counts within a session only, and each
session has the same share of a processor. So the Nice= of a service, which is a session of its own, has no effect: a
program that is compiled in a terminal delays a move as it would without. The kernel has a niceness of the session in
/proc/self/autogroup, which this sets to that of the process. Where groups are made by other means, it does no harm.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/autogroup")


def use_niceness_among_sessions(own: Path = _OWN) -> bool:
    """Apply our niceness to our session; False where it has other processes too, or the kernel refuses.

    A niceness below 0 needs CAP_SYS_NICE or the limit RLIMIT_NICE (LimitNICE= of systemd).
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness == 0 or os.getsid(0) != os.getpid():
        return False  # a shell's session is not ours to change
    try:
        own.write_text(str(niceness), encoding="ascii")
    except OSError:  # no autogroup in this kernel, or not allowed
        return False
    return True
