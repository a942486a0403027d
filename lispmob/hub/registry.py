"""The store of registrations (port): a file of this hub, or servers that several hubs share.

The control plane decides at once, from memory. So the registry is called before a datagram goes to the plane: it
fetches what the datagram is about, or commits it first. A registry of this hub alone has nothing to do then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.registration import Registration


class Registry(Protocol):
    """The registry as the hub's loop uses it. All calls are made inside the loop."""

    @property
    def problem(self) -> str | None:
        """Its problem, in a sentence."""

    @property
    def counters(self) -> dict[str, int]:
        """Its counters."""

    async def start(self) -> None:
        """Begin; earlier registrations are known, or become known, from now on. Never fails: see `problem`."""

    async def stop(self) -> None:
        """Write pending changes, and end."""

    async def settle(self) -> None:
        """Wait until the stored state is loaded, and pending changes are written."""

    def before(self, arrival: Arrival, deliver: Callable[[], None]) -> bool:
        """A datagram arrived. `deliver` passes it to the control plane: it is called at once, later, or never.

        Never, if no true answer is possible: its sender then asks another hub. Returns True for a Map-Register that is
        authenticated, as far as known by then.
        """

    def on_changed(self, change: RegistrationChanged) -> None:
        """The control plane has applied a change."""

    def on_turn(self) -> None:
        """The control plane has processed a datagram or a timer."""

    def on_sites(self) -> None:
        """The sites of the control plane have changed."""

    def slices(self, count: int) -> AsyncIterator[list[Registration]]:
        """All registrations, some at a time, each with its live parts."""
