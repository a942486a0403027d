"""What an RTR knows of a node behind a NAT: where its uplinks appear on this side, and for how long that holds."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import field, replace
from typing import Final

from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

BINDINGS_PER_NODE: Final = 16  # ours: uplinks of one node
MAX_PRIORITY: Final = 254
DOUBT_S: Final = 0.7  # ours: so long packets may leave by a binding and nothing come from its place
ANSWER_S: Final = 1.0  # ours: so long the node has for the register that it was asked for
TRUST_S: Final = 2.0  # ours: after that register silence is put down to the applications


@dataclass(frozen=True, slots=True)
class Binding:
    """One uplink: its address behind the NAT, and the translated address and port that lead to it.

    `rtr` is the address of ours that the NAT lets answers in from; `source_port` the port of ours, likewise.
    """

    rloc: IpAddress
    address: IpAddress
    port: int
    rtr: IpAddress
    source_port: int
    expires_at: float
    priority: int = 1
    weight: int = 100


@dataclass(slots=True)
class _Silence:
    """Packets left by a binding and none came back: since when, when the node was asked, and the verdict."""

    since: float | None = None
    asked_at: float | None = None
    trusted_until: float = float("-inf")
    is_dead: bool = False


@dataclass(slots=True)
class NatEntry:
    """One EID-Prefix of one node. Two nodes that register the same EID-Prefix take turns; the last one has it."""

    prefix: EidPrefix
    xtr_id: bytes
    bindings: dict[IpAddress, Binding]
    has_open_locators: bool = False
    """The node can be reached past its NATs, too."""
    silences: dict[IpAddress, _Silence] = field(default_factory=dict)

    def take(self, binding: Binding, policies: Iterable[Locator], now: float = 0.0) -> None:
        """A verified register came by this uplink: its place is fresh, and what it says of the others holds.

        `policies` are the R=0 locators of the record: priority and weight for every uplink; one that is missing is
        gone. A record without any says nothing about the others.
        """
        listed = {locator.ip: locator for locator in policies if locator.ip is not None}
        if listed:
            self.bindings = {rloc: one for rloc, one in self.bindings.items() if rloc in listed}
        self.bindings.pop(binding.rloc, None)
        self.bindings[binding.rloc] = binding
        self.silences[binding.rloc] = _Silence(trusted_until=now + TRUST_S)
        while len(self.bindings) > BINDINGS_PER_NODE:
            del self.bindings[next(iter(self.bindings))]
        for rloc, one in self.bindings.items():
            if (locator := listed.get(rloc)) is not None:
                self.bindings[rloc] = replace(one, priority=locator.priority, weight=locator.weight)
        self.silences = {rloc: one for rloc, one in self.silences.items() if rloc in self.bindings}

    def expire(self, now: float) -> bool:
        """Forget what is too old; True when something was."""
        kept = {rloc: one for rloc, one in self.bindings.items() if one.expires_at > now}
        has_changed = len(kept) < len(self.bindings)
        self.bindings = kept
        return has_changed

    def usable(self) -> tuple[Binding, ...]:
        """The uplinks that may be sent to, best priority first; those found dead come after all others."""
        found = [
            replace(one, priority=MAX_PRIORITY) if self._is_dead(rloc) else one
            for rloc, one in self.bindings.items()
            if one.priority <= MAX_PRIORITY
        ]
        return tuple(sorted(found, key=lambda one: (one.priority, int(one.rloc))))

    @property
    def has_choice(self) -> bool:
        """True when there is another way to the node than one binding."""
        return self.has_open_locators or len(self.usable()) > 1

    def on_used(self, heard: Container[IpAddress], now: float) -> bool:
        """Packets left for the node, and came from these places, since the last call. True: ask where it is."""
        usable = self.usable()
        wants_word = False
        for one in usable:
            if one.priority != usable[0].priority or self._is_dead(one.rloc):
                continue  # packets do not go there
            silence = self.silences.setdefault(one.rloc, _Silence())
            if one.address in heard:
                silence.since = silence.asked_at = None
            elif silence.since is None:
                silence.since = now
            elif silence.asked_at is None and now >= max(silence.since + DOUBT_S, silence.trusted_until):
                silence.asked_at = now
                wants_word = True
        return wants_word

    def on_heard(self, heard: Container[IpAddress]) -> None:
        """Packets came from these places; none need have left for the node."""
        for rloc, one in self.bindings.items():
            if one.address in heard and (silence := self.silences.get(rloc)) is not None:
                silence.since = silence.asked_at = None

    def judge(self, now: float) -> bool:
        """Who was asked and did not answer is dead until it registers again; True when that is news."""
        dead = [one for one in self.silences.values() if one.asked_at is not None and now >= one.asked_at + ANSWER_S]
        for one in dead:
            one.since = one.asked_at = None
            one.is_dead = True
        return bool(dead)

    def _is_dead(self, rloc: IpAddress) -> bool:
        silence = self.silences.get(rloc)
        return silence is not None and silence.is_dead
