"""The Map-Server: what the sites have registered, and what that answers (RFC 9301, sections 8.2 and 8.4).

Pure: datagrams and `now` come in, effects go out. Map-Requests reach it through `map_resolver.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from heapq import heappop, heappush
from typing import Final

from lispmob.control.effect import Event, SendControl
from lispmob.control.prefix_table import PrefixTable
from lispmob.control.rate_limit import KeyedBuckets
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.claims import Claims
from lispmob.hub.effect import Arrival, HubEffect, RegistrationChanged
from lispmob.hub.nonces import NonceKey, Nonces
from lispmob.hub.registration import Registration, XtrRegistration
from lispmob.hub.site import Site, SiteTable
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, sign
from lispmob.wire.eid import take_eid, to_prefix
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.reader import Reader
from lispmob.wire.record import MappingRecord

FIXED_OCTETS: Final = 16  # RFC 9301, 5.6: a Map-Register up to the length of its authentication data
COMPLAINT_INTERVAL_S: Final = 60.0  # ours: one report a minute for the same sender


class MapServer:
    """Keeps registrations as soft state: they are there as long as somebody proves them."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self.sites = SiteTable(sites)
        self.counters: Counter[str] = Counter()
        self.registrations: PrefixTable[Registration] = PrefixTable()
        self._heap: list[tuple[float, int, EidPrefix]] = []
        self._due: dict[EidPrefix, float] = {}
        self._pushes = 0
        self._nonces = Nonces()
        self._claims = Claims()
        self._complaints: KeyedBuckets[IpAddress] = KeyedBuckets(COMPLAINT_INTERVAL_S, limit=256)

    def wake_at(self) -> float | None:
        """When the next registration may run out; None without any."""
        return self._heap[0][0] if self._heap else None

    def on_timer(self, now: float) -> list[HubEffect]:
        """Forget the registrations that ran out."""
        effects: list[HubEffect] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, prefix = heappop(self._heap)
            if self._due.get(prefix) != at:
                continue
            del self._due[prefix]
            registration = self.registrations.get(prefix)
            assert registration is not None, prefix
            effects += self._report(registration, registration.expire(now), "expired")
            self._schedule(registration)
        return effects

    def on_sites(self, sites: Iterable[Site]) -> list[HubEffect]:
        """Other sites are configured: what nobody may register any more is forgotten."""
        self.sites = SiteTable(sites)
        effects: list[HubEffect] = []
        for prefix, registration in list(self.registrations):
            found = self.sites.of(prefix)
            if found is None or not found[1].accepts(prefix):
                effects += self._report(registration, registration.clear(), "withdrawn")
        return effects

    def restore(
        self, parts: Iterable[XtrRegistration], nonces: Iterable[tuple[NonceKey, int]], now: float
    ) -> list[HubEffect]:
        """Take back what was registered before a restart, as far as the sites still allow it."""
        effects: list[HubEffect] = []
        for part in parts:
            prefix = part.record.eid_prefix
            found = self.sites.of(prefix) if prefix else None
            if prefix is None or found is None or not found[1].accepts(prefix):
                continue
            registration = self._registration(prefix)
            registration.put(part)
            self._schedule(registration)
            effects.append(RegistrationChanged(prefix, registration.record))
        self._nonces.restore(nonces, now)
        return effects

    def take_new_nonces(self) -> dict[NonceKey, int]:
        """The last nonces seen since the previous call, for the store."""
        return self._nonces.take_new()

    def on_map_register(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """A Map-Register came: check its MAC, then what it says, then take it in and acknowledge it.

        The MAC comes first: only the first EID is read before, to know whose key it has to be. Whatever is wrong with
        one record, none of the message counts.
        """
        try:
            site = self._site_of(arrival.payload)
            key = site.authenticate(arrival.payload)
            register = MapRegister.decode(arrival.payload)
            self._check(register, site, key, now)
            parts = self._parts(register, arrival, now)
        except AuthenticationFailed as error:
            return self._refuse("rx_auth", "auth-failed", arrival, str(error), now)
        except MalformedMessage as error:
            return self._refuse(error.counter, "refused", arrival, error.why, now)
        self.counters["rx_map_register"] += 1
        effects: list[HubEffect] = []
        records: list[MappingRecord] = []
        for registration, part in parts:
            record = part.record
            if (holder := self._claims.holder(registration, part, now)) is not None:
                self.counters["rx_duplicate"] += 1
                effects += self._claims.refuse(part, holder, now)
                records.append(self._claims.denied(record, holder) if record.ttl_min else record)
                continue
            effects += self._take_in(registration, part, register)
            records.append(self._merged(record) if register.wants_merge else record)
            records[-1] = self._claims.with_rival(records[-1], part, now)
        if register.want_map_notify:
            effects.insert(0, self._notify(register, tuple(records), arrival, key))
        return effects

    def _site_of(self, raw: bytes) -> Site:
        """The site of the first EID; the octets are nobody's yet, so this reads as little as it can."""
        if len(raw) < FIXED_OCTETS:
            raise MalformedMessage("rx_short", "a Map-Register of less than 16 octets")
        reader = Reader(raw, start=FIXED_OCTETS)
        reader.take_bytes(int.from_bytes(raw[14:16]))
        mask_len = reader.take_bytes(10)[5]
        prefix = to_prefix(take_eid(reader, mask_len), mask_len)
        found = self.sites.of(prefix) if prefix else None
        if found is None:
            raise MalformedMessage("rx_policy", f"{prefix or 'an EID that is no IP prefix'} is in no site")
        return found[1]

    def _check(self, register: MapRegister, site: Site, key: Key, now: float) -> None:
        """Raise unless every record may be registered with this key, and the nonce new, of whoever counts."""
        for record in register.records:
            prefix = record.eid_prefix
            found = self.sites.of(prefix) if prefix else None
            if prefix is None or found is None or not found[1].accepts(prefix) or key not in found[1].keys:
                raise MalformedMessage("rx_policy", f"site {site.name} may not register {prefix}")
        # An xTR without an xTR-ID is known by what it registers: its address is what changes when it moves.
        is_named = register.xtr_id is not None and any(register.xtr_id)
        who = register.xtr_id.hex() if is_named and register.xtr_id else str(register.records[0].eid_prefix)
        must_grow = site.strict_nonces
        if must_grow is None and register.wants_merge and not is_named:
            must_grow = False  # several xTRs, each with a counter of its own, that cannot be told apart
        if not self._nonces.accepts((site.name, key.key_id, who), register.nonce, now, must_grow=must_grow):
            raise MalformedMessage("rx_replay", f"site {site.name}: the nonce of {who} did not grow")

    def _parts(self, register: MapRegister, arrival: Arrival, now: float) -> list[tuple[Registration, XtrRegistration]]:
        parts = []
        for record in register.records:
            prefix = record.eid_prefix
            assert prefix is not None, record
            part = XtrRegistration.of(register, record, arrival.source, now)
            registration = self.registrations.get(prefix) or Registration(prefix)
            if record.ttl_min and not registration.has_room_for(part):
                raise MalformedMessage("rx_limit", f"too many xTRs to merge for {prefix}")
            parts.append((registration, part))
        return parts

    def _take_in(self, registration: Registration, part: XtrRegistration, register: MapRegister) -> list[HubEffect]:
        was = registration.record
        if part.record.ttl_min == 0:
            has_changed = registration.withdraw(part.xtr, wants_merge=register.wants_merge)
            return self._report(registration, has_changed, "withdrawn") if was else []
        goes_on = was is not None and registration.goes_on_with(part)
        has_changed = registration.put(part) or not goes_on
        self.registrations.insert(registration.prefix, registration)
        self._schedule(registration)
        return self._report(registration, has_changed, "moved" if goes_on else "registered", is_told=goes_on)

    def _notify(
        self, register: MapRegister, records: tuple[MappingRecord, ...], arrival: Arrival, key: Key
    ) -> SendControl:
        """The acknowledgement: same nonce, same key, algorithm and digest length as the Map-Register."""
        key = replace(key, key_id=register.key_id, is_truncated=False)
        key = replace(key, is_truncated=len(register.authentication) < key.mac_octets)
        notify = MapNotify(nonce=register.nonce, records=records, xtr_id=register.xtr_id, site_id=register.site_id)
        self.counters["tx_map_notify"] += 1
        return SendControl(sign(notify, key), arrival.source, arrival.source_port, source=arrival.destination)

    def _merged(self, record: MappingRecord) -> MappingRecord:
        registration = self.registrations.get(record.eid_prefix) if record.eid_prefix else None
        if registration is None or registration.record is None:
            return record
        return replace(record, locators=registration.record.locators)

    def _report(
        self, registration: Registration, has_changed: bool, kind: str, *, is_told: bool = False
    ) -> list[HubEffect]:
        """Say what became of a prefix: another mapping, none any more, or the same one for longer."""
        record, prefix = registration.record, registration.prefix
        if registration.is_empty:
            self.registrations.remove(prefix)
            self._due.pop(prefix, None)
        elif not has_changed:
            return [RegistrationChanged(prefix, record, is_refresh=True)]
        elif kind != "registered":
            kind = "moved"
        self.counters[f"registration_{kind}"] += 1
        rlocs = [str(locator.address) for locator in record.locators] if record else []
        found = self.sites.of(prefix)
        site = found[1].name if found else None
        changed = RegistrationChanged(prefix, record, is_told=is_told)
        return [changed, Event(kind, {"eid": str(prefix), "site": site, "rlocs": rlocs})]

    def _registration(self, prefix: EidPrefix) -> Registration:
        registration = self.registrations.get(prefix)
        if registration is None:
            registration = Registration(prefix)
            self.registrations.insert(prefix, registration)
        return registration

    def _schedule(self, registration: Registration) -> None:
        """See to it that the heap wakes us by the time this one runs out; a refresh adds nothing to the heap."""
        if registration.is_empty:
            return
        at = registration.expires_at
        if at < self._due.get(registration.prefix, float("inf")):
            self._due[registration.prefix] = at
            self._pushes += 1
            heappush(self._heap, (at, self._pushes, registration.prefix))

    def _refuse(self, counter: str, kind: str, arrival: Arrival, why: str, now: float) -> list[HubEffect]:
        self.counters[counter] += 1
        if not self._complaints.take(arrival.source, now):
            return []
        return [Event(kind, {"source": str(arrival.source), "why": why})]
