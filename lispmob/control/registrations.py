"""All registrations of a node: each EID-Prefix at each Map-Server, with one nonce counter for all of them.

A `Registration` is made for every pair of an EID-Prefix and a Map-Server when the configuration is read. A move calls
`on_locators`, which passes the new locators to all of them: each sends a Map-Register in the same turn of the event
loop. A Map-Notify is passed to the registration that expects its nonce. `wake_at` is the earliest of their timers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from msgspec.structs import replace

from lispmob.control.gate import NonceBook
from lispmob.control.node_config import NodeConfig
from lispmob.control.registration import Registration, RegistrationPolicy
from lispmob.protocol.effect import Count, MachineEffect
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_notify import MapNotify

SOLICITED_S = 3.0  # RFC 9301, 6.1: what an SMR may cause, once in 3 s

_Identity: TypeAlias = tuple[EidPrefix, MapServerPeer, RegistrationPolicy]
"""The parameters of a registration. If any of them changes, it is another registration."""

NewNonce: TypeAlias = Callable[[], int]
Growing: TypeAlias = NewNonce | None
"""Returns increasing numbers, over restarts too; None: count from the configuration's `first_nonce`."""


class Registrations:
    """Starts, stops and feeds the registrations."""

    def __init__(self, config: NodeConfig, *, jitter: Callable[[], float], next_nonce: Growing = None) -> None:
        self._jitter = jitter
        self.nonces = NonceBook(next_nonce or count(config.first_nonce).__next__)
        self._locators = LocatorSet()
        self._solicited: KeyedBuckets[EidPrefix] = KeyedBuckets(SOLICITED_S)
        self._machines = {identity: self._make(identity) for identity in _identities(config)}

    @property
    def machines(self) -> tuple[Registration, ...]:
        """Every registration, in the order of the configuration."""
        return tuple(self._machines.values())

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return min((at for machine in self.machines if (at := machine.wake_at()) is not None), default=None)

    def on_locators(self, locators: LocatorSet, now: float) -> list[MachineEffect]:
        """Our RLOCs have changed."""
        self._locators = locators
        return [effect for machine in self.machines for effect in machine.on_locators(locators, now)]

    def on_life_sign_wanted(self, server: IpAddress, now: float) -> list[MachineEffect]:
        """Check whether this Map-Server still answers, by one Map-Register."""
        asked = next((machine for machine in self.machines if machine.server.address == server), None)
        return asked.on_doubt(now) if asked is not None else []

    def on_refused_here(self, server: IpAddress, now: float) -> None:
        """This host's own firewall stopped what was meant for this Map-Server."""
        for machine in self.machines:
            if machine.server.address == server:
                machine.on_refused_here(now)

    def on_solicited(self, eid: EidPrefix, now: float) -> list[MachineEffect]:
        """An SMR says that our own mapping has changed: check by a Map-Register. An SMR is not authenticated."""
        if not self._solicited.take(eid, now):
            return [Count("rx_rate")]
        return [effect for machine in self.machines if machine.eid == eid for effect in machine.on_doubt(now)]

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed. What is due soon is refreshed at the same time, so that the host wakes once."""
        due = [effect for machine in self.machines for effect in machine.on_timer(now)]
        return due and [*due, *(effect for machine in self.machines for effect in machine.on_registers_sent(now))]

    def on_slept(self, now: float) -> list[MachineEffect]:
        """The host was suspended."""
        return [effect for machine in self.machines for effect in machine.on_slept(now)]

    def on_shutdown(self, now: float) -> list[MachineEffect]:
        """The node stops."""
        return [effect for machine in self.machines for effect in machine.on_shutdown(now)]

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[MachineEffect]:
        """A Map-Notify arrived. Its nonce, unique in the node, identifies the registration; so do its reversed octets.

        Accepting both costs one bit of the nonce, and the MAC decides anyway.
        """
        for nonce in (notify.nonce, notify.nonce_octets_reversed):
            for machine in self.machines:
                if machine.expects(nonce):
                    return machine.on_map_notify(replace(notify, nonce=nonce), raw, now)
        return [Count("rx_nonce")]

    def on_config(self, config: NodeConfig, now: float) -> list[MachineEffect]:
        """Keep registrations that did not change, withdraw removed ones, start new ones."""
        old, wanted = self._machines, list(dict.fromkeys(_identities(config)))
        self._machines = {identity: old.get(identity) or self._make(identity) for identity in wanted}
        still_there = {(eid, server.address) for eid, server, _ in wanted}
        effects: list[MachineEffect] = []
        for identity, machine in old.items():
            # If only a key or a TTL changed, a withdrawal would race with the new registration.
            if identity not in self._machines and (machine.eid, machine.server.address) not in still_there:
                effects += machine.on_shutdown(now)
        for identity, machine in self._machines.items():
            if identity not in old:
                effects += machine.on_locators(self._locators, now)
        return effects

    def _make(self, identity: _Identity) -> Registration:
        eid, server, policy = identity
        return Registration(eid, server, policy, next_nonce=self.next_nonce, jitter=self._jitter)

    def next_nonce(self) -> int:
        """The next nonce for a Map-Register, for any path."""
        return self.nonces()


def _identities(config: NodeConfig) -> list[_Identity]:
    interval_s, ttl_min, key_record = config.register_interval_s, config.record_ttl_min, config.key_record
    policy = RegistrationPolicy(interval_s, ttl_min, config.xtr_id, config.site_id, key_record)
    return [(eid, server, policy) for server in config.map_servers for eid in config.eids]
