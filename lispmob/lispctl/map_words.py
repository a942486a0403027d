"""The words of `lispctl map`: ours, and those of OpenLISP's map(8) as they are typed.

    add [-local] PREFIX ADDRESS[,PRIORITY[,WEIGHT]] ...
    add [-local] -inet 1.1.0.0/16 -inet 2.2.2.2 1 100 1 -inet6 2001::1 2 100 1

In its grammar `-inet` or `-inet6` stands before each address, and behind an RLOC up to three numbers: priority, weight,
reachability (defaults: 255, 100, 0, so that an RLOC without numbers is not used). IPv4 is read as BSD does: 128.32 is
128.0.0.32, and 192.168.64/20 is the network. Names of hosts and networks stand for their addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from lispmob.errors import LispError
from lispmob.lispctl.names import address_of, network_of

_LOCAL: Final = ("-local", "-database")
_FAMILIES: Final = {"-inet": 4, "-inet6": 6}
_NO_EFFECT: Final = {
    "-locbits": "what Locator-Status-Bits say is decided by probing: {status-bits: ...} in lispd.conf",
    "-version": "a mapping of ours has the version that its moves give it, and others count theirs",
}
_ERRNO_TEXT: Final = "EINVAL"


class WrongWords(LispError):
    """The words are not valid."""

    exit_code = 2


class MapWords(NamedTuple):  # no dataclass: importing that module costs a fifth of the start
    """The words that were typed. `eid` is an EID-Prefix, or None when none was given."""

    eid: str | None = None
    typed: str = ""  # as on the command line
    locators: Sequence[dict[str, Any]] = ()
    table: str = "cache"
    is_static: bool = True
    is_negative: bool = False
    is_all: bool = False


def read_words(action: str, words: Sequence[str]) -> MapWords:
    """The words behind an action. Raises WrongWords."""
    return _Reader(action, words).read()


class _Reader:
    def __init__(self, action: str, words: Sequence[str]) -> None:
        self._action = action
        self._words = list(words)
        self._made = MapWords()
        self._locators: list[dict[str, Any]] = []

    def read(self) -> MapWords:
        while self._words:
            word = self._words.pop(0)
            if word in _FAMILIES:
                self._address(_FAMILIES[word], self._next(f"{word} wants an address behind it"))
            elif word.startswith("-"):
                self._modifier(word)
            else:
                self._plain(word)
        self._check()
        return self._made._replace(locators=tuple(self._locators))

    def _modifier(self, word: str) -> None:
        if word in _LOCAL:
            self._made = self._made._replace(table="database")
        elif word == "-cache":
            self._made = self._made._replace(table="cache")
        elif word == "-all" and self._action == "flush":
            self._made = self._made._replace(is_all=True)
        elif word in ("-static", "-nostatic"):
            self._made = self._made._replace(is_static=word == "-static")
        elif word == "-negative":
            self._made = self._made._replace(is_negative=True)
        elif word in _NO_EFFECT:
            raise WrongWords(f"map: {word}: {_NO_EFFECT[word]}")
        else:
            known = ("-inet", "-inet6", "-local", "-cache", "-static", "-nostatic", "-negative")
            raise WrongWords(f"map: {word}: there is no such word; there are: {', '.join(known)}")

    def _address(self, family: int, text: str) -> None:
        """In map's grammar: the address after the family, and the numbers behind it."""
        if self._made.eid is None:
            self._made = self._made._replace(eid=_network(text, family), typed=text)
            return
        numbers: list[int] = []
        while self._words and len(numbers) < 3 and self._words[0].isdecimal():
            numbers.append(int(self._words.pop(0)))
        priority, weight, reach = (*numbers, *(255, 100, 0)[len(numbers) :])
        if reach not in (0, 1):
            raise WrongWords(f"map: {text}: its reachability is 0 or 1, not {reach}")
        self._locators.append(_locator(str(_host(text, family)), priority, weight) | {"is_reachable": bool(reach)})

    def _plain(self, word: str) -> None:
        if self._made.eid is None:
            self._made = self._made._replace(eid=_network(word, None), typed=word)
            return
        if word.isdecimal():
            raise WrongWords(f"map: {word}: there are three numbers behind an RLOC: priority, weight, reachability")
        address, *numbers = word.split(",")
        if not address or len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise WrongWords(
                f"map: {word!r} is not ADDRESS[,PRIORITY[,WEIGHT]]; in map's grammar -inet or -inet6 comes before it"
            )
        priority, weight = (*map(int, numbers), *(1, 100)[len(numbers) :])
        self._locators.append(_locator(str(_host(address, None)), priority, weight))

    def _check(self) -> None:
        made, action = self._made, self._action
        if action in ("flush", "monitor"):
            if made.eid is not None:
                raise WrongWords(f"map {action}: an EID has no place here; one mapping: map delete {made.eid}")
        elif made.eid is None:
            raise WrongWords(f"map {action}: an EID is missing, such as 192.0.2.0/24 or -inet 192.0.2.0/24")
        if action in ("add", "change"):
            if made.is_negative and self._locators:
                raise WrongWords("map: a negative mapping has no RLOCs")
            if not made.is_negative and not self._locators:
                raise WrongWords(f"map {action}: an RLOC is missing; for a mapping without any: -negative")
            if made.is_negative and made.table == "database":
                raise WrongWords("map: a mapping of our own cannot be negative")
        elif self._locators:
            raise WrongWords(f"map {action}: RLOCs have no place here")

    def _next(self, complaint: str) -> str:
        if not self._words:
            raise WrongWords(f"map: {complaint}")
        return self._words.pop(0)


