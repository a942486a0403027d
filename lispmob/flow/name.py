"""Full names of flows: 1 to 255 octets of UTF-8, by convention SERVICE.HOST, such as `backup.nas`. Pure."""

from __future__ import annotations

from typing import Final

from lispmob.errors import LispError

MAX_NAME_OCTETS: Final = 255  # the length of a NAME TLV is one octet

_LOWER: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")


class InvalidName(LispError):
    """An invalid full name of a flow; the text says why."""


def check_name(name: str) -> str:
    """Return `name` unchanged. Raises InvalidName."""
    octets = name.encode("utf-8", "surrogatepass")
    return read_name(octets)


def read_name(octets: bytes) -> str:
    """Decode a full name. Raises InvalidName for a wrong length, bad UTF-8, control octets or white space at an end."""
    if not 1 <= len(octets) <= MAX_NAME_OCTETS:
        raise InvalidName(f"a name has 1 to {MAX_NAME_OCTETS} octets, not {len(octets)}")
    if any(octet < 0x20 or octet == 0x7F for octet in octets):
        raise InvalidName("a name holds no control characters")
    try:
        name = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidName("a name is UTF-8") from None
    if name != name.strip():
        raise InvalidName("a name neither begins nor ends with white space")
    return name


def harmless(text: str) -> str:
    """Escape unprintable characters of a peer's text, for a terminal or a log."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def fold(name: str) -> bytes:
    """The name in the form in which names are compared: ASCII letters in lower case."""
    return name.encode("utf-8").translate(_LOWER)


def held_as(name: str, host: str, domain: str) -> tuple[bytes, ...]:
    """The names, folded, under which `host` may hold the requested `name`, the most exact first.

    For `backup.nas.lisp.home.arpa`: the name itself, without the domain, and without the host.
    """
    full, candidates = fold(name), []
    candidates.append(full)
    if domain and full.endswith(b"." + fold(domain)):
        candidates.append(full[: -len(fold(domain)) - 1])
    if host and candidates[-1].endswith(b"." + fold(host)):
        candidates.append(candidates[-1][: -len(fold(host)) - 1])
    return tuple(candidate for candidate in candidates if candidate)
