"""An invitation: the one line that `lisphub invite` prints and `lispctl join` takes. Pure.

It names the hub, and holds a secret that is good for one exchange (`exchange.py`). EIDs, keys and all that may change
later are not in it. The text is "LISP-", a version, "-" and base32 (RFC 4648, 6): letters and digits that a QR code
holds tightly, that no shell expands, and that may be typed in small letters and broken into pieces. Signs that mails,
messengers and word processors put into texts (blanks, quotes, other hyphens, invisible ones) are not counted.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                  expires: minutes since 1970                  |
    |                  Invitation ID, 64 bits                       |
    |                  secret, 128 bits                             |
    |     type      |    length     |   value, of `length` octets   ~   any number: addresses, the hub's public key
    |                  checksum: SHA-256, its first 32 bits         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The checksum finds mistakes in copying. It is no protection against an attacker who replaces the line: the line has to
come by a way that only the two ends read and write.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

from lispmob.errors import LispError

Address = IPv4Address | IPv6Address

VERSION: Final = "1"
PREFIX: Final = f"LISP-{VERSION}-"
ID_OCTETS: Final = 8
SECRET_OCTETS: Final = 16
PUBLIC_KEY_OCTETS: Final = 32
MAX_LETTERS: Final = 1024  # ours: several times the longest line that is made
MAX_SIGNS: Final = 4 * MAX_LETTERS  # ours: with everything between the letters
MAX_ADDRESSES: Final = 8  # ours: addresses of one hub

_HEAD: Final = Struct(f">I{ID_OCTETS}s{SECRET_OCTETS}s")
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_COMMAND: Final = "(?:sudo)?(?:lispctljoin)?"  # copied with the line
_BEGIN: Final = re.compile(rf"{_COMMAND}lisp([0-9])", re.IGNORECASE | re.ASCII)
_AGAIN: Final = re.compile(rf"{_COMMAND}lisp{VERSION}", re.IGNORECASE | re.ASCII)
_CHANGED: Final = "the invitation is incomplete, or a letter in it was changed: copy the whole line again"
_CHECKSUM_OCTETS: Final = 4
_ADDRESS_V4, _ADDRESS_V6, _PUBLIC_KEY = 4, 6, 32
_LENGTHS: Final = {_ADDRESS_V4: 4, _ADDRESS_V6: 16, _PUBLIC_KEY: PUBLIC_KEY_OCTETS}


class BadInvitation(LispError):
    """The text is no invitation, or it was changed on the way; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A line's content. `expires_min`: minutes since 1970. `public_key`: the hub's X25519 key, where it has one."""

    addresses: tuple[Address, ...]
    identifier: bytes
    expires_min: int
    secret: bytes = dataclasses.field(repr=False)
    public_key: bytes | None = None

    @property
    def expires_at(self) -> float:
        """Seconds since 1970."""
        return 60.0 * self.expires_min

    def line(self) -> str:
        """The text. ValueError for lengths that an invitation cannot have."""
        if len(self.identifier) != ID_OCTETS or len(self.secret) != SECRET_OCTETS:
            raise ValueError("an invitation has an ID of 8 octets and a secret of 16")
        if not 1 <= len(self.addresses) <= MAX_ADDRESSES:
            raise ValueError(f"an invitation names 1 to {MAX_ADDRESSES} addresses of the hub")
        octets = _HEAD.pack(self.expires_min, self.identifier, self.secret)
        for address in self.addresses:
            octets += bytes((address.version, len(address.packed))) + address.packed
        if self.public_key is not None:
            octets += bytes((_PUBLIC_KEY, PUBLIC_KEY_OCTETS)) + self.public_key
        return PREFIX + base64.b32encode(octets + _checksum(octets)).decode().rstrip("=")


def read_invitation(text: str) -> Invitation:
    """Read an invitation from a text, whatever the text was carried in. Raises BadInvitation."""
    if len(text) > MAX_SIGNS:
        raise BadInvitation("that is too long for an invitation: copy one line")
    letters = "".join(sign for sign in text if sign.isalnum())
    found = _BEGIN.match(letters)
    if found is None:
        raise BadInvitation(f"that is no invitation: one begins with {PREFIX}; `lisphub invite NAME` prints it")
    if found[1] < VERSION:
        raise BadInvitation("the hub that made the invitation is older than this lispmob: upgrade it, and invite again")
    if found[1] > VERSION:
        raise BadInvitation("the hub that made the invitation is newer than this lispmob: upgrade lispmob here")
    octets = _octets(_pasted_once(letters[found.end() :]))
    if len(octets) < _HEAD.size + _CHECKSUM_OCTETS or octets[-_CHECKSUM_OCTETS:] != _checksum(
        octets[:-_CHECKSUM_OCTETS]
    ):
        raise BadInvitation(_CHANGED)
    return _decode(octets[:-_CHECKSUM_OCTETS])


def _pasted_once(letters: str) -> str:
    """One of several copies of the same line. Base32 has no digit 1, so only the beginning of a copy matches."""
    first, *others = _AGAIN.split(letters)
    if any(copy.upper() != first.upper() for copy in others):
        raise BadInvitation("that is more than one invitation: copy the line of this machine alone")
    return first


def _octets(letters: str) -> bytes:
    if len(letters) > MAX_LETTERS:
        raise BadInvitation("that is too long for an invitation: copy one line")
    # Some letters beyond ASCII become several in upper case.
    capitals = letters.upper() if letters.isascii() else letters
    if (strange := sorted(set(capitals) - _LETTERS)) != []:
        raise BadInvitation(
            f"the invitation has a letter that no invitation has ({strange[0]}): copy the whole line again"
        )
    try:
        return base64.b32decode(capitals + "=" * (-len(letters) % 8))
    except binascii.Error:  # no octets have this length
        raise BadInvitation(_CHANGED) from None


def _decode(octets: bytes) -> Invitation:
    expires_min, identifier, secret = _HEAD.unpack_from(octets)
    addresses: list[Address] = []
    public_key: bytes | None = None
    at = _HEAD.size
    while at < len(octets):
        kind, length = octets[at], octets[at + 1] if at + 1 < len(octets) else 256
        value = octets[at + 2 : at + 2 + length]
        if len(value) != length or _LENGTHS.get(kind, length) != length:
            raise BadInvitation("the invitation ends in the middle of an entry: have the hub print a new one")
        if kind in (_ADDRESS_V4, _ADDRESS_V6):
            addresses.append(ip_address(value))
        elif kind == _PUBLIC_KEY:
            public_key = value
        at += 2 + length  # skip entries of other types: they are for later versions
    if not 1 <= len(addresses) <= MAX_ADDRESSES:
        raise BadInvitation("the invitation names no address of a hub: have the hub print a new one")
    return Invitation(tuple(addresses), identifier, expires_min, secret, public_key)


def _checksum(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()[:_CHECKSUM_OCTETS]
