"""Whether a Map-Server is sent our static key: only one that says that it keeps keys. Pure.

Other Map-Servers are sent no key: Open Overlay Router drops every message with one, lispers.net shows it to all,
and others are untested. So the first Map-Register has none. The Map-Notify says, under its MAC, whether keys are kept
(`wire/map_notify.py`), and the next Map-Register has the key. When the Map-Server no longer says so, because another
program runs there now, the key is left out again at once. If two registers with the key go unanswered, and one without
it is answered, the Map-Server has no room for it: the key is tried again after an hour.
"""

from __future__ import annotations

from typing import Final

KEYED_TRIES: Final = 2  # unanswered Map-Registers with the key, before one goes without
AGAIN_S: Final = 3600.0  # ours: the Map-Server may have room by then


class KeyTrial:
    """The state for one EID-Prefix and Map-Server. `is_wanted` False: we have no key."""

    def __init__(self, *, is_wanted: bool) -> None:
        self.is_taken = False
        self._is_wanted = is_wanted
        self._is_tried = False
        self._again_at = 0.0

    def says_key(self, tries: int) -> bool:
        """Whether Map-Register number `tries` since the last answer has the key."""
        return self._is_wanted and self._is_tried and tries <= KEYED_TRIES

    def on_answer(self, now: float, *, is_keyed: bool, is_offered: bool, tries: int) -> bool:
        """A Map-Register was answered; `is_keyed`: it had the key, `is_offered`: the answer says that keys are kept.

        Returns whether the next one must be sent at once.
        """
        if not self._is_wanted:
            return False
        if not is_offered:
            self.is_taken = self._is_tried = False
            return is_keyed
        if is_keyed:
            self.is_taken = self._is_tried = True
            return False
        if self._is_tried:
            if tries > KEYED_TRIES:
                self.is_taken = self._is_tried = False
                self._again_at = now + AGAIN_S
            return False
        self._is_tried = now >= self._again_at
        return self._is_tried
