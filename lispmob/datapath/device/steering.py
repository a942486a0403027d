"""Typed access to ebpf/mark_steering.c: the TUN queue of a packet, by its mark."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from lispmob.datapath import _lispdp
from lispmob.errors import KernelRefused

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

_REMEDIES = {
    errno.EPERM: "needs CAP_BPF, or kernel.unprivileged_bpf_disabled=0; seccomp may forbid bpf(2) too",
    errno.EACCES: "needs CAP_BPF",
    errno.ENOSYS: "the kernel has no bpf(2) (CONFIG_BPF_SYSCALL)",
    errno.EINVAL: "the kernel is older than 5.1",
    errno.ENOTTY: "the kernel's tun driver is older than 4.16",
    errno.EBADFD: "the device is gone",
}


class SteeringRefused(KernelRefused):
    """Packets cannot be sorted by mark inside one device; one device per uplink still works."""


def steer(tun: int, mask: int, routes: Mapping[int, int], other: int) -> None:
    """From the next packet on: (mark & mask) -> queue, or `other`. Raises SteeringRefused, and changes nothing then."""
    table = ffi.new("struct lm_steer[]", max(1, len(routes)))
    for entry, (mark, queue) in zip(table, routes.items(), strict=False):
        entry.mark, entry.queue = mark, queue
    program = lib.lm_mark_steering_load(mask, table, len(routes), other)
    if program < 0:
        raise _refused("bpf(BPF_PROG_LOAD)", -program)
    try:
        if error := -lib.lm_mark_steering_attach(tun, program):
            raise _refused("TUNSETSTEERINGEBPF", error)
    finally:
        os.close(program)


def _refused(what: str, number: int) -> SteeringRefused:
    symbol = errno.errorcode.get(number, str(number))
    return SteeringRefused(f"{what} refused ({symbol}): {_REMEDIES.get(number, os.strerror(number))}")
