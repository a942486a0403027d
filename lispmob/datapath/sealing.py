"""Whether this build can seal, and which cipher is faster here."""

from __future__ import annotations

from functools import cache
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


@cache
def quickest_aead() -> AeadName:
    """The faster cipher on this processor; both are timed once, which takes a millisecond."""
    return min(marshal.AEADS, key=lambda name: int(lib.lm_aead_time(marshal.AEADS[name])))
