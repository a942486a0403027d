"""Detects in a Map-Notify that another node registers our EID-Prefix: it shows locators that must not be used. Pure.

If two nodes register the same EID-Prefix, the Map-Server answers both with the present mapping. The locators of the
refused node have priority 255, and the record that the refused node gets also says Drop/Policy-Denied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import IpAddress
from lispmob.wire.key_record import is_key_record
from lispmob.wire.record import Action, Locator, MappingRecord


class Sharing(msgspec.Struct, frozen=True):
    """Another node registers our EID-Prefix, at `places`; `is_refused`: it holds the registration, and we do not."""

    places: tuple[str, ...]
    is_refused: bool

    @property
    def text(self) -> str:
        """The text of the problem."""
        where = f" at {', '.join(self.places)}" if self.places else ""
        if self.is_refused:
            return f"the node{where} has it, and keeps it"
        return f"the node{where} wants it too, and is refused"

    def text_at(self, own: Iterable[IpAddress]) -> str:
        """The same for a host with these public addresses: the other node may be this host, installed again."""
        is_here = bool(self.places) and set(self.places) <= set(map(str, own))
        if not (self.is_refused and is_here):
            return self.text
        return (
            f"a node at {', '.join(self.places)}, this host's address, has it; if that was this host "
            "before it lost its state directory, it is forgotten within two minutes"
        )


def sharing(record: MappingRecord, ours: Iterable[Locator]) -> Sharing | None:
    """Compare the record of a Map-Notify with our registered locators; None: no other node is in it."""
    if record.action == Action.DROP_POLICY_DENIED and record.locators:
        theirs = [locator for locator in record.locators if locator.priority != NEVER]
        return Sharing(_places(theirs), is_refused=True)
    own = Counter(locator.address for locator in ours if locator.priority == NEVER)
    strange: list[Locator] = []
    for locator in record.locators:
        if locator.priority != NEVER or is_key_record(locator):
            continue
        if own[locator.address] > 0:
            own[locator.address] -= 1
        else:
            strange.append(locator)
    return Sharing(_places(strange), is_refused=False) if strange else None


def _places(locators: Iterable[Locator]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(locator.ip or locator.address) for locator in locators))
