"""The xTR-ID of this node, and what happens if another machine has the same one.

A copied disk or virtual machine has the state directory of the original. Both count nonces independently, so a
Map-Server accepts the one that is ahead, and refuses the other. The refused one draws another xTR-ID, once: then it is
another node with the same EID, which the first one keeps while it is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from lispmob.lispd.state_dir import draw_xtr_id, load_xtr_id
from lispmob.protocol.effect import Event

log = logging.getLogger("lispd")


class Identity:
    """`configured`: the xTR-ID of lispd.conf, which stays. `complain` gets the reason if none can be stored."""

    def __init__(self, configured: bytes | None, directory: Path, complain: Callable[[str], None]) -> None:
        self.xtr_id = configured or load_xtr_id(directory, complain)
        self._directory = directory
        self._complain = complain
        self._may_draw = configured is None

    def on_event(self, event: Event, *, is_registered: bool) -> bool:
        """An event of the core; `is_registered`: one of our EIDs is registered. True: the xTR-ID has changed.

        A node that is refused beside another one harms no node by changing, whatever the other's xTR-ID is.
        """
        if event.kind != "eid-shared" or is_registered or not self._may_draw:
            return False
        self._may_draw = False
        self.xtr_id = draw_xtr_id(self._directory, self._complain)
        log.info("another xTR-ID is drawn, since another machine may have the same one: %s", event.fields.get("text"))
        return True
