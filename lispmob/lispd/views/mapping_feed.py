"""The events of mappings, for programs that follow them on the control socket, in the schema's types."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal

from lispmob.api.mapping.schema import Mapping, MappingEvent
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.mapping_views import mapping_of, own_mapping
from lispmob.lispd.wall import iso_utc
from lispmob.protocol.effect import Event, MappingChanged, MappingWanted
from lispmob.wire.address import EidPrefix

_REACH: Final[dict[str, Literal["reach", "badreach"]]] = {"rloc-reachable": "reach", "rloc-unreachable": "badreach"}


class MappingFeed:
    """`publish` gets every event, in the turn in which it happens. `has_readers` says whether any program follows."""

    def __init__(self, parts: Parts, publish: Callable[[MappingEvent], None], has_readers: Callable[[], bool]) -> None:
        self._parts = parts
        self._publish = publish
        self._has_readers = has_readers
        self._own: dict[EidPrefix, Mapping] = {}
        self._is_looking = False

    def on_wanted(self, wanted: MappingWanted) -> None:
        """The mapping system, or a program, is asked."""
        if not self._has_readers():
            return
        host = wanted.asked.network.num_addresses == 1
        event = MappingEvent(
            type="miss",
            at=_now(),
            eid=str(wanted.asked.address if host else wanted.asked.network),
            instance_id=wanted.asked.instance_id,
            source_eid=None if wanted.source is None else str(wanted.source),
            why=wanted.why,
            tries=wanted.tries,
        )
        self._publish(event)

    def on_changed(self, changed: MappingChanged) -> None:
        """The map-cache changed."""
        if not self._has_readers():
            return
        node = self._parts.node
        mapping = mapping_of(node, changed.prefix, changed.source, changed.locators, changed.action)
        self._publish(MappingEvent(type=changed.what, at=_now(), mapping=mapping, why=changed.why or None))

    def on_event(self, event: Event) -> None:
        """An event of the core that may concern mappings."""
        if (kind := _REACH.get(event.kind)) is not None:
            self._publish(MappingEvent(type=kind, at=_now(), rloc=str(event.fields["rloc"])))
        elif event.kind == "moved" and not self._is_looking:
            self._is_looking = True  # after the move, when more urgent readers are done
            asyncio.get_running_loop().call_soon(self.look)

    def look(self) -> None:
        """Report changes of our own mappings."""
        self._is_looking = False
        former, self._own = self._own, {eid: own_mapping(self._parts, eid) for eid in self._parts.file.eids}
        for eid, mapping in self._own.items():
            if eid not in former:
                self._publish(MappingEvent(type="add", at=_now(), mapping=mapping))
            elif mapping != former[eid]:
                self._publish(MappingEvent(type="change", at=_now(), mapping=mapping))
        for eid in former.keys() - self._own.keys():
            self._publish(MappingEvent(type="delete", at=_now(), mapping=former[eid], why="deleted"))


def _now() -> str:
    return iso_utc(time.time())
