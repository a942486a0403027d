"""lispd.conf: the section `names`, for the names of hosts."""

from __future__ import annotations

import re
from typing import Annotated, Final

from lispmob.config.reader import Section
from lispmob.config.values import plain, whole

PORT: Final = 5399  # ours: resolved and dnsmasq take any port, and 53 needs a capability that the service has not
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


_ANSWERED_ALREADY: Final = frozenset({"localhost", "invalid", "onion"})


def read_domain(text: str) -> str:
    """A domain in lower case and without the dot at its end; "" for none. Raises ValueError."""
    folded = text.lower().rstrip(".")
    if folded and (len(folded) > 190 or re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", folded) is None):
        raise ValueError
    return folded


def why_odd(domain: str) -> str:
    """Why names in a domain would not be found, or by others; "" for a domain that is fit, and for none."""
    top = domain.rpartition(".")[2]
    if top == "local":
        return "names in .local are found by multicast (mDNS, RFC 6762), and many resolvers do not ask DNS for them"
    if top in _ANSWERED_ALREADY:
        return f"resolvers answer for .{top} themselves, without a question to a server (RFC 6761, RFC 7686)"
    if domain and "." not in domain:
        return "resolvers search a domain of one label for no name, and some send it to the root servers"
    return ""


class NamesSection(Section, frozen=True, kw_only=True):
    """Names of hosts for all programs: the domain that lispd answers DNS for, at its EIDs; none: it answers nothing."""

    domain: Annotated[str, plain(read_domain, "a domain such as lisp.home.arpa, or nothing")] = ""
    port: Annotated[int, whole(1, 65535)] = PORT
