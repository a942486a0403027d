"""A flow in words, as people type it: `tcp 10.0.0.2:443`, `[2001:db8::2]:53`, `10.0.0.2`."""

from __future__ import annotations

from lispmob.errors import LispError


class NoFlow(LispError):
    """What was typed is no flow; the text says what would be one."""


def read_end(text: str, what: str) -> tuple[str, int | None]:
    """(address, port): 10.0.0.2, 10.0.0.2:443, 2001:db8::2, [2001:db8::2]:443, or ":40000" for a port alone."""
    address, port = text, ""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if port and not (port.isdecimal() and int(port) <= 65535):
        raise NoFlow(f"{what} {text!r}: {port!r} is no port; write 10.0.0.2:443, or [2001:db8::2]:443")
    return address, int(port) if port else None


def read_words(words: list[str]) -> tuple[str | None, str, int | None]:
    """(protocol, address, port) of `[PROTOCOL] DESTINATION`. "ping" is ICMP of whichever family."""
    if not 1 <= len(words) <= 2:
        raise NoFlow("a flow is [PROTOCOL] DESTINATION[:PORT], such as: tcp 10.0.0.2:443")
    protocol = words[0].lower() if len(words) == 2 else None
    address, port = read_end(words[-1], "destination")
    if not address:
        raise NoFlow(f"destination {words[-1]!r}: there is no address in it")
    return "icmp" if protocol == "ping" else protocol, address, port
