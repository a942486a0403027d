"""The value types of the configuration files: from text to a typed value, or a sentence that says what is accepted.

Each alias below is `Annotated[PythonType, Text(...)]`: the checker sees the Python type, the reader sees how to get it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from lispmob.iface_monitor.network_identity import NetworkPattern
from lispmob.options import meant
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork
from lispmob.wire.address_class import class_of, may_be_rloc, why_no_eid
from lispmob.wire.embedded_ipv4 import may_be_prefix

MAX_INSTANCE_ID: Final = (1 << 24) - 1  # RFC 9300: the data header carries 24 bits
MAX_KEY_OCTETS: Final = 256  # ours: far beyond what HMAC profits from


class FieldError(ValueError):
    """An error with a complete sentence; `key` is its place below the section, as in "static[2].prefix"; "": here."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


@dataclass(frozen=True)
class Text:
    """How to read a value. `read(text, directory)` raises ValueError(what is accepted), or FieldError(whole sentence).

    With `mapping`, a section may replace the text, and `from_mapping` converts it to the value.
    """

    read: Callable[[str, Path], Any]
    accepts: str
    is_secret: bool = False
    mapping: Any = None
    from_mapping: Callable[[Any], Any] = lambda section: section


def plain(read: Callable[[str], Any], accepts: str) -> Text:
    """A value that depends on its text alone; any ValueError of `read` becomes "... is not <accepts>"."""

    def guarded(text: str, _directory: Path) -> Any:
        try:
            return read(text)
        except FieldError:
            raise
        except ValueError:
            raise ValueError(accepts) from None

    return Text(guarded, accepts)


