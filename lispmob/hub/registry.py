"""Where registrations are kept (port): in a file of this hub's own, or in servers that several hubs share.

The control plane decides at once, from what is in memory. So a registry is asked before a datagram is given to the
plane: what it is about is fetched, or committed, first. One that this hub has to itself has nothing to do then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.registration import Registration


class Registry(Protocol):
    """What the hub's loop asks of a registry. Everything is called inside the loop."""

    @property
    def problem(self) -> str | None:
        """What is wrong with it, in a sentence."""

    @property
    def counters(self) -> dict[str, int]:
        """What it has counted."""

    async def start(self) -> None:
        """Begin; what was registered before is known, or becomes known, from now on. Never fails: see `problem`."""

    async def stop(self) -> None:
        """Write what is left, and end."""

    async def settle(self) -> None:
        """Wait until what was known before the start is there, and what is waiting is written."""

    def before(self, arrival: Arrival, deliver: Callable[[], None]) -> bool:
        """A datagram came. `deliver` gives it to the control plane: it is called at once, later, or never.

        Never: nothing can be said truthfully, and its sender asks somebody else. Returns True when the datagram is a
        Map-Register whose proof is good, as far as that is known by now.
        """

    def on_changed(self, change: RegistrationChanged) -> None:
        """The control plane has taken in a change."""

    def on_turn(self) -> None:
        """The control plane has done something, by a datagram or by its timer."""

    def on_sites(self) -> None:
        """The sites of the control plane are others now."""

    def slices(self, count: int) -> AsyncIterator[list[Registration]]:
        """All that is registered, so many at a time, each with the parts that are alive."""
