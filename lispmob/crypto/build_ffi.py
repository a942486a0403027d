"""The cffi declaration of the ciphers. setup.py builds `lispmob.crypto._lispcrypto` from it, where libcrypto is."""

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
#include "chacha.h"
#include "key_wrap.h"
#include "x25519.h"
"""

ffibuilder = FFI()
ffibuilder.cdef("""
int key_wrap_seal(const uint8_t *key, const uint8_t *secret, uint8_t *wrapped);
int key_wrap_open(const uint8_t *key, const uint8_t *wrapped, uint8_t *secret);
int x25519_public(const uint8_t *private_key, uint8_t *public_key);
int x25519_shared(const uint8_t *private_key, const uint8_t *public_key, uint8_t *shared);
int chacha_seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                const uint8_t *plain, size_t octets, uint8_t *sealed);
int chacha_open(const uint8_t *key, const uint8_t *nonce, const uint8_t *data, size_t data_octets,
                const uint8_t *sealed, size_t octets, uint8_t *plain);
""")
ffibuilder.set_source(
    "lispmob.crypto._lispcrypto",
    PREAMBLE,
    sources=[f"{DIRECTORY}/{part}.c" for part in ("chacha", "key_wrap", "x25519")],
    include_dirs=[DIRECTORY],
    libraries=["crypto"],
    extra_compile_args=list(C_FLAGS),
    py_limited_api=True,
)
