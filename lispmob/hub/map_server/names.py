"""Names of the sites (RFC 9735): which site may register a name, and the EIDs of the host it stands for. Pure.

A name is registered like an EID-Prefix, in a separate Map-Register, and its locators are EIDs of the same site. So a
site can point a name only at itself, and a node that looks a name up continues as with an address.

A site's name that is not registered stands for the EIDs that the site has as whole addresses: the name of a laptop
needs only its line in hub.conf, and is known while the laptop sleeps. A reverse name (RFC 1035, 3.5; RFC 3596, 2.5)
leads to the names of the site that has this EID; those are names as EIDs too.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.answering import TTL_NOT_LISP_MIN, TTL_NOT_REGISTERED_MIN
from lispmob.hub.map_server.claims import holder_of
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.site import ANY_NAME, Site, SiteTable
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Event
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.map_register import MapRegister
from lispmob.wire.name_eid import EIDS_OF_NAME, may_be_mask_len, name_mask_len, name_of, name_record
from lispmob.wire.record import Action, Locator, MappingRecord

TTL_NAMED_MIN: Final = 10  # ours: of names in hub.conf; askers are notified of changes
_PATTERN: Final = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def read_pattern(text: str) -> str:
    """A name, or "*." and a name: all that end in it. In lower case. Raises ValueError."""
    if _PATTERN.fullmatch(text) is None:
        raise ValueError
    return text.lower()


def label_of(text: str) -> str | None:
    """The name of a site as the name of its host, where it is a valid DNS label."""
    return text.lower() if _LABEL.fullmatch(text) else None


def overlap(one: str, other: str) -> bool:
    """True when a name fits both patterns."""
    if one.startswith(ANY_NAME) and other.startswith(ANY_NAME):
        return one[1:].endswith(other[1:]) or other[1:].endswith(one[1:])
    if other.startswith(ANY_NAME):
        one, other = other, one
    return one == other or (one.startswith(ANY_NAME) and other.endswith(one[1:]) and len(other) > len(one) - 1)


def reversed_address(name: bytes) -> IpAddress | None:
    """The address that a folded reverse name stands for, such as 2.0.99.10.in-addr.arpa; None for any other name."""
    labels = name.decode("ascii", "replace").split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return IPv4Address(".".join(labels[3::-1]))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(label) == 1 for label in labels[:32]):
            return IPv6Address(bytes.fromhex("".join(labels[31::-1])))
    except ValueError:
        return None
    return None


def _is_whole(prefix: EidPrefix) -> bool:
    return prefix.mask_len == prefix.width and not prefix.instance_id


def _eids_of(name: bytes, site: Site) -> list[IpAddress]:
    """The EIDs of a site's name that is not registered."""
    is_exact = name.decode("ascii") in site.names
    return [prefix.address for prefix in site.eids if _is_whole(prefix)] if is_exact else []


def _leads_to(record: MappingRecord, address: IpAddress) -> bool:
    return any(locator.address == address for locator in record.locators)