def _locator(address: str, priority: int, weight: int) -> dict[str, Any]:
    for name, value in (("priority", priority), ("weight", weight)):
        if value > 255:
            raise WrongWords(f"map: {address}: a {name} is 0 to 255, not {value}")
    return {"address": address, "priority": priority, "weight": weight}


def _network(text: str, family: int | None) -> str:
    """The EID-Prefix that was typed, without the bits beyond its mask."""
    head, opened, rest = text.rpartition("]")
    instance = head + opened
    name, slash, bits = rest.partition("/")
    address = _number(name, family, is_network=bool(slash))
    try:
        if address is not None:
            if family is not None and address.version != family:
                raise WrongWords(f"map: {text} is no IPv{family} prefix")
            return f"{instance}{ipaddress.ip_network(f'{address}/{bits}' if slash else address, strict=False)}"
        if not slash and family != 6 and (network := network_of(name)) is not None:
            return f"{instance}{network}"
        host = _host(name, family)
        return f"{instance}{ipaddress.ip_network(f'{host}/{bits}' if slash else str(host), strict=False)}"
    except ValueError:
        raise WrongWords(f"map: {text!r} is no EID-Prefix such as 192.0.2.0/24") from None


def _host(text: str, family: int | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a host, given as an address or a name."""
    address = _number(text, family, is_network=False)
    found = address if address is not None else address_of(text, family)
    if found is None:
        kind = "address" if family is None else f"IPv{family} address"
        raise WrongWords(f"map: {text!r} is no {kind}, and no host has that name")
    if family is not None and found.version != family:
        raise WrongWords(
            f"map: {text} is no IPv{family} address; before it stands {'-inet' if family == 6 else '-inet6'}"
        )
    return found


def _number(text: str, family: int | None, *, is_network: bool) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address in digits; None for what may be a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    parts = text.split(".")
    if family == 6 or len(parts) > 4 or not all(part.isdecimal() for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if is_network:
        numbers += [0] * (4 - len(numbers))
    else:  # the last part fills what is left (inet_aton)
        last = numbers.pop()
        if last >= 1 << 8 * (4 - len(numbers)):
            return None
        numbers += last.to_bytes(4 - len(numbers), "big")
    return ipaddress.IPv4Address(bytes(numbers)) if all(number < 256 for number in numbers) else None
