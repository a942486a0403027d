"""The mappings of peers for when no RTR answers any more. Pure.

Behind a NAT an RTR has the mappings, and the node has a default entry. The answers about keys name the locators of
peers as well. They are kept, and used when the RTR is lost while another uplink, such as IPv6, still works: the peers
may be reached by it. They are given up when an RTR answers again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from lispmob.wire.address import EidPrefix
from lispmob.wire.record import MappingRecord

SPARES_MAX: Final = 256  # ours: as many as questions about keys
SPARE_S: Final = 120.0  # ours: two questions about the key; a peer without packets since then is not asked about


class SpareMappings:
    """The last genuine mapping of each peer, and which of them are in use."""

    def __init__(self) -> None:
        self._known: OrderedDict[EidPrefix, tuple[MappingRecord, float]] = OrderedDict()
        self._used: set[EidPrefix] = set()

    def on_answer(self, prefix: EidPrefix, record: MappingRecord, now: float) -> None:
        """The mapping system says this of a peer."""
        self._known[prefix] = record, now
        self._known.move_to_end(prefix)
        while len(self._known) > SPARES_MAX:
            self._known.popitem(last=False)

    def take(self, now: float) -> list[tuple[EidPrefix, MappingRecord]]:
        """No RTR answers: the mappings to use from now on."""
        fresh = [(prefix, record) for prefix, (record, at) in self._known.items() if now - at <= SPARE_S]
        self._known.clear()
        self._used.update(prefix for prefix, _ in fresh)
        return [(prefix, record) for prefix, record in fresh if record.locators]

    def give_up(self) -> set[EidPrefix]:
        """An RTR answers: those that are used no more."""
        used, self._used = self._used, set()
        return used
