"""The Map-Server's resources in use by each site, so that no site exhausts them. Pure."""

from __future__ import annotations

from collections import Counter

from lispmob.hub.map_server.registration import Registration
from lispmob.hub.map_server.site import Site


class SiteUsage:
    """The EID-Prefixes and the size of their records, for every site."""

    def __init__(self) -> None:
        self._prefixes: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()

    def charge(self, registration: Registration, site: Site | None, octets: int) -> None:
        """Charge the registration's present size to this site; None: to no site."""
        if registration.octets:
            self._prefixes[registration.site] -= 1
            self._octets[registration.site] -= registration.octets
        registration.site = site.name if site is not None else ""
        registration.octets = octets if site is not None else 0
        if registration.octets:
            self._prefixes[registration.site] += 1
            self._octets[registration.site] += registration.octets

    def why_full(self, site: Site, prefixes: int, octets: int) -> str | None:
        """Why the site may not have this many more; None if it may."""
        if self._prefixes[site.name] + prefixes > site.prefix_limit:
            return f"site {site.name} has {site.prefix_limit} EID-Prefixes registered, which is its max-prefixes"
        if self._octets[site.name] + octets > site.octets_limit:
            return f"the records of site {site.name} would take more than {site.octets_limit} octets"
        return None
