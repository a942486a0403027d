"""Checks lispd's capabilities at the start: one clear sentence instead of a failure later."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lispmob.errors import KernelRefused

CAP_NET_ADMIN: Final = 12  # linux/capability.h


def require_net_admin(status: Path = Path("/proc/self/status")) -> None:
    """Raise KernelRefused if this process may not change the network. `status` is as in proc(5)."""
    try:
        lines = status.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return  # without /proc, later refusals of the kernel give the reason too
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), None)
    if effective is not None and not effective >> CAP_NET_ADMIN & 1:
        raise KernelRefused(
            "lispd makes a network device and routes, which this user may not: needs CAP_NET_ADMIN: "
            "start it as root, or with: systemctl start lispd"
        )
