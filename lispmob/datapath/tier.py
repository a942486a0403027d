"""Which tier moves the packets: the tun tier always can; the ebpf tier comes before it if the kernel allows."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from lispmob.datapath import _lispdp

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

TierName: TypeAlias = Literal["tun", "ebpf"]
TierWish: TypeAlias = Literal["auto", "tun", "ebpf"]

OBJECT: Final = Path(__file__).with_name("bpf") / "lisp.bpf.o"
_WHY_SIZE: Final = 512
_TOO_MANY: Final = (errno.ENOSPC, errno.E2BIG)
_SLOW: Final = {
    lib.LM_SLOW_NO_ETHERNET: "no Ethernet",
    lib.LM_SLOW_LINK_LOCAL: "a link-local address",
    lib.LM_SLOW_CHECKSUM: "UDP checksums are needed",
}
_CHOSEN: Final = {
    "tun": "the configuration says so",
    "ebpf": "the configuration says so",
    "auto": "the kernel takes the BPF programs",
}


class Tier(msgspec.Struct, frozen=True):
    """The tier in use, and the reason for it."""

    name: TierName = "tun"
    why: str = "nothing else was asked for"


def choose(
    engine: Any, device_ifindex: int, mark_mask: int, wish: TierWish, *, is_rtr: bool = False, allows_tcx: bool = True
) -> Tier:
    """Switch an open struct lm_engine to the wanted tier, while packets move; none is lost.

    "auto" and "ebpf" both end with the tun tier if the other is impossible; the result has the reason.
    """
    if wish == "tun":
        lib.lm_reflect_stop(engine)
        return Tier("tun", _CHOSEN[wish])
    if lib.lm_reflect_state(engine) == 1:
        return Tier("ebpf", _CHOSEN[wish])
    lib.lm_reflect_stop(engine)  # the tier that an error switched off
    why = ffi.new("char[]", _WHY_SIZE)
    tier = lib.lm_bpf_object_load(os.fsencode(OBJECT), allows_tcx, is_rtr, why, _WHY_SIZE)
    if tier == ffi.NULL:
        return Tier("tun", ffi.string(why).decode(errors="replace").strip())
    if error := lib.lm_reflect_start(engine, tier, device_ifindex, mark_mask):
        return Tier("tun", f"the kernel refused the programs or their tables: {_reason(error)}")
    return Tier("ebpf", _CHOSEN[wish])


def look(engine: Any, chosen: Tier) -> Tier:
    """The tier in use now: the ebpf tier switches itself off when the kernel refuses an update of its tables."""
    if chosen.name == "tun":
        return chosen
    if (state := lib.lm_reflect_state(engine)) == 1:
        slow = _by_threads(engine)
        return Tier("ebpf", f"{chosen.why}; threads send by {', '.join(slow)}") if slow else chosen
    return Tier("tun", f"the kernel refused an update of the tables: {_reason(state)}")


def _by_threads(engine: Any) -> list[str]:
    """The uplinks that the BPF programs cannot send by, each with the reason: both tiers are in use then."""
    name, family = ffi.new("char[]", lib.IFNAMSIZ), ffi.new("uint8_t *")
    found: list[str] = []
    for place in count():
        if (reason := lib.lm_reflect_reason(engine, place, name, family)) < 0:
            return found
        if reason:
            found.append(f"{ffi.string(name).decode(errors='replace')} (IPv{family[0]}: {_SLOW[reason]})")
    return found


def _reason(error: int) -> str:
    """The meaning of a negative errno for the kernel's tables."""
    if -error in _TOO_MANY:
        return f"more than they hold: {lib.LM_SHARED_ENTRIES} prefixes, {lib.LM_SHARED_SETS} different sets of locators"
    return os.strerror(-error)
