"""lispd.conf: the section `names`, for the names of hosts."""

from __future__ import annotations

import re
from typing import Annotated, Final

from lispmob.config.reader import Section
from lispmob.config.values import plain, whole

PORT: Final = 5399  # ours: resolved and dnsmasq take any port, and 53 needs a capability that the service has not
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def _domain(text: str) -> str:
    folded = text.lower().rstrip(".")
    if folded and (len(folded) > 190 or re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", folded) is None):
        raise ValueError
    return folded


class NamesSection(Section, frozen=True, kw_only=True):
    """Names of hosts for all programs: the domain that lispd answers DNS for, at its EIDs; none: it answers nothing."""

    domain: Annotated[str, plain(_domain, "a domain such as lisp.home.arpa, or nothing")] = ""
    port: Annotated[int, whole(1, 65535)] = PORT
