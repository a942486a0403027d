"""The Map-Server: keeps the sites' registrations, and answers from them (RFC 9301, sections 8.2 and 8.4).

How a Map-Register is handled, in `on_map_register`:

1. The first EID is read, to find the site and its keys; nothing more before the MAC is verified.
2. The whole message is decoded. Every record must lie in an EID-Prefix of the site, and the nonce must have grown. If
   one record fails, the message is rejected.
3. A record for an EID-Prefix that another node holds is refused, and both nodes are notified (`claims.py`).
4. The other records are stored: a part per xTR, with its lifetime. If the merged mapping changed, a
   `RegistrationChanged` informs the store, the proxy and the recent askers (`askers.py`).
5. The Map-Notify answers with the records as they are now registered.

Pure: datagrams and `now` come in, effects go out. Map-Requests arrive through `map_resolver.py`. Work that grows with
the table (restoring, expiry, changed sites) is done in slices.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.claims import Claims, SeenAt, is_overtaken, is_sibling
from lispmob.hub.map_server.commit import Committed, Prepared, Put
from lispmob.hub.map_server.deadlines import Deadlines
from lispmob.hub.map_server.effect import Arrival, HubEffect, RegistrationChanged
from lispmob.hub.map_server.names import Names
from lispmob.hub.map_server.nonces import NonceChanges, NonceRow, Nonces, OldNonce, TooManyXtrs, old_owner, owner_of
from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.place_index import AddressCount
from lispmob.hub.map_server.registration import Registration, addresses_of, has_moved, is_at_same_places
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.hub.map_server.site_usage import SiteUsage
from lispmob.hub.map_server.unread import Unread
from lispmob.protocol.effect import Event, SendControl
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import Afi, DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.auth import Key, sign
from lispmob.wire.eid import take_eid, to_prefix
from lispmob.wire.key_record import without_key_record
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.reader import Reader
from lispmob.wire.record import Locator, MappingRecord

SLICE: Final = 128  # ours: registrations handled in one slice, which takes some milliseconds
AT_ONCE: Final = 0.0  # a time in the past
OWN_TTL_MIN: Final = 10  # ours: of a mapping of this machine's own EIDs
FIXED_OCTETS: Final = 16  # RFC 9301, 5.6: a Map-Register up to the length of its authentication data
REGISTER_LIMIT: Final = 16384  # ours: octets; 32 records of a dozen locators take half of that
_LCAF_OCTETS: Final = 8  # AFI, reserved, flags, type, reserved, length (RFC 8060, 3)
_INSTANCE_ID: Final = bytes((2,))
_EID_OCTETS: Final = 32  # an Instance-ID and an IPv6 address, with room
COMPLAINT_INTERVAL_S: Final = 60.0  # ours: one report a minute for the same sender, or the same fault of a site
COMPLAINTS_S: Final = 0.2  # ours: for all unauthenticated senders together, whose addresses may be forged
COMPLAINT_BURST: Final = 20
LENIENT: Final = "a node that never counts (Open Overlay Router, lispers.net) needs 'strict-nonces: auto' in its site"


class MapServer:
    """Keeps registrations as soft state: each lasts as long as it is refreshed."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self.sites = SiteTable.made_of(sites)
        self.names = Names(self.sites)
        self.counters: Counter[str] = Counter()
        self.registrations: OrderedPrefixTable[Registration] = OrderedPrefixTable()
        self._due: Deadlines[EidPrefix] = Deadlines()
        self._usage = SiteUsage()
        self._addresses = AddressCount()
        self._unchecked: Iterator[list[Registration]] = iter(())  # since the sites changed; in slices
        self._has_backlog = False
        self._old_owners: dict[str, str] | None = None
        self._unread: Unread | None = None
        self._met: set[EidPrefix] = set()  # looked up before its turn came
        self.is_watched = True  # the forwarding uses the registrations, and is notified of restored ones
        self.is_shared = False  # several hubs share the registry: memory holds only a part of it, and does not decide
        self._lapsed: list[EidPrefix] = []  # of a shared registry: expired here, but perhaps refreshed elsewhere
        self._named: list[Arrival] = []  # for a shared registry: accepted Map-Registers of names
        self._committed: Committed | None = None
        self._revoked: list[tuple[EidPrefix, tuple[XtrRegistration, ...]]] = []
        self._nonces = Nonces()
        self._claims = Claims()
        self._seen_at: SeenAt = lambda _prefix, _xtr_id, _rloc: None
        self._complaints: KeyedBuckets[tuple[IpAddress, str]] = KeyedBuckets(COMPLAINT_INTERVAL_S, limit=256)
        self._complaints_in_all = TokenBucket(1 / COMPLAINTS_S, COMPLAINT_BURST)
        self._proved_complaints: KeyedBuckets[tuple[str, str]] = KeyedBuckets(COMPLAINT_INTERVAL_S)

    def on_rtr(self, seen_at: SeenAt) -> None:
        """Take the RTR in this process: it knows the NATs that nodes register from behind."""
        self._seen_at = seen_at

    def wake_at(self) -> float | None:
        """When the next registration may expire, at once while work is left over; None without any."""
        if self._has_backlog:
            return AT_ONCE
        return min((at for at in (self._due.first(), self.names.wake_at()) if at is not None), default=None)

    def on_timer(self, now: float) -> list[HubEffect]:
        """Remove expired registrations, and continue with work left over: a slice of each."""
        effects: list[HubEffect] = [*self.names.on_timer(now)]
        effects += self._check_sites(now) if self._has_backlog else []
        for number, prefix in self._due.due(now, SLICE):
            registration = self.registrations.get(prefix)
            assert registration is not None, prefix
            assert registration.due == number, prefix
            registration.due = None
            before = registration.parts
            if self.is_shared and registration.expires_at <= now:
                self._lapsed.append(prefix)
                continue
            effects += self._report(registration, registration.expire(now), "expired")
            self._keep(registration, before)
        return effects

    def is_at(self, address: IpAddress) -> bool:
        """True for an address that a current registration came from, or names as a locator."""
        return packed_part.number_of(address) in self._addresses

    def on_sites(self, sites: Iterable[Site], now: float = 0.0) -> list[HubEffect]:
        """Take the configured sites: registrations that are no longer allowed are removed."""
        self.sites, self._old_owners = SiteTable.made_of(sites), None
        self._nonces.on_keys((key for site in self.sites for key in site.keys), now)
        self._unchecked = self.registrations.slices(SLICE)
        return [*self.names.on_sites(self.sites), *self._check_sites(now)]

    def _check_sites(self, now: float) -> list[HubEffect]:
        """Do a slice of the work after a change of the sites; on_timer does the rest."""
        effects: list[HubEffect] = []
        some = next(self._unchecked, None)
        for registration in some or ():
            prefix, before = registration.prefix, registration.parts
            found = self.sites.of(prefix)
            if found is None or not found[1].accepts(prefix):
                self._revoked.append((prefix, tuple(registration)))
                effects += self._report(registration, registration.clear(), "withdrawn")
            self._keep(registration, before, is_same_site=False)
        has_names_left = self._nonces.replace_some(now)
        self._has_backlog = some is not None or has_names_left
        return effects

    def take_revoked(self) -> list[tuple[EidPrefix, tuple[XtrRegistration, ...]]]:
        """Registrations no longer allowed for any site, since the previous call."""
        taken, self._revoked = self._revoked, []
        return taken

    def on_own(self, eids: Iterable[EidPrefix], addresses: Iterable[IpAddress]) -> list[HubEffect]:
        """Take this machine's own EIDs and addresses: they need no proof, and do not expire."""
        locators = tuple(Locator(address) for address in addresses)
        effects: list[HubEffect] = []
        for eid in eids if locators else ():
            registration = self._registration(eid)
            record = MappingRecord.of(eid, locators, ttl_min=OWN_TTL_MIN)
            part = XtrRegistration(
                xtr=b"",
                record=record,
                expires_at=float("inf"),
                registered_at=0.0,
                nonce=0,
                source=locators[0].ips[0],
                proxy_map_reply=True,
                wants_merge=False,
            )
            before = registration.parts
            if registration.put(part):
                effects += self._report(registration, True, "registered")
            self._keep(registration, before)
        return effects

    def restore_nonces(self, rows: Iterable[NonceRow]) -> None:
        """Restore some of the nonces from before a restart: all nonces are restored before the registrations."""
        self._nonces.restore(((self._owner(owner), name), count) for (owner, name), count in rows)

    def on_reading(self, unread: Unread) -> None:
        """From now on the state file is read in slices: `unread` finds an entry that is needed before its turn."""
        self._unread = self._nonces.unread = unread

    def on_nonces_restored(self) -> None:
        """All nonces have been restored: none is looked up in the file any more."""
        self._nonces.unread = None

    def on_restored(self, now: float) -> None:
        """Everything from before a restart has been restored."""
        self._unread = self._nonces.unread = None
        self._met.clear()
        self._nonces.on_keys((key for site in self.sites for key in site.keys), now)

    @property
    def is_complete(self) -> bool:
        """False while more may be registered than is in memory."""
        return self._unread is None

    @property
    def knows_all(self) -> bool:
        """True when all that is registered is in memory, so that an answer may cover more than one host."""
        return self._unread is None and not self.is_shared

    def take_lapsed(self) -> list[EidPrefix]:
        """With a shared registry: what expired in memory since the previous call, and may be alive elsewhere."""
        taken, self._lapsed = self._lapsed, []
        return taken

    def take_named(self) -> list[Arrival]:
        """Map-Registers of names accepted since the previous call, with a shared registry."""
        taken, self._named = self._named, []
        return taken

    def adopt_names(self, arrival: Arrival, now: float) -> None:
        """Take a Map-Register of names that another hub of a shared registry has accepted, nonce included."""
        try:
            site = self._site_of(arrival.payload)
            key = site.authenticate(arrival.payload)
            register = MapRegister.decode(arrival.payload)
            self.names.check(register, site)
        except (AuthenticationFailed, MalformedMessage):
            return  # its sites differ from ours, which is reported elsewhere
        if not self.names.has_newer(register):
            self._check_nonce(
                register, site, key, now, Committed(Prepared(arrival.payload, register, site, key, ()), False)
            )
            self.names.take_in(register, arrival.source, now)

    def forget(self, prefix: EidPrefix) -> None:
        """Remove it from memory without a notification: the shared registry still has it."""
        registration = self.registrations.get(prefix)
        if registration is None or registration.expires_at == float("inf"):
            return
        before = registration.parts
        registration.clear()
        self.registrations.remove(prefix)
        self._keep(registration, before)

    def adopt(self, prefix: EidPrefix, parts: tuple[bytes, ...], *, is_announced: bool = True) -> list[HubEffect]:
        """Take these parts of the shared registry, in monotonic seconds; none: the prefix is not registered.

        `is_announced`: other nodes that asked need no notification by us, as in `RegistrationChanged`.
        """
        registration = self.registrations.get(prefix)
        if registration is None:
            found = self.sites.of(prefix)
            if not parts or found is None or not found[1].accepts(prefix):
                return []
            registration = Registration(prefix)
        before, record = registration.parts, registration.record
        if any(packed_part.expires_at(part) == float("inf") for part in before):
            return []  # an EID of this machine itself
        registration.restore(parts)
        if not parts:
            self.registrations.remove(prefix)
        elif not before:
            self.registrations.insert(prefix, registration)
        self._keep(registration, before)
        if registration.record == record and is_announced:
            return []
        return [RegistrationChanged(prefix, registration.record, is_announced=is_announced, is_stored=True)]

    def prepare(self, arrival: Arrival, now: float) -> Prepared | None:
        """The question of a Map-Register to a shared registry; None for one that will be refused, or that has names."""
        try:
            site = self._site_of(arrival.payload)
            key = site.authenticate(arrival.payload)
            register = MapRegister.decode(arrival.payload)
            if any(isinstance(record.eid, DistinguishedName) for record in register.records):
                return None
            self._check(register, site, key)
            parts = self._parts(register, arrival, site, key, now)
        except (AuthenticationFailed, MalformedMessage):
            return None
        owners = tuple(dict.fromkeys(map(owner_of, (key, *site.keys))))
        must_grow = self._must_grow(register, site)
        puts = tuple(Put(registration.prefix, part, owners, must_grow) for registration, part in parts)
        return Prepared(arrival.payload, register, site, key, puts)

    def on_committed(self, committed: Committed | None) -> None:
        """Take the shared registry's decision about the Map-Register given to `on_map_register` next."""
        self._committed = committed

    def read(self, asked: EidPrefix, now: float) -> list[HubEffect]:
        """Load into memory what is registered for an EID-Prefix, or for one that covers it."""
        if self._unread is None or asked in self._met or self.sites.of(asked) is None:
            return []
        found = [row for row in self._unread.registrations(asked) if row[0] not in self._met]
        effects = self.restore(found, now)
        self._met |= {asked, *(prefix for prefix, _ in found)}
        return effects

    def _owner(self, stored: str) -> str:
        """The owner of nonces: state files of version 1 have a site and a key-id where a key is named now."""
        if " " not in stored:
            return stored
        return self.old_owners.get(stored, stored)

    @property
    def old_owners(self) -> dict[str, str]:
        """The names of the keys in state files of version 1, and their names now."""
        if self._old_owners is None:
            pairs = ((site, key) for site in self.sites for key in site.keys)
            self._old_owners = {old_owner(site.name, key.key_id): owner_of(key) for site, key in pairs}
        return self._old_owners

    def restore(self, rows: Iterable[tuple[EidPrefix, tuple[bytes, ...]]], now: float) -> list[HubEffect]:
        """Restore registrations from before a restart, as far as the sites still allow them.

        A refresh is stored with its nonce only: the registration was heard when its nonce was.
        """
        effects: list[HubEffect] = []
        site, owners = None, set[str]()
        for prefix, parts in rows:
            if prefix in self._met or prefix in self.registrations:
                continue  # registered again since
            found = self.sites.of(prefix)
            alive: list[bytes] = []
            is_allowed = found is not None and found[1].accepts(prefix)
            if found is not None and is_allowed:
                if found[1] is not site:
                    site, owners = found[1], {owner_of(key) for key in found[1].keys}
                alive = [one for part in parts if (one := self._refreshed(part, prefix, owners, now)) is not None]
            if not alive:
                # for the store: it is removed, although an entry that expired while the hub was off may be back within
                # a minute
                effects.append(RegistrationChanged(prefix, None, is_announced=is_allowed))
                continue
            registration = Registration(prefix)
            registration.restore(alive)
            self.registrations.insert(prefix, registration)
            self._keep(registration, ())
            if self.is_watched:
                effects.append(RegistrationChanged(prefix, registration.record, is_announced=True, is_stored=True))
        return effects

    def _refreshed(self, part: bytes, prefix: EidPrefix, owners: set[str], now: float) -> bytes | None:
        """The part as of the last refresh; None when it has expired since."""
        name = packed_part.nonce_name(part, prefix)
        self._nonces.read(owners, [name])
        heard_at = self._nonces.heard_at(owners, name)
        if heard_at > packed_part.registered_at(part):
            part = packed_part.shifted(part, 0.0, heard_at, now=now)
        return part if packed_part.expires_at(part) > now else None

    @property
    def has_new_nonces(self) -> bool:
        """True when there is something for `take_new_nonces`."""
        return self._nonces.has_new

    def take_new_nonces(self) -> NonceChanges:
        """The last nonces seen since the previous call, for the store."""
        return self._nonces.take_new()

    def on_map_register(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """Handle a Map-Register: check its MAC and its content, then store and acknowledge it.

        The MAC comes first: before it only the first EID is read, to find the key. One wrong record makes the whole
        message invalid.
        """
        committed = self._committed
        if committed is not None and committed.prepared.payload != arrival.payload:
            committed = None
        try:
            site = committed.prepared.site if committed is not None else self._site_of(arrival.payload)
            key = committed.prepared.key if committed is not None else site.authenticate(arrival.payload)
        except AuthenticationFailed as error:
            return self._refuse("rx_auth", "auth-failed", arrival, str(error), now)
        except MalformedMessage as error:
            return self._refuse(error.counter, "refused", arrival, error.why, now)
        try:
            register = committed.prepared.register if committed is not None else MapRegister.decode(arrival.payload)
            if any(isinstance(record.eid, DistinguishedName) for record in register.records):
                return self._on_names(register, arrival, site, key, now)
            effects: list[HubEffect] = []
            if self._unread is not None:
                prefixes = [prefix for record in register.records if (prefix := record.eid_prefix) is not None]
                effects += [effect for prefix in prefixes for effect in self.read(prefix, now)]
            self._check(register, site, key)
            self._check_nonce(register, site, key, now, committed)
            parts = self._parts(register, arrival, site, key, now)
        except OldNonce as error:
            if is_overtaken(register, arrival.source, self.registrations, now):
                self.counters["rx_overtaken"] += 1
                return [self._notify(register, register.records, arrival, key)] if register.want_map_notify else []
            answered = self._on_old_nonce(register, arrival, site, key, now)
            return answered or self._refuse_proved(error, site, arrival, now)
        except MalformedMessage as error:
            return self._refuse_proved(error, site, arrival, now)
        self.counters["rx_map_register"] += 1
        records: list[MappingRecord] = []
        for registration, part in parts:
            record = part.record
            if not registration.is_held_by(part) and (holder := self._claims.holder(registration, part, now)):
                self.counters["rx_duplicate"] += 1
                effects += self._claims.refuse(part, holder, now, arrival.relayed_from)
                records.append(self._claims.denied(record, holder) if record.ttl_min else record)
                continue
            effects += self._take_in(registration, part, register)
            records.append(self._merged(record) if register.wants_merge else record)
            records[-1] = self._claims.with_rival(records[-1], part, now, arrival.relayed_from)
        if register.want_map_notify:
            effects.insert(0, self._notify(register, tuple(records), arrival, key))
        return effects

    def _site_of(self, raw: bytes) -> Site:
        """The site of the first EID; the message is not authenticated yet, so this reads as little as it can."""
        if len(raw) < FIXED_OCTETS:
            raise MalformedMessage("rx_short", "a Map-Register of less than 16 octets")
        if len(raw) > REGISTER_LIMIT:
            raise MalformedMessage("rx_limit", f"a Map-Register of {len(raw)} octets")
        reader = Reader(raw, start=FIXED_OCTETS)
        reader.take_bytes(int.from_bytes(raw[14:16]))
        mask_len = reader.take_bytes(10)[5]
        _refuse_nesting(raw[reader.position : reader.position + _LCAF_OCTETS])
        eid = take_eid(reader, mask_len)
        if isinstance(eid, DistinguishedName):
            return self._site_of_name(eid)
        prefix = to_prefix(eid, mask_len)
        found = self.sites.of(prefix) if prefix else None
        if found is None:
            raise MalformedMessage("rx_policy", f"{prefix or 'an EID that is no IP prefix'} is in no site")
        return found[1]

    def _site_of_name(self, eid: DistinguishedName) -> Site:
        site = self.names.site_of(eid)
        if site is None:
            raise MalformedMessage("rx_policy", f"the name {str(eid)[:64]} is in the 'names' of no site")
        return site

    def _on_names(self, register: MapRegister, arrival: Arrival, site: Site, key: Key, now: float) -> list[HubEffect]:
        """Handle a Map-Register of names, which come in messages without prefixes. Raises MalformedMessage."""
        self.names.check(register, site)
        self._check_nonce(register, site, key, now)
        self.counters["rx_map_register"] += 1
        events, records = self.names.take_in(register, arrival.source, now)
        self.counters.update(f"registration_{event.kind}" for event in events)
        if self.is_shared:
            self._named.append(arrival)
        told = [self._notify(register, records, arrival, key)] if register.want_map_notify else []
        return [*told, *events]

    def _check(self, register: MapRegister, site: Site, key: Key) -> None:
        """Raise unless every record may be registered with this key."""
        for record in register.records:
            prefix = record.eid_prefix
            found = self.sites.of(prefix) if prefix else None
            if prefix is None or found is None or not found[1].accepts(prefix) or key not in found[1].keys:
                raise MalformedMessage("rx_policy", f"site {site.name} may not register {prefix}")

    def _must_grow(self, register: MapRegister, site: Site) -> bool | None:
        is_named = register.xtr_id is not None and any(register.xtr_id)
        if site.strict_nonces is None and register.wants_merge and not is_named:
            return False  # several xTRs, each with its own counter, that cannot be told apart
        return site.strict_nonces

    def _check_nonce(
        self, register: MapRegister, site: Site, key: Key, now: float, committed: Committed | None = None
    ) -> None:
        """Raise unless the nonce of a counting xTR is new. With a shared registry it has been checked already."""
        must_grow = self._must_grow(register, site) if committed is None else False
        try:
            is_new = (committed is None or not committed.is_old) and self._nonces.accepts(
                register, key, now, must_grow=must_grow, others=site.keys, limit=site.nonce_limit
            )
        except TooManyXtrs:
            if committed is not None:
                return  # the registry remembers it
            raise MalformedMessage("rx_limit", f"site {site.name} has more xTRs than may be remembered") from None
        if not is_new:
            eids = ", ".join(str(record.eid_prefix or record.eid) for record in register.records[:3])
            why = f"site {site.name}: the nonce did not grow for {eids}: delayed, or replayed; {LENIENT}"
            raise OldNonce("rx_replay", why)

    def _on_old_nonce(
        self, register: MapRegister, arrival: Arrival, site: Site, key: Key, now: float
    ) -> list[HubEffect]:
        """Ignore it, but notify a second machine with the same xTR-ID, once it is known."""
        effects: list[HubEffect] = []
        records: list[MappingRecord] = []
        for record in register.records:
            prefix = record.eid_prefix
            registration = self.registrations.get(prefix) if prefix is not None else None
            part = XtrRegistration.of(register, record, arrival.source, now, site.keys.index(key))
            nat = arrival.relayed_from
            known_at = (
                self._seen_at(prefix, part.xtr, arrival.source) if prefix is not None and nat is not None else None
            )
            is_elsewhere = known_at is not None and known_at != nat
            original = self._claims.original(registration or (), part, now, is_elsewhere=is_elsewhere)
            if original is not None:
                effects += self._claims.refuse(part, original, now, nat)
                records.append(self._claims.denied(record, original))
        if not records or len(records) < len(register.records):
            return []
        self.counters["rx_duplicate"] += 1
        return [self._notify(register, tuple(records), arrival, key), *effects] if register.want_map_notify else effects

    def _parts(
        self, register: MapRegister, arrival: Arrival, site: Site, key: Key, now: float
    ) -> list[tuple[Registration, XtrRegistration]]:
        parts = []
        fresh: set[EidPrefix] = set()
        octets = 0
        for record in register.records:
            prefix = record.eid_prefix
            assert prefix is not None, record
            part = XtrRegistration.of(register, record, arrival.source, now, site.keys.index(key))
            registration = self.registrations.get(prefix) or Registration(prefix)
            if record.ttl_min and not registration.has_room_for(part):
                raise MalformedMessage("rx_limit", f"too many xTRs to merge for {prefix}")
            if record.ttl_min:
                octets += part.octets - registration.octets_of(part)
                if registration.is_empty:
                    fresh.add(prefix)
            parts.append((registration, part))
        if (fresh or octets > 0) and (why := self._usage.why_full(site, len(fresh), octets)) is not None:
            raise MalformedMessage("rx_limit", why)
        return parts

    def _take_in(self, registration: Registration, part: XtrRegistration, register: MapRegister) -> list[HubEffect]:
        before = registration.parts
        if part.record.ttl_min == 0:
            has_changed = registration.withdraw(part.xtr, wants_merge=register.wants_merge)
            effects = self._report(registration, has_changed, "withdrawn") if before else []
            self._keep(registration, before)
            return effects
        goes_on = bool(before) and (registration.goes_on_with(part) or is_sibling(registration, part))
        former = registration.part_of(part.xtr)
        has_changed = registration.put(part) or not goes_on
        is_stored = former is not None and packed_part.is_refresh(registration.part_of(part.xtr) or b"", former)
        if not before:
            self.registrations.insert(registration.prefix, registration)
        self._keep(registration, before)
        if not has_changed:
            record = registration.record if register.wants_merge else part.record
            return [RegistrationChanged(registration.prefix, record, is_refresh=True, is_stored=is_stored)]
        if not goes_on:
            return self._report(registration, True, "registered")
        kind = "moved" if has_moved(registration.parts, before) else "changed"
        return self._report(registration, True, kind, is_announced=True)

    def _notify(
        self, register: MapRegister, records: tuple[MappingRecord, ...], arrival: Arrival, key: Key
    ) -> SendControl:
        """The acknowledgement: same nonce, key, algorithm and digest length as the Map-Register.

        That we keep key records is only said to nodes with LISP-SEC, since a key has no meaning without it.
        """
        is_truncated = len(register.authentication) < key.full_octets
        if (register.key_id, is_truncated) != (key.key_id, key.is_truncated):
            key = dataclasses.replace(key, key_id=register.key_id, is_truncated=is_truncated)
        notify = MapNotify(
            nonce=register.nonce,
            records=records,
            xtr_id=register.xtr_id,
            site_id=register.site_id,
            keeps_keys=register.has_lisp_sec,
        )
        self.counters["tx_map_notify"] += 1
        return SendControl(sign(notify, key), arrival.source, arrival.source_port, source=arrival.destination)

    def _merged(self, record: MappingRecord) -> MappingRecord:
        registration = self.registrations.get(record.eid_prefix) if record.eid_prefix else None
        if registration is None or registration.record is None:
            return record
        return replace(record, locators=registration.record.locators)

    def _report(
        self, registration: Registration, has_changed: bool, kind: str, *, is_announced: bool = False
    ) -> list[HubEffect]:
        """Report the result for a prefix: another mapping, none, or the same one with a longer lifetime.

        `kind`: of a node at the same addresses, with other priorities, weights or keys, it is "changed".
        """
        record, prefix = registration.record, registration.prefix
        if registration.is_empty:
            self.registrations.remove(prefix)
        elif not has_changed:
            return [RegistrationChanged(prefix, record, is_refresh=True)]
        elif kind not in ("registered", "changed"):
            kind = "moved"
        self.counters[f"registration_{kind}"] += 1
        rlocs = [str(locator.address) for locator in without_key_record(record).locators] if record else []
        found = self.sites.of(prefix)
        site = found[1].name if found else None
        changed = RegistrationChanged(prefix, record, is_announced=is_announced)
        return [changed, Event(kind, {"eid": str(prefix), "site": site, "rlocs": rlocs})]

    def _registration(self, prefix: EidPrefix) -> Registration:
        registration = self.registrations.get(prefix)
        if registration is None:
            registration = Registration(prefix)
            self.registrations.insert(prefix, registration)
        return registration

    def _keep(self, registration: Registration, before: tuple[bytes, ...], *, is_same_site: bool = True) -> None:
        """Store the changed registration: account it to its site, index its addresses, and schedule its expiry.

        A refresh changes no schedule: at the old time it is found alive.
        """
        parts = registration.parts
        if not is_same_site or not is_at_same_places(parts, before):
            found = self.sites.of(registration.prefix)
            self._usage.charge(registration, found[1] if found else None, sum(map(packed_part.record_octets, parts)))
            if before:
                self._addresses.remove(addresses_of(before))
            if parts:
                self._addresses.add(addresses_of(parts))
        if registration.is_empty:
            self._due.discard(registration.prefix, registration.due)
            registration.due = None
            return
        at = registration.expires_at
        if at == float("inf"):
            return
        if registration.due is None or self._due.number(at) < registration.due:
            self._due.discard(registration.prefix, registration.due)
            registration.due = self._due.add(registration.prefix, at)

    def _refuse(self, counter: str, kind: str, arrival: Arrival, why: str, now: float) -> list[HubEffect]:
        """Refuse an unauthenticated sender. Reports are limited: one sender may use many addresses."""
        self.counters[counter] += 1
        return self.complain(kind, arrival.source, why, now)

    def complain(self, kind: str, source: IpAddress, why: str, now: float) -> list[HubEffect]:
        """A log line about an unauthenticated sender, at a limited rate; each reason has its own limit.

        So a fault that has been mended does not hide the next one.
        """
        reason = source, why
        if self._complaints.available_at(reason, now) > now or not self._complaints_in_all.take(now):
            return []
        self._complaints.take(reason, now)
        return [Event(kind, {"source": str(source), "why": why})]

    def _refuse_proved(self, error: MalformedMessage, site: Site, arrival: Arrival, now: float) -> list[HubEffect]:
        """Refuse a sender that has the key: messages of others cannot suppress its log lines."""
        self.counters[error.counter] += 1
        if not self._proved_complaints.take((site.name, error.counter), now):
            return []
        return [Event("refused", {"source": str(arrival.source), "site": site.name, "why": error.why})]


def _refuse_nesting(head: bytes) -> None:
    """Accept an address, or one in an Instance-ID (RFC 8060, 4.1). Other LCAFs may hold thousands of addresses."""
    if int.from_bytes(head[:2]) == Afi.LCAF and (head[4:5] != _INSTANCE_ID or int.from_bytes(head[6:8]) > _EID_OCTETS):
        raise MalformedMessage("rx_policy", "an EID that is no IP prefix, with an Instance-ID or without")
