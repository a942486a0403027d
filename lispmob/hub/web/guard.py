"""Decides which requests may see the page: those with the token, from the page itself, for a name it has. Pure.

The token comes once in the address, and is a cookie from then on. Another site's page in the same browser does not send
that cookie (SameSite=Strict), and could not read the answer; its request is refused by the headers that browsers add
(Origin, Sec-Fetch-Site). The requested name (Host) has to be one that the page is served under: another name that its
owner points to this address is refused.
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
"""In every answer: load and show nothing of other sites, allow no framing, and cache nothing."""


class Guard:
    """`hosts`: the allowed values of the header Host, port included."""

    def __init__(self, token: str, hosts: frozenset[str]) -> None:
        self._token = token.encode()
        self._hosts = hosts

    def why_refused(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused whatever token it has; None: it is allowed."""
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
        """True for the right token; the comparison takes constant time."""
        return text is not None and hmac.compare_digest(text.encode("utf-8", "replace"), self._token)


def hosts_of(address: str, port: int, more: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names that the page is served under at an address; `more`: names of a proxy before it, unchanged."""
    names = {f"[{address}]" if ":" in address else address}
    if address in ("127.0.0.1", "::1"):
        names.add("localhost")
    own = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
    return frozenset(own | {name.lower() for name in more})
