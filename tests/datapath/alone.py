"""A few C files built by themselves into a library, for tests that need no engine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cffi

from lispmob.datapath.build_ffi import C_FLAGS

DATAPATH = Path(__file__).parents[2] / "lispmob" / "datapath"

DECLARATIONS = """
struct lm_contender { uint64_t identity; uint8_t priority, weight; };
uint64_t lm_spread_identity(const void *data, size_t length);
int lm_spread_choose(const struct lm_contender *contenders, size_t count, uint64_t flow);
struct lm_steer { uint32_t mark; uint32_t queue; };
int lm_steering_load(uint32_t mask, const struct lm_steer *routes, size_t count, uint32_t other);
int lm_steering_attach(int tun, int program);
"""


def build(directory: Path, parts: Sequence[str] = ("spread", "steering")) -> tuple[Any, Any]:
    """The (ffi, lib) of these parts."""
    library = directory / "alone.so"
    sources = [str(DATAPATH / f"{part}.c") for part in parts]
    command = ["gcc", *C_FLAGS, "-shared", "-fPIC", f"-I{DATAPATH}", *sources, "-o", str(library)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert built.returncode == 0, built.stderr
    ffi: Any = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    return ffi, ffi.dlopen(str(library))
