"""Process: a program of ours where bpf(2) is refused, as by many containers and by kernels in lockdown mode.

without_bpf.py MODULE [ARGUMENT...]
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module

from tests import seccomp

if __name__ == "__main__":
    seccomp.install(seccomp.refusing("bpf", errno.EPERM))
    sys.exit(import_module(sys.argv[1]).main(sys.argv[2:]))
