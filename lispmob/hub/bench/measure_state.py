"""`python -m lispmob.hub.bench.measure_state PATH NUMBER`: writes a state file with that many registrations."""

from __future__ import annotations

import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lispmob.hub.bench.measure_core import FIRST_EID, FIRST_NONCE, FIRST_RLOC, KEY
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.nonces import Count, NonceChanges, NonceKey, eid_name, owner_of
from lispmob.hub.map_server.part import LIFETIME_S, XtrRegistration
from lispmob.hub.store.store import Clock, Store
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Locator, MappingRecord

AT_ONCE: Final = 20_000
AHEAD_S: Final = 3600.0  # last heard in the future, so that none has expired when the hub starts: it then counts as now


def write(path: Path, number: int) -> None:
    """Registrations as the nodes of `measure_core` make them, with the time at which they are read."""
    store = Store(path, Clock(time.monotonic, time.time))
    store.open()
    owner, now = owner_of(KEY), time.monotonic() + AHEAD_S
    for start in range(0, number, AT_ONCE):
        changed: dict[EidPrefix, tuple[bytes, ...]] = {}
        nonces: dict[NonceKey, bytes] = {}
        for index in range(start, min(start + AT_ONCE, number)):
            prefix = EidPrefix.host(IPv4Address(FIRST_EID + index))
            changed[prefix] = (packed_part.pack(_part(prefix, index, now), 0.0),)
            count = Count(FIRST_NONCE + index, is_counting=True, at=now).encode()
            nonces[owner, (index + 1).to_bytes(16)] = nonces[owner, eid_name(prefix, is_named=True)] = count
        store.save(changed, NonceChanges(nonces, frozenset()))
    store.close()


def _part(prefix: EidPrefix, number: int, now: float) -> XtrRegistration:
    xtr_id, rloc = (number + 1).to_bytes(16), IPv4Address(FIRST_RLOC + number)
    return XtrRegistration(
        xtr=xtr_id,
        record=MappingRecord.of(prefix, (Locator(rloc),), ttl_min=10),
        expires_at=now + LIFETIME_S,
        registered_at=now,
        nonce=FIRST_NONCE + number,
        source=rloc,
        proxy_map_reply=True,
        wants_merge=False,
        xtr_id=xtr_id,
        site_id=bytes(8),
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
