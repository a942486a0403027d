"""Whether a Map-Server takes our static key: some refuse every message with a key in it (Open Overlay Router). Pure.

The first Map-Register has none, so that nobody is reached later for its sake; the one after it has. Two with the key
that stay unanswered, where one without it is answered, mean no: it is left out, and tried again after an hour.
"""

from __future__ import annotations

from typing import Final

KEYED_TRIES: Final = 2  # unanswered Map-Registers with the key, before one goes without
AGAIN_S: Final = 3600.0  # ours: the Map-Server may be another one by then


class KeyTrial:
    """One for each EID-Prefix and Map-Server. `is_wanted` False: we have no key to say."""

    def __init__(self, *, is_wanted: bool) -> None:
        self.is_taken = False
        self._is_wanted = is_wanted
        self._is_tried = False
        self._again_at = 0.0

    def says_key(self, tries: int) -> bool:
        """Whether the Map-Register that is the `tries`th since the last answer has the key."""
        return self._is_wanted and self._is_tried and tries <= KEYED_TRIES

    def on_answer(self, now: float, *, is_keyed: bool, tries: int) -> bool:
        """A Map-Register was answered, with the key or without: whether one with it is to leave at once."""
        if not self._is_wanted:
            return False
        if is_keyed:
            self.is_taken = True
            return False
        if self._is_tried:
            if tries > KEYED_TRIES:
                self.is_taken = self._is_tried = False
                self._again_at = now + AGAIN_S
            return False
        self._is_tried = now >= self._again_at
        return self._is_tried
