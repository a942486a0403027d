"""The askers of names: they are notified by a Solicit-Map-Request when the answer changes (RFC 9301, 6.1).

As with EID-Prefixes (`askers.py`), the message proves nothing and only makes its receiver ask, and the asker is not
authenticated either. So the answer is kept beside the asker, and one small datagram is sent when the answer changes.
Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from lispmob.hub.map_server.askers import SMR_BURST, SMR_INTERVAL_S, SMRS_S
from lispmob.protocol.effect import SendControl
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.name_eid import name_of
from lispmob.wire.record import Locator, MappingRecord

ASKERS_LIMIT: Final = 4096
LOOKED_AT: Final = 256  # ours: askers compared in one call, some milliseconds


class _Informed(msgspec.Struct, frozen=True):
    own: IpAddress
    locators: tuple[Locator, ...]


class NameAskers:
    """Remembers the latest askers, up to a limit. `answer` gives the current answer for a name.

    Unregistered askers are dropped before registered nodes, as in `askers.py`.
    """

    def __init__(self, answer: Callable[[DistinguishedName], MappingRecord], *, new_nonce: Callable[[], int]) -> None:
        self.counters: Counter[str] = Counter()
        self._answer, self._new_nonce = answer, new_nonce
        self._informed: OrderedDict[tuple[bytes, IpAddress], _Informed] = OrderedDict()
        # The unregistered among them, oldest first.
        self._strangers: OrderedDict[tuple[bytes, IpAddress], None] = OrderedDict()
        self._to_do: OrderedDict[tuple[bytes, IpAddress], None] = OrderedDict()
        self._wake_at: float | None = None
        self._limits: KeyedBuckets[tuple[bytes, IpAddress]] = KeyedBuckets(SMR_INTERVAL_S, SMR_BURST)
        self._in_all = TokenBucket(1 / SMRS_S, SMRS_S)

    def __len__(self) -> int:
        return len(self._informed)

    def wake_at(self) -> float | None:
        """When on_timer is due."""
        return self._wake_at

    def on_answered(
        self, records: Iterable[MappingRecord], itr: IpAddress, own: IpAddress, *, is_registered: bool = False
    ) -> None:
        """Records were sent to an ITR that asked at `own`; only names matter here."""
        for record in records:
            if (name := name_of(record.eid)) is not None:
                key = name, itr
                self._strangers.pop(key, None)
                if not is_registered:
                    self._strangers[key] = None
                self._informed[key] = _Informed(own, record.locators)
                self._informed.move_to_end(key)
                if len(self._informed) > ASKERS_LIMIT:
                    self._forget(next(iter(self._strangers or self._informed)))

    def on_changed(self, now: float) -> list[SendControl]:
        """Names may have other answers: compare the answers given with the current ones."""
        self._to_do.update(dict.fromkeys(self._informed))
        return self.on_timer(now)

    def on_timer(self, now: float) -> list[SendControl]:
        """Compare some more, and notify those that the limits held back."""
        sent: list[SendControl] = []
        held: list[tuple[bytes, IpAddress]] = []
        for _ in range(min(LOOKED_AT, len(self._to_do))):
            key, _ = self._to_do.popitem(last=False)
            name, itr = key
            if (informed := self._informed.get(key)) is None or self._is_true(name, informed):
                continue
            if self._limits.available_at(key, now) > now or self._in_all.available_at(now) > now:
                held.append(key)
                continue
            self._limits.take(key, now)
            self._in_all.take(now)
            self._forget(key)  # it asks again, or has no interest
            sent.append(self._solicit(name, itr, informed.own))
        self._to_do.update(dict.fromkeys(held))
        self._wake_at = None if not self._to_do else now + (SMR_INTERVAL_S if len(held) == len(self._to_do) else 0.0)
        self.counters["tx_smr"] += len(sent)
        return sent

    def _forget(self, key: tuple[bytes, IpAddress]) -> None:
        del self._informed[key]
        self._strangers.pop(key, None)
        self._to_do.pop(key, None)

    def _is_true(self, name: bytes, informed: _Informed) -> bool:
        return self._answer(DistinguishedName(name)).locators == informed.locators

    def _solicit(self, name: bytes, itr: IpAddress, own: IpAddress) -> SendControl:
        request = MapRequest(
            nonce=self._new_nonce(),
            source_eid=DistinguishedName(name),
            itr_rlocs=(own,),
            records=(EidRecord(DistinguishedName(name), 0),),
            is_smr=True,
            dont_map_reply=True,
        )
        return SendControl(request.encode(), itr, source=own if own.version == itr.version else None)
