"""Makes lispd.conf from an invitation. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lispmob.joining.exchange import Joined, Settings
from lispmob.joining.invitation import Address

MARK: Final = re.compile(r"\A# lispd\.conf of .*, written by `lispctl join` on ")
_EIDS: Final = re.compile(r"^eids: \[.*\]$", re.MULTILINE)
_PREFIXES: Final = re.compile(r"^  overlay-prefixes: \[.*\]$", re.MULTILINE)
_DOMAIN: Final = re.compile(r"^names: \{domain: \"[^\"\n]*\"\}\n", re.MULTILINE)
_LISP_SEC: Final = re.compile(r"^security: \{lisp-sec: require\}\n", re.MULTILINE)
_SECTION: Final = "^{}:"  # a section the user wrote, which is kept
EXAMPLE_KEY: Final = re.compile(r"^[^#\n]*key: *CHANGE-ME\s*(#.*)?$", re.MULTILINE)


def node_text(joined: Joined, addresses: Sequence[Address], day: str, socket: Path | None = None) -> str:
    """The text of lispd.conf. The hub's values are quoted, since they are data of any form."""
    settings = joined.settings
    servers = "".join(
        f"  - address: {_quoted(str(address))}\n    key: {_quoted(joined.key.decode())}\n" for address in addresses
    )
    text = (
        f"# lispd.conf of {_word(settings.name)}, written by `lispctl join` on {day}.\n"
        "# What is not here has its default; man lispd.conf explains every key. After a change: lispctl reload\n"
        f"{_eids_line(settings)}\n"
        f"map-servers:\n{servers}"
        f"routing:\n{_prefixes_line(settings)}\n"
        f"{_domain_line(settings)}{_lisp_sec_line(settings)}"
    )
    if socket is not None:
        text += f"control: {{socket: {_quoted(str(socket))}}}\n"
    return text


def with_settings(text: str, settings: Settings) -> str | None:
    """The text with other settings and everything else kept; None for a file that `lispctl join` did not write."""
    if MARK.match(text) is None or len(_EIDS.findall(text)) != 1 or len(_PREFIXES.findall(text)) != 1:
        return None
    text = _EIDS.sub(lambda _: _eids_line(settings), text)
    text = _PREFIXES.sub(lambda _: _prefixes_line(settings), text)
    text = _with_line(text, "names", _DOMAIN, _domain_line(settings))
    return _with_line(text, "security", _LISP_SEC, _lisp_sec_line(settings))


def _with_line(text: str, section: str, ours: re.Pattern[str], line: str) -> str:
    """The text with our line replaced; a section that the user wrote is kept instead."""
    if ours.search(text) is not None:
        return ours.sub(lambda _: line, text, count=1)
    if re.search(_SECTION.format(section), text, re.MULTILINE) is not None:
        return text
    return _PREFIXES.sub(lambda prefixes: f"{prefixes[0]}\n{line}".rstrip("\n"), text, count=1)


def _domain_line(settings: Settings) -> str:
    return f"names: {{domain: {_quoted(settings.domain)}}}\n" if settings.domain else ""


def _lisp_sec_line(settings: Settings) -> str:
    return "security: {lisp-sec: require}\n" if settings.lisp_sec == "require" else ""


def _eids_line(settings: Settings) -> str:
    return f"eids: [{', '.join(map(_quoted, settings.eids))}]"


def _prefixes_line(settings: Settings) -> str:
    return f"  overlay-prefixes: [{', '.join(map(_quoted, settings.overlay_prefixes))}]"


def is_example(text: str) -> bool:
    """True for the file as shipped: its key is public."""
    return EXAMPLE_KEY.search(text) is not None


def _quoted(text: str) -> str:
    """A double-quoted scalar of YAML."""
    safe = "".join(sign if sign.isascii() and sign.isprintable() and sign not in '"\\' else "?" for sign in text)
    return f'"{safe}"'


def _word(text: str) -> str:
    return "".join(sign for sign in text[:64] if sign.isascii() and sign.isprintable())
