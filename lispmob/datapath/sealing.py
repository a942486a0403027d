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


def library_of(aead: AeadName) -> str | None:
    """The library that encrypts with this cipher here, for people; None in a build without libcrypto."""
    chosen = lib.lm_aead_chosen(marshal.AEADS[aead])
    return None if chosen == ffi.NULL else ffi.string(lib.lm_aead_name(chosen)).decode()
