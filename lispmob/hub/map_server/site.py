"""Sites: who may register which EID-Prefixes, and how that is authenticated (RFC 9301, section 8.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final

import msgspec

from lispmob.errors import AuthenticationFailed
from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.protocol.servers import ResolverSecret
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, verify
from lispmob.wire.lisp_sec_auth import resolver_secret

MAX_PREFIXES: Final = 16384  # ours: 30 MB of memory
OCTETS_PER_PREFIX: Final = 512  # ours: a dozen locators
LEAST_OCTETS: Final = 65536  # ours: 16 xTRs that share one prefix, with many locators each
NONCES_PER_PREFIX: Final = 4  # ours: two rows of its own, and two xTRs
LEAST_NONCES: Final = 64
NAMES_PER_SITE: Final = 256  # ours: registered at once, for a site whose names have a "*"
ANY_NAME: Final = "*."

_AUTH_OFFSET: Final = 12  # Map-Register: key id, algorithm id, authentication length (RFC 9301, 5.6)


class ProxyReply(Enum):
    """Which party answers Map-Requests for a registered EID: this Map-Server, or the ETR itself."""

    AS_REGISTERED = "as-registered"
    ALWAYS = "always"
    NEVER = "never"


class Site(msgspec.Struct, frozen=True):
    """The EID-Prefixes of one customer, laptop or phone, and the keys that may register them.

    Several keys make a roll-over possible: every one of them is accepted. The same secret under two algorithms is two
    keys. `strict_nonces` refuses a Map-Register whose nonce is not greater than the last one. Some deployed nodes have
    random or constant nonces: None requires it only of nodes that have been seen to count, False of none.
    `max_prefixes` bounds what may be registered at once where more specifics may be.
    """

    name: str
    eids: tuple[EidPrefix, ...]
    keys: tuple[Key, ...]
    accept_more_specifics: bool = False
    proxy_reply: ProxyReply = ProxyReply.AS_REGISTERED
    strict_nonces: bool | None = True
    max_prefixes: int = MAX_PREFIXES
    resolver_keys: tuple[ResolverSecret, ...] = ()
    """The secrets with which its nodes wrap One-Time-Keys (LISP-SEC); empty: derived from `keys`."""

    @property
    def resolver_secrets(self) -> tuple[ResolverSecret, ...]:
        """The secrets for this site's Map-Requests with LISP-SEC."""
        derived = (ResolverSecret(resolver_secret(key.secret), key.key_id) for key in self.keys)
        return self.resolver_keys or tuple(dict.fromkeys(derived))

    names: tuple[str, ...] = ()
    """Names that its nodes may register, in lower case; "*.nas" is every name that ends in ".nas"."""

    @property
    def prefix_limit(self) -> int:
        """How many EID-Prefixes may be registered at once."""
        return self.max_prefixes if self.accept_more_specifics else len(self.eids)

    @property
    def name_limit(self) -> int:
        """How many names may be registered at once."""
        return NAMES_PER_SITE if any(name.startswith(ANY_NAME) for name in self.names) else len(self.names)

    @property
    def octets_limit(self) -> int:
        """The total length allowed for its registered records."""
        return max(LEAST_OCTETS, OCTETS_PER_PREFIX * self.prefix_limit)

    @property
    def nonce_limit(self) -> int:
        """How many xTRs and EID-Prefixes may have a stored nonce."""
        return LEAST_NONCES + NONCES_PER_PREFIX * (self.prefix_limit + self.name_limit)

    def accepts(self, prefix: EidPrefix) -> bool:
        """True when the site may register this prefix."""
        if self.accept_more_specifics:
            return any(eid.covers(prefix) for eid in self.eids)
        return prefix in self.eids

    def authenticate(self, raw: bytes) -> Key:
        """The key of this site that made the message's MAC. AuthenticationFailed if there is none.

        Reads only the fixed part, so it is safe on unauthenticated octets.
        """
        key_id, algorithm = raw[_AUTH_OFFSET], raw[_AUTH_OFFSET + 1]
        why = f"no key with key-id {key_id} and algorithm {algorithm}"
        if not self.keys:
            why = "its invitation is not redeemed, so no node has a key for it"
        for key in self.keys:
            if key.algorithm != algorithm:
                continue
            try:
                verify(raw, key)
            except AuthenticationFailed as error:
                why = str(error)
            else:
                return key
        raise AuthenticationFailed(f"site {self.name}: {why}")


class SiteTable:
    """All sites, searchable by EID, and the gaps between them."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._sites = tuple(sites)
        self._table: OrderedPrefixTable[Site] = OrderedPrefixTable()
        for site in self._sites:
            for eid in site.eids:
                self._table.insert(eid, site)

    @classmethod
    def made_of(cls, sites: Iterable[Site]) -> SiteTable:
        """The table of these sites, which may be one already: ten thousand sites are made outside the loop."""
        return sites if isinstance(sites, cls) else cls(sites)

    def __iter__(self) -> Iterator[Site]:
        """Every site."""
        return iter(self._sites)

    def of(self, prefix: EidPrefix) -> tuple[EidPrefix, Site] | None:
        """The most specific configured prefix that covers `prefix`, and its site."""
        found = self._table.covering(prefix)
        return found[0] if found else None

    def eids(self) -> tuple[EidPrefix, ...]:
        """Every configured EID-Prefix."""
        return tuple(prefix for prefix, _ in self._table)

    def below(self, prefix: EidPrefix, limit: int | None = None) -> tuple[EidPrefix, ...]:
        """The configured prefixes that are strictly more specific than this one, at most `limit` of them."""
        return tuple(eid for eid, _ in self._table.covered(prefix, limit))

    def gap(self, address: IpAddress, within: EidPrefix) -> EidPrefix:
        """The widest prefix in `within` that holds the address, and overlaps no configured prefix around it."""
        return self._table.gap(address, within)

    def hole(self, address: IpAddress, instance_id: int) -> EidPrefix:
        """The widest prefix around an address for which a negative answer is true (RFC 9301, section 8.4).

        Outside every site, it overlaps none. Inside a site, it stays in the site and overlaps no other configured
        prefix; if more specifics may be registered at any moment, it is the address alone.
        """
        inside = self._table.lookup(address, instance_id)
        if inside is None:
            return self.gap(address, EidPrefix.make(address, 0, instance_id))
        configured, site = inside
        if site.accept_more_specifics:
            return EidPrefix.host(address, instance_id)
        return self.gap(address, configured)