class NameTable:
    """The site of each name."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._exact: dict[bytes, Site] = {}
        self._endings: dict[bytes, Site] = {}
        for site in sites:
            for pattern in site.names:
                if pattern.startswith(ANY_NAME):
                    self._endings[pattern[1:].encode()] = site
                else:
                    self._exact[pattern.encode()] = site

    def of(self, name: bytes | None) -> Site | None:
        """The site that may register a folded name."""
        if name is None or name in self._exact:
            return None if name is None else self._exact[name]
        dots = [at for at, octet in enumerate(name) if octet == ord(".") and at]
        return next((self._endings[name[at:]] for at in dots if name[at:] in self._endings), None)


class Names:
    """The registered names: soft state, as with EID-Prefixes. It is not kept over a restart."""

    def __init__(self, sites: SiteTable) -> None:
        self._sites, self._table = sites, NameTable(sites)
        self.version = 0  # grows whenever the answer for a name may change
        self._held: dict[bytes, XtrRegistration] = {}
        self._due: Agenda[bytes] = Agenda()
        self._site_names: dict[bytes, str] = {}  # of the registered names
        self._of_site: Counter[str] = Counter()

    def __iter__(self) -> Iterator[XtrRegistration]:
        return iter(self._held.values())

    def wake_at(self) -> float | None:
        """When the next registration may run out."""
        return self._due.first()

    def on_timer(self, now: float) -> list[Event]:
        """Remove expired names; those refreshed meanwhile are due later."""
        events = []
        for name in self._due.due(now):
            part = self._held[name]
            if part.expires_at > now:
                self._due.set(name, part.expires_at)
            else:
                events.append(self._forget(name, "expired"))
        return events

    def on_sites(self, sites: SiteTable) -> list[Event]:
        """Take the configured sites: names that are no longer allowed are removed."""
        self._sites, self._table = sites, NameTable(sites)
        self.version += 1
        owners = {name: self._table.of(name) for name in self._held}
        gone = [name for name, site in owners.items() if site is None or site.name != self._site_names[name]]
        return [self._forget(name, "withdrawn") for name in gone]

    def site_of(self, eid: DistinguishedName) -> Site | None:
        """The site whose key has to register this name."""
        return self._table.of(name_of(eid))

    def answer(self, eid: DistinguishedName) -> MappingRecord:
        """The answer to a Map-Request for a name: the name, or the longest registered name that it begins with.

        The latter follows RFC 9735, 5: the asker compares them, and so learns that the longer name does not exist.
        """
        name, mask_len = name_of(eid), name_mask_len(eid.name)
        held = self._held.get(name) if name is not None else None
        if held is not None:
            return replace(held.record, eid=eid, mask_len=mask_len, is_authoritative=False)
        site = self._table.of(name)
        if name is not None and (address := reversed_address(name)) is not None:
            named = tuple(Locator(DistinguishedName(found)) for found in self.names_of(address)[:EIDS_OF_NAME])
            if named:
                return MappingRecord(eid, mask_len, named, TTL_NAMED_MIN)
        elif name is not None and site is not None and (eids := _eids_of(name, site)):
            return replace(name_record(name, eids, ttl_min=TTL_NAMED_MIN), eid=eid)
        if name is not None and (shorter := self._longest_in(name)) is not None:
            return replace(
                shorter.record, mask_len=name_mask_len(name_of(shorter.record.eid) or b""), is_authoritative=False
            )
        ttl_min = TTL_NOT_LISP_MIN if site is None else TTL_NOT_REGISTERED_MIN
        return MappingRecord(eid, mask_len, (), ttl_min, Action.NATIVELY_FORWARD)

    def _longest_in(self, name: bytes) -> XtrRegistration | None:
        """The registration of the longest name that is a prefix of this one."""
        shorter = (name[:octets] for octets in range(len(name) - 1, 0, -1))
        return next((self._held[each] for each in shorter if each in self._held), None)

    def names_of(self, address: IpAddress) -> list[bytes]:
        """The names of a host's EID: those registered with it, else those of the site that consists of it alone."""
        found = self._sites.of(EidPrefix.host(address))
        if found is None:
            return []
        configured, site = found
        exact = [name.encode() for name in site.names if not name.startswith(ANY_NAME)]
        held = [name for name in exact if name in self._held and _leads_to(self._held[name].record, address)]
        return held or ([name for name in exact if name not in self._held] if _is_whole(configured) else [])

    def check(self, register: MapRegister, site: Site) -> None:
        """Raise MalformedMessage unless the site may register all of this."""
        fresh = 0
        for record in register.records:
            eid = record.eid
            if not isinstance(eid, DistinguishedName):
                raise MalformedMessage("rx_policy", "names and addresses in one Map-Register")
            if not may_be_mask_len(eid.name, record.mask_len):
                raise MalformedMessage("rx_policy", f"the name {eid} with a mask length of {record.mask_len}")
            if self.site_of(eid) is not site:
                raise MalformedMessage("rx_policy", f"site {site.name} may not register the name {eid}")
            if len(record.locators) > EIDS_OF_NAME:
                raise MalformedMessage("rx_limit", f"{len(record.locators)} EIDs for the name {eid}")
            for locator in record.locators:
                if not self._is_eid_of(locator.address, site):
                    raise MalformedMessage(
                        "rx_policy", f"the name {eid} leads to {locator.address}, no EID of its site"
                    )
            fresh += name_of(eid) not in self._held
        if self._of_site[site.name] + fresh > site.name_limit:
            raise MalformedMessage("rx_limit", f"site {site.name} has {site.name_limit} names already")

    def has_newer(self, register: MapRegister) -> bool:
        """True when the same xTR has registered one of these names later."""
        for record in register.records:
            name = name_of(record.eid)
            held = self._held.get(name) if name is not None else None
            if held is not None and held.xtr_id == register.xtr_id and held.nonce >= register.nonce:
                return True
        return False

    def take_in(
        self, register: MapRegister, source: IpAddress, now: float
    ) -> tuple[list[Event], tuple[MappingRecord, ...]]:
        """Store a checked registration; returns the events, and the records of the acknowledgement.

        The first host that registers a name keeps it while it refreshes: others get a denial.
        """
        events: list[Event] = []
        said: list[MappingRecord] = []
        for record in register.records:
            name = name_of(record.eid)
            assert name is not None, "checked before"
            part = XtrRegistration.of(register, record, source, now)
            held = self._held.get(name)
            if held is not None and holder_of([held], part, now) is not None:
                said.append(replace(record, locators=(), action=Action.DROP_POLICY_DENIED))
                continue
            said.append(record)
            if record.ttl_min == 0:
                events += [self._forget(name, "withdrawn")] if held is not None else []
                continue
            events += self._put(name, part, held)
        return events, tuple(said)

    def _put(self, name: bytes, part: XtrRegistration, held: XtrRegistration | None) -> list[Event]:
        if held is not None:
            part = dataclasses.replace(part, interval_s=part.registered_at - held.registered_at)
        self._held[name] = part
        if held is None:
            site = self._table.of(name)
            assert site is not None, "checked before"
            self._site_names[name] = site.name
            self._of_site[site.name] += 1
            self._due.set(name, part.expires_at)
            self.version += 1
            return [self._event("registered", name, part)]
        is_same = held.record.locators == part.record.locators
        self.version += not is_same
        return [] if is_same else [self._event("moved", name, part)]

    def _forget(self, name: bytes, why: str) -> Event:
        event = self._event(why, name, None)
        self.version += 1
        del self._held[name]
        self._due.set(name, None)
        self._of_site[self._site_names.pop(name)] -= 1
        return event

    def _event(self, kind: str, name: bytes, part: XtrRegistration | None) -> Event:
        eids = [str(locator.address) for locator in part.record.locators] if part is not None else []
        return Event(kind, {"eid": f"name {name.decode('ascii')}", "site": self._site_names[name], "rlocs": eids})

    def _is_eid_of(self, address: object, site: Site) -> bool:
        if not isinstance(address, IpAddress):
            return False
        found = self._sites.of(EidPrefix.host(address))
        return found is not None and found[1] is site
