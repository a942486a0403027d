"""Who this node is: its xTR-ID, and what is done when another machine turns out to have the same one.

A copied disk or virtual machine has the state directory of the original. Both count nonces on their own, so a
Map-Server hears the one that is ahead, and refuses the other one. Whoever is refused draws another xTR-ID, once: from
then on it is another node with the same EID, of which the first keeps it for as long as it is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from lispmob.lispd.state_dir import draw_xtr_id, load_xtr_id
from lispmob.protocol.effect import Event

log = logging.getLogger("lispd")


class Identity:
    """`configured`: the xTR-ID of lispd.conf, which stays. `complain` hears why another one cannot be kept."""

    def __init__(self, configured: bytes | None, directory: Path, complain: Callable[[str], None]) -> None:
        self.xtr_id = configured or load_xtr_id(directory, complain)
        self._directory = directory
        self._complain = complain
        self._may_draw = configured is None

    def on_event(self, event: Event, *, is_registered: bool) -> bool:
        """Something happened in the core; `is_registered`: an EID of ours stands somewhere. True: we are another node.

        A node that is refused beside another one changes nothing for anybody by that, whatever the other's xTR-ID is.
        """
        if event.kind != "eid-shared" or is_registered or not self._may_draw:
            return False
        self._may_draw = False
        self.xtr_id = draw_xtr_id(self._directory, self._complain)
        log.info("another xTR-ID is drawn, since another machine may have the same one: %s", event.fields.get("text"))
        return True
