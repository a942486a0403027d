"""Time slices of lispd and lisphub, as the kernel has them afterwards."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from lispmob.short_slices import SLICE_NS

KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])
READ = 1 + {"x86_64": 314, "aarch64": 274, "riscv64": 274}.get(platform.machine(), -1)  # sched_getattr(2)
PROGRAM = f"""
import ctypes, json, os, struct, sys, threading
from lispmob.short_slices import shorten_slices

def seen():
    octets = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall({READ}, 0, octets, 48, 0) == 0
    _, policy, _, nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", octets.raw)
    return policy, nice, runtime

found = []
if sys.argv[1] == "batch":
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.nice(3)
done = shorten_slices()
found.append(seen())
thread = threading.Thread(target=lambda: found.append(seen()))
thread.start()
thread.join()
print(json.dumps([done, found]))
"""


def after(policy: str) -> tuple[bool, list[list[int]]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, policy], capture_output=True, text=True, timeout=60, check=True
    )
    is_done, seen = json.loads(done.stdout)
    return is_done, seen


pytestmark = pytest.mark.skipif(READ == 0, reason="the numbers of this machine's system calls are not known here")


@pytest.mark.skipif(KERNEL < (6, 12), reason="Linux has slices of a process's own since 6.12")
def test_slices_are_short_in_all_threads_and_the_niceness_stays() -> None:
    is_done, seen = after("other")

    assert is_done
    assert [slice_ns for _, _, slice_ns in seen] == [SLICE_NS] * 2
    assert {(policy, nice - os.getpriority(os.PRIO_PROCESS, 0)) for policy, nice, _ in seen} == {(os.SCHED_OTHER, 3)}


def test_a_process_that_runs_by_another_policy_keeps_it() -> None:
    is_done, seen = after("batch")

    assert not is_done
    assert {policy for policy, _, _ in seen} == {os.SCHED_BATCH}
