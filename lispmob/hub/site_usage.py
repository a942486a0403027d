"""How much of the Map-Server each site takes, so that none can take what is others'. Pure."""

from __future__ import annotations

from collections import Counter

from lispmob.hub.registration import Registration
from lispmob.hub.site import Site
from lispmob.wire.address import EidPrefix


class SiteUsage:
    """The EID-Prefixes and the octets of their records that every site has registered."""

    def __init__(self) -> None:
        self._held: dict[EidPrefix, tuple[str, int]] = {}
        self._prefixes: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()

    def set(self, registration: Registration, site: Site | None) -> None:
        """The registration is as it is now, and this site's; one that is empty or nobody's counts for none."""
        held = self._held.pop(registration.prefix, None)
        if held is not None:
            name, octets = held
            self._prefixes[name] -= 1
            self._octets[name] -= octets
        if site is not None and not registration.is_empty:
            self._held[registration.prefix] = site.name, registration.octets
            self._prefixes[site.name] += 1
            self._octets[site.name] += registration.octets

    def why_full(self, site: Site, prefixes: int, octets: int) -> str | None:
        """Why the site may not have so many more; None when it may."""
        if self._prefixes[site.name] + prefixes > site.prefix_limit:
            return f"site {site.name} has {site.prefix_limit} EID-Prefixes registered, which is its max-prefixes"
        if self._octets[site.name] + octets > site.octets_limit:
            return f"the records of site {site.name} would take more than {site.octets_limit} octets"
        return None
