"""Measures the forwarding table: `python -m lispmob.datapath.bench.table` prints one JSON object. No root, no network.

With `--kernel`, its copy in the kernel for the ebpf tier: needs root, and a network namespace of its own.

Keys of "lookup-ns" are numbers of entries. Lookups are for entries in random order, in batches as in the datapath; the
best of several rounds counts, to exclude other load.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from lispmob.datapath import _lispdp
from lispmob.datapath.engine import Disposition, Engine, EngineConfig, ForwardingEntry, ForwardingLocator
from lispmob.wire.address import EidPrefix

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

SIZES: Final = (10, 1000, 100_000, 1_000_000)
INSTALLED: Final = 100_000
_LOOKUPS: Final = 1 << 17
_ROUNDS: Final = 15
_FIRST: Final = 0x0A000000
_LOCATOR_SETS: Final = 1000
DEVICE: Final = "lmn-measure"
BPF_MAP_TYPE_LPM_TRIE: Final = "11"  # <linux/bpf.h>


class Lookups:
    """A table of that many host prefixes, and addresses to look up in it."""

    def __init__(self, entries: int) -> None:
        chance = random.Random(entries)
        key = ffi.new("struct lm_key *", {"k0": chance.getrandbits(64), "k1": chance.getrandbits(64)})
        self._table = ffi.gc(lib.lm_table_new(key), lib.lm_table_free)
        for host in chance.sample(range(1 << 24), entries):
            assert lib.lm_table_insert(self._table, _prefix(host)) != ffi.NULL
        while lib.lm_table_settle(self._table):
            pass
        cursor, hosts = ffi.new("uint32_t *"), []
        while (entry := lib.lm_table_next(self._table, cursor)) != ffi.NULL:
            hosts.append(entry.address)
        self._wanted = ffi.new("struct lm_addr[]", [chance.choice(hosts) for _ in range(_LOOKUPS)])
        queries = [{"instance_id": 0, "address": self._wanted + i} for i in range(_LOOKUPS)]
        self._queries = ffi.new("struct lm_query[]", queries)
        self.memory_per_entry = lib.lm_table_memory(self._table) / entries
        self.best_ns = float("inf")

    def round(self) -> None:
        """Look all of them up, and keep the best time per lookup."""
        batch = lib.LM_QUERIES_MAX
        began = time.perf_counter()
        for at in range(0, _LOOKUPS, batch):
            lib.lm_table_lookup_many(self._table, self._queries + at, batch)
        self.best_ns = min(self.best_ns, (time.perf_counter() - began) / _LOOKUPS * 1e9)
        assert self._queries[0].entry != ffi.NULL


def mappings(entries: int) -> list[ForwardingEntry]:
    sets = [(ForwardingLocator(IPv4Address(0xC6120000 + number)),) for number in range(_LOCATOR_SETS)]
    return [
        ForwardingEntry(EidPrefix.host(IPv4Address(_FIRST + i)), Disposition.ENCAPSULATE, sets[i % len(sets)])
        for i in range(entries)
    ]


def install_s(engine: Engine, wanted: list[ForwardingEntry]) -> float:
    """The seconds that an engine takes to install these mappings through Python."""
    began = time.perf_counter()
    engine.table.install_many(wanted)
    return time.perf_counter() - began


def kernel() -> dict[str, Any]:
    """The cost of as many entries in the ebpf tier: installing, copying at a change of the tier, and memory."""
    figures: dict[str, Any] = {}
    for entries in (INSTALLED, SIZES[-1]):
        wanted = mappings(entries)
        engine = Engine(EngineConfig(DEVICE))
        try:
            engine.open()
            if (tier := engine.tiers.use("ebpf")).name != "ebpf":
                return {"unavailable": tier.why}
            figures[f"install-s-{entries}"] = round(install_s(engine, wanted), 3)
            figures[f"octets-per-entry-{entries}"] = round(_kernel_table_octets() / entries, 1)
            engine.tiers.use("tun")
            began = time.perf_counter()
            engine.tiers.use("ebpf")
            figures[f"switch-s-{entries}"] = round(time.perf_counter() - began, 3)
            if engine.tiers.now.name != "ebpf":
                return {"unavailable": engine.tiers.now.why}
        finally:
            engine.stop()
    return figures


def _kernel_table_octets() -> int:
    """The memory of our longest-prefix table in the kernel (fdinfo of a BPF map: proc_pid_fdinfo(5))."""
    for info in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            told = dict(line.split(":\t", 1) for line in info.read_text().splitlines() if ":\t" in line)
            if told.get("map_type") == BPF_MAP_TYPE_LPM_TRIE:
                return int(told["memlock"])
    return 0


def _prefix(host: int) -> Any:
    prefix = ffi.new("struct lm_prefix *", {"length": 32, "address": {"family": 4}})
    ffi.buffer(prefix.address.octets)[0:4] = (_FIRST + host).to_bytes(4, "big")
    return prefix


def main() -> None:
    if "--kernel" in sys.argv[1:]:
        sys.stdout.write(json.dumps(kernel()) + "\n")
        return
    tables = {entries: Lookups(entries) for entries in SIZES}
    for _ in range(_ROUNDS):
        for table in tables.values():
            table.round()
    engine = Engine(EngineConfig("unused"))
    figures = {
        "lookup-ns": {str(entries): round(table.best_ns, 1) for entries, table in tables.items()},
        "octets-per-entry": round(tables[SIZES[-1]].memory_per_entry, 1),
        "install-s": round(install_s(engine, mappings(INSTALLED)), 3),
    }
    engine.stop()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
