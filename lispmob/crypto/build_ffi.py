"""The cffi declaration of key_wrap.c. setup.py builds `lispmob.crypto._lispcrypto` from it, where libcrypto is."""

from __future__ import annotations

from cffi import FFI

DIRECTORY = "lispmob/crypto"  # relative to setup.py, as setuptools wants it
C_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion")

# The generated glue is not ours to polish; the flags are for what we write.
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wcast-function-type"
#include "key_wrap.h"
"""

ffibuilder = FFI()
ffibuilder.cdef("""
int key_wrap_seal(const uint8_t *key, const uint8_t *secret, uint8_t *wrapped);
int key_wrap_open(const uint8_t *key, const uint8_t *wrapped, uint8_t *secret);
""")
ffibuilder.set_source(
    "lispmob.crypto._lispcrypto",
    PREAMBLE,
    sources=[f"{DIRECTORY}/key_wrap.c"],
    include_dirs=[DIRECTORY],
    libraries=["crypto"],
    extra_compile_args=list(C_FLAGS),
    py_limited_api=True,
)
