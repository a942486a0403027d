"""The forwarding table: where packets to an EID-Prefix go."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.marshal import Handle, check
from lispmob.datapath.model import ForwardingEntry, ForwardingLocator
from lispmob.wire.address import EidPrefix

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

# struct lm_install: a hundred thousand entries are packed in a fraction of the time that setting their fields takes.
_INSTALL = struct.Struct("=IBB16s2xIBB?xH2xI")
assert _INSTALL.size == ffi.sizeof("struct lm_install")

_BATCH = 64


class Table:
    """Entries by prefix; the longest match decides."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def install(self, entry: ForwardingEntry) -> None:
        """Add or replace; packets that waited for it are sent before this returns. At most 32 locators count."""
        prefix, _ = marshal.prefixes([entry.prefix])
        used = entry.locators[: lib.LM_LOCATORS_MAX]
        wish = ffi.new("struct lm_seal_wish *", (entry.peer, entry.must_seal, entry.map_version))[0]
        locators, kind = marshal.locators(used), marshal.DISPOSITIONS[entry.disposition]
        check(lib.lm_engine_install_sealed(self._handle.c, prefix, kind, locators, len(used), wish))

    def install_many(self, entries: Sequence[ForwardingEntry]) -> None:
        """The same as install() for many, much faster; packets move in between."""
        places: dict[tuple[ForwardingLocator, ...], int] = {}  # the start of each locator set: few sets, many entries
        wanted: list[ForwardingLocator] = []
        packed = bytearray()
        for entry in entries:
            used = entry.locators[: lib.LM_LOCATORS_MAX]
            if (first := places.get(used)) is None:
                first = places[used] = len(wanted)
                wanted += used
            prefix = entry.prefix
            address = prefix.address
            head = prefix.instance_id, prefix.mask_len, address.version, address.packed
            kind = marshal.DISPOSITIONS[entry.disposition]
            packed += _INSTALL.pack(*head, first, len(used), kind, entry.must_seal, entry.map_version, entry.peer)
        items = ffi.from_buffer("struct lm_install[]", packed)
        check(lib.lm_engine_install_many(self._handle.c, items, len(entries), marshal.locators(wanted)))

    def remove(self, prefix: EidPrefix) -> bool:
        """Remove the entry of exactly this prefix; False if there was none."""
        wanted, _ = marshal.prefixes([prefix])
        return bool(lib.lm_engine_remove(self._handle.c, wanted))

    def drop_pending(self, prefix: EidPrefix) -> int:
        """Drop packets that wait for a mapping inside the prefix, and send ICMP unreachable. Returns how many."""
        wanted, _ = marshal.prefixes([prefix])
        return int(lib.lm_engine_drop_pending(self._handle.c, wanted))

    def used(self) -> list[EidPrefix]:
        """Prefixes that forwarded packets since the last call."""
        cursor = ffi.new("uint32_t *")
        batch = ffi.new("struct lm_prefix[]", _BATCH)
        found: list[EidPrefix] = []
        while True:
            count = lib.lm_engine_used(self._handle.c, cursor, batch, _BATCH)
            found += [marshal.prefix(batch[i]) for i in range(count)]
            if count < _BATCH:
                return found
