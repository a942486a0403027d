"""seccomp filters, by which tests have the kernel refuse a system call to a program."""

from __future__ import annotations

import ctypes
import platform
import struct
from typing import Final, TypeAlias

Instruction: TypeAlias = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h, asm/unistd.h
PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000  # combined with the errno
LOAD: Final = 0x20  # BPF_LD|W|ABS
EQUAL: Final = 0x15  # BPF_JMP|JEQ|K
RETURN: Final = 0x06  # BPF_RET|K
NUMBERS: Final = {
    "x86_64": {"socket": 41, "bind": 49, "bpf": 321},
    "aarch64": {"socket": 198, "bind": 200, "bpf": 280},
}


def number(name: str) -> int:
    """The number of a system call on this machine."""
    return NUMBERS[platform.machine()][name]


def refusing(name: str, error: int) -> list[Instruction]:
    """A filter that refuses one system call, whatever its arguments."""
    return [(LOAD, 0, 0, 0), (EQUAL, 0, 1, number(name)), (RETURN, 0, 0, REFUSE | error), (RETURN, 0, 0, ALLOW)]


def install(program: list[Instruction]) -> None:
    """Install it for this process and its children, for good."""
    octets = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(octets)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp refused")