def whole(low: int, high: int) -> Text:
    """A decimal number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,20}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return plain(read, f"{low} to {high}")


def one_of(*words: str, also: Mapping[str, str] | None = None) -> Text:
    """One of a few words. `also`: the words of other programs; they are refused with a hint."""
    accepts = ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]

    def read(text: str, _directory: Path) -> str:
        if text in words:
            return text
        like = meant(text, words, also)
        raise ValueError(accepts if like is None else f"{accepts}; did you mean '{like}'?")

    return Text(read, accepts)


_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(bare: str, low_s: float, high_s: float) -> Text:
    """A duration such as 30s, 5m, 1h or 1d, in seconds; a number alone counts in the unit `bare`."""

    def read(text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text)
        if found is None:
            raise ValueError
        seconds = float(found[1]) * _UNITS_S[found[2] or bare]
        if not low_s <= seconds <= high_s:
            raise ValueError
        return seconds

    return plain(read, f"a duration from {short_duration(low_s)} to {short_duration(high_s)}, such as 30s, 5m or 1h")


def short_duration(seconds: float) -> str:
    """ "90s", "10m", "1d": the largest unit that divides evenly."""
    for unit in "dhm":
        if seconds >= _UNITS_S[unit] and seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:g}{unit}"
    return f"{seconds:g}s"


def _yes_no(text: str) -> bool:
    words = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False}
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


def _network(text: str) -> IpNetwork:
    try:
        return ip_network(text)
    except ValueError:
        wide = ip_network(text, strict=False)  # raises again when it is no prefix at all
        one = ip_network(text.partition("/")[0])
        raise FieldError("", f"{text} has bits beyond the prefix length; write {wide} or {one}") from None


def _eid(text: str) -> EidPrefix:
    rest, instance_id = text, 0
    if found := re.fullmatch(r"\[([0-9]{1,8})\](.*)", text):
        instance_id, rest = int(found[1]), found[2]
        if instance_id > MAX_INSTANCE_ID:
            raise ValueError
    network = _network(rest)
    if (why := why_no_eid(network)) is not None:
        raise FieldError("", f"{network} cannot be an EID-Prefix: {why} addresses are no EIDs")
    return EidPrefix(network, instance_id)


_HOST_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+\.?")
_SERVER_NAME: Final = re.compile(r"(?!.{254})[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*\.?")


class HostName(str):
    """The host name of a server, which is resolved while lispd runs (config/server_names.py)."""

    __slots__ = ()


def _server(text: str) -> IpAddress | HostName:
    """An address, or a name. An address with a typing error, such as 192.0.2.l, is no name."""
    name, colon, port = text.partition(":")
    if colon and port.isdigit() and _SERVER_NAME.fullmatch(name) and not name[0].isdigit():
        raise FieldError("", f"{text}: write {name} alone; LISP's ports are always the same")
    *labels, last = text.removesuffix(".").split(".")
    if not _SERVER_NAME.fullmatch(text) or not last[0].isalpha():
        return _address(text)
    if labels and all(label.isdigit() for label in labels):
        raise ValueError
    return HostName(text.removesuffix(".").lower())


def _address(text: str) -> IpAddress:
    """Of a server, which may be on this machine, or next to it."""
    if found := re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+):([0-9]{1,5})", text):
        raise FieldError("", f"{text}: write {found[1].strip('[]')} alone; LISP's ports are always the same")
    if _HOST_NAME.fullmatch(text):
        raise FieldError(
            "",
            f"{text} is a host name; write its address, which stays when DNS is away: getent ahosts {text}",
        )
    address = ip_address(text)
    if getattr(address, "scope_id", None):
        raise ValueError
    if inside := getattr(address, "ipv4_mapped", None):
        raise FieldError("", f"{text} is the IPv4 address {inside} in a form for programs; write {inside}")
    if not (may_be_rloc(address) or address.is_loopback or address.is_link_local):
        raise ValueError
    return address


def _rloc(text: str) -> IpAddress:
    address = _address(text)
    if not may_be_rloc(address) and (row := class_of(address)) is not None:
        raise FieldError("", f"{address} cannot be an RLOC: {row.name} addresses are not sent to across a network")
    return address


def _interface_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", text) or text in (".", ".."):
        raise ValueError
    return text


def _interface_pattern(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.@*?\[\]!-]{1,32}", text):
        raise ValueError
    return text


def _group_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError
    return text


def hex_octets(count: int) -> Text:
    """`count` octets, written as twice as many hexadecimal digits."""

    def read(text: str) -> bytes:
        if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * count}}}", text):
            raise ValueError
        return bytes.fromhex(text)

    return plain(read, f"{2 * count} hexadecimal digits")


def or_word(word: str, text: Text) -> Text:
    """`word` gives None, anything else is read by `text`."""
    return Text(lambda t, d: None if t == word else text.read(t, d), f"{word} or {text.accepts}")


def _translator(text: str) -> IPv6Network | str:
    if text in ("auto", "off"):
        return text
    prefix = IPv6Network(text)
    if not may_be_prefix(prefix):
        raise ValueError
    return prefix


Translator: TypeAlias = Annotated[
    IPv6Network | str,
    plain(_translator, "auto, off or a translator's prefix of 32, 40, 48, 56, 64 or 96 bits, such as 64:ff9b::/96"),
]


class Secret:
    """A shared key. Neither repr, str nor an error text ever shows it.

    `cut_short`: in the file it ends at a " #" that may have been meant to be part of it.
    """

    __slots__ = ("cut_short", "octets")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.cut_short = False

    def __repr__(self) -> str:
        return "Secret(not shown)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.octets == other.octets

    def __hash__(self) -> int:
        return hash(self.octets)


def _secret(text: str, _directory: Path) -> Secret:
    octets = text.encode()
    if not 1 <= len(octets) <= MAX_KEY_OCTETS:
        raise ValueError(f"a key of 1 to {MAX_KEY_OCTETS} octets")
    return Secret(octets)


def _key_file(text: str, directory: Path) -> Secret:
    path = _path(text, directory)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang the start
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise FieldError("", f"{path} is not a regular file")
            if mode & 0o007:
                raise FieldError("", f"every user can read the key in {path}; run: chmod 600 {path}")
            octets = file.read(MAX_KEY_OCTETS + 3)
    except OSError as error:
        raise FieldError("", f"cannot read the key in {path}: {error.strerror}") from None
    for ending in (b"\r\n", b"\n"):  # editors and `echo` end a line; that is no part of the key
        if octets.endswith(ending):
            octets = octets[: -len(ending)]
            break
    if not 1 <= len(octets) <= MAX_KEY_OCTETS:
        raise FieldError("", f"the key in {path} has to have 1 to {MAX_KEY_OCTETS} octets, in one line")
    return Secret(octets)


def read_key_file(path: Path) -> Secret:
    """The key in a file that only its owner may read. Raises FieldError."""
    return _key_file(str(path), Path())


def _path(text: str, directory: Path) -> Path:
    if "\0" in text or not text:
        raise ValueError("the path of a file or directory")
    return directory / text


ADDRESS_TEXT: Final = plain(_address, "the IPv4 or IPv6 address of one host")
Address: TypeAlias = Annotated[IpAddress, ADDRESS_TEXT]
SERVER_TEXT: Final = plain(_server, "the address or host name of one host")
Server: TypeAlias = Annotated[IpAddress | HostName, SERVER_TEXT]
RLOC_TEXT: Final = plain(_rloc, ADDRESS_TEXT.accepts)
Rloc: TypeAlias = Annotated[IpAddress, RLOC_TEXT]
Network: TypeAlias = Annotated[IpNetwork, plain(_network, "an IPv4 or IPv6 prefix such as 10.0.0.0/8")]
EID_TEXT: Final = plain(_eid, "an EID-Prefix such as 10.1.0.1/32, 2001:db8::1/128 or [7]10.1.0.1/32")
Priority: TypeAlias = Annotated[int, whole(0, 255)]
Weight: TypeAlias = Annotated[int, whole(0, 255)]
Port: TypeAlias = Annotated[int, whole(1, 65535)]
InstanceId: TypeAlias = Annotated[int, whole(0, MAX_INSTANCE_ID)]
KeyId: TypeAlias = Annotated[int, whole(0, 255)]
YesNo: TypeAlias = Annotated[bool, plain(_yes_no, "yes or no")]
InterfaceName: TypeAlias = Annotated[str, plain(_interface_name, "an interface name (1 to 15 letters, digits, '.-_')")]
InterfacePattern: TypeAlias = Annotated[str, plain(_interface_pattern, "an interface name or a pattern such as wlan*")]
NetworkName: TypeAlias = Annotated[
    NetworkPattern,
    plain(
        NetworkPattern.parse,
        "a network: an SSID or a connection of NetworkManager, also as ssid:NAME or connection:NAME, or the link-layer "
        "address of the gateway (52:54:00:12:34:56)",
    ),
]
SecretText: TypeAlias = Annotated[Secret, Text(_secret, "a key", is_secret=True)]
KeyFile: TypeAlias = Annotated[Secret, Text(_key_file, "the path of a key file")]
FILE_PATH_TEXT: Final = Text(_path, "the path of a file or directory")
FilePath: TypeAlias = Annotated[Path, FILE_PATH_TEXT]
GroupName: TypeAlias = Annotated[str, plain(_group_name, "the name of a group")]
