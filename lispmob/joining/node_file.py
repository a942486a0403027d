"""lispd.conf, as it comes of an invitation. Pure."""

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
EXAMPLE_KEY: Final = re.compile(r"^[^#\n]*key: *CHANGE-ME\s*(#.*)?$", re.MULTILINE)


def node_text(joined: Joined, addresses: Sequence[Address], day: str, socket: Path | None = None) -> str:
    """The text of lispd.conf. Values of the hub are quoted: they are data, whatever they are."""
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
    )
    if settings.lisp_sec == "require":
        text += "security: {lisp-sec: require}\n"
    if socket is not None:
        text += f"control: {{socket: {_quoted(str(socket))}}}\n"
    return text


def with_settings(text: str, settings: Settings) -> str | None:
    """The text with other settings, and all else as it is; None for one that `lispctl join` did not write."""
    if MARK.match(text) is None or len(_EIDS.findall(text)) != 1 or len(_PREFIXES.findall(text)) != 1:
        return None
    text = _EIDS.sub(lambda _: _eids_line(settings), text)
    return _PREFIXES.sub(lambda _: _prefixes_line(settings), text)


def _eids_line(settings: Settings) -> str:
    return f"eids: [{', '.join(map(_quoted, settings.eids))}]"


def _prefixes_line(settings: Settings) -> str:
    return f"  overlay-prefixes: [{', '.join(map(_quoted, settings.overlay_prefixes))}]"


def is_example(text: str) -> bool:
    """True for the file as it is shipped: its key is everybody's."""
    return EXAMPLE_KEY.search(text) is not None


def _quoted(text: str) -> str:
    """A double-quoted scalar of YAML."""
    safe = "".join(sign if sign.isascii() and sign.isprintable() and sign not in '"\\' else "?" for sign in text)
    return f'"{safe}"'


def _word(text: str) -> str:
    return "".join(sign for sign in text[:64] if sign.isascii() and sign.isprintable())
