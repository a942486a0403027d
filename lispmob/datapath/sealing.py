"""Whether this build can seal, and with which library."""

from __future__ import annotations

from typing import Any, Final

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.model import AeadName
from lispmob.errors import LispError

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

MISSING: Final = (
    "sealed packets are not in this build: libcrypto's headers (libssl-dev) were missing when it was compiled"
)


class SealingMissingError(LispError):
    """This build has no libcrypto."""


def can_seal() -> bool:
    """False in a build without libcrypto."""
    return bool(lib.lm_aead_is_built())


def libraries() -> dict[AeadName, str]:
    """The library that encrypts with each cipher on this host, for display. Empty in a build without libcrypto."""
    if not can_seal():
        return {}
    chosen = {name: lib.lm_aead_chosen(number) for name, number in marshal.AEADS.items()}
    return {name: ffi.string(lib.lm_aead_name(library)).decode() for name, library in chosen.items()}
