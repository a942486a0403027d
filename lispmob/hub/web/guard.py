"""Who may see the page: who has the token, from the page itself, by the name that it is served under. Pure.

The token comes once in the address, and is a cookie from then on. The page of somebody else in the same browser does
not send that cookie (SameSite=Strict), and could not read the answer; that it asks at all is refused by what browsers
say about themselves (Origin, Sec-Fetch-Site). The name that is asked for (Host) has to be one that is served: any other
that leads to this address, made to do so by whoever owns that name, is refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

COOKIE: Final = "lisphub"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "lisphub",
}
"""Of every answer: nothing of others is loaded or shown, nobody shows this page in his, and nothing is kept."""


class Guard:
    """`hosts`: what may stand in the header Host, port included."""

    def __init__(self, token: str, hosts: frozenset[str]) -> None:
        self._token = token.encode()
        self._hosts = hosts

    def why_refused(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is none of this page's, whatever token it has; None: it may be."""
        host = headers.get("Host", "")
        if host.lower() not in self._hosts:
            return "the page is not served under this name"
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return "another page asks"
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "another page asks"
        return None

    def is_token(self, text: str | None) -> bool:
        """True for the right one; how long it takes to say so tells nothing about it."""
        return text is not None and hmac.compare_digest(text.encode("utf-8", "replace"), self._token)


def hosts_of(address: str, port: int, more: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names that the page is served under at an address; `more`: names of a proxy before it, as they are."""
    names = {f"[{address}]" if ":" in address else address}
    if address in ("127.0.0.1", "::1"):
        names.add("localhost")
    own = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
    return frozenset(own | {name.lower() for name in more})
