"""The requests of a Map-Register to a shared registry, and the results. Frozen values.

A hub with its own registry decides about a Map-Register at once. With a shared registry, a Map-Register is verified
first (`MapServer.prepare`), then committed to the registry, one step for each record, and only then applied and
acknowledged (`MapServer.on_map_register` again, with `Committed`).
"""

from __future__ import annotations

from enum import Enum

import msgspec

from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.site import Site
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key
from lispmob.wire.map_register import MapRegister


class Put(msgspec.Struct, frozen=True):
    """One record of a verified Map-Register.

    `owners` identify the site's keys, the one that verified the message first. `must_grow` is that of `Nonces.accepts`.
    """

    prefix: EidPrefix
    part: XtrRegistration
    owners: tuple[str, ...]
    must_grow: bool | None

    @property
    def is_named(self) -> bool:
        """True when an xTR-ID identifies its xTR."""
        return self.part.xtr_id is not None and any(self.part.xtr_id)

    @property
    def is_withdrawal(self) -> bool:
        """True when the record ends a registration."""
        return self.part.record.ttl_min == 0

    @property
    def lifetime_s(self) -> float:
        """How long the registration lives."""
        return self.part.expires_at - self.part.registered_at


class Prepared(msgspec.Struct, frozen=True):
    """A Map-Register with a valid MAC, whose records its site may register. Not applied yet."""

    payload: bytes
    register: MapRegister
    site: Site
    key: Key
    puts: tuple[Put, ...]


class Verdict(Enum):
    """The registry's result for one record."""

    OLD = 0  # the nonce is not newer than the last one
    SAME = 1  # refreshed: the mapping is the same as before
    CHANGED = 2
    HELD = 3  # another node has the EID-Prefix; nothing was written


class Committed(msgspec.Struct, frozen=True):
    """The result for a whole Map-Register. `is_old`: the nonce of a record was not newer than the last one."""

    prepared: Prepared
    is_old: bool
