"""`flows:` in lispd.conf: the names of this host, their holders and callers, and the port."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import field

from lispmob.config.reader import Section
from lispmob.config.values import (
    FILE_PATH_TEXT,
    FieldError,
    FilePath,
    KeyFile,
    Network,
    SecretText,
    YesNo,
    one_of,
    or_word,
    plain,
    whole,
)
from lispmob.wire.address import IpAddress

if TYPE_CHECKING:  # loaded only for a file with `flows:`
    from lispmob.flow.auth import FlowKey

_PORTS: Final = re.compile(r"(\d{1,5})-(\d{1,5})")


def _flow_name(text: str) -> str:
    from lispmob.flow.name import InvalidName, check_name

    try:
        return check_name(text)
    except InvalidName as bad:
        raise FieldError("", f"{text!r}: {bad}") from None


def _user_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", text) is None:
        raise ValueError
    return text


def _ports(text: str) -> range:
    found = _PORTS.fullmatch(text)
    if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError
    return range(int(found[1]), int(found[2]) + 1)


def _host(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9-]{1,63}", text) is None:
        raise ValueError
    return text


def _domain(text: str) -> str:
    if text and re.fullmatch(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,10}\.?", text) is None:
        raise ValueError
    return text.rstrip(".")


FlowName = Annotated[str, plain(_flow_name, "a name of 1 to 255 octets")]
UserName = Annotated[str, plain(_user_name, "the name of a user or group")]

KeyName = Annotated[str, plain(_user_name, "a name of letters, digits and _.-")]


class FlowNameSection(Section, frozen=True, kw_only=True):
    """A name: the users and groups that may hold it, the EIDs that may call it, and with which key.

    `callers` empty: every EID of the overlay. `socket`: where a service waits for its flows.
    """

    name: FlowName
    users: tuple[UserName, ...] = field(name="user", default=())
    groups: tuple[UserName, ...] = field(name="group", default=())
    callers: tuple[Network, ...] = field(name="from", default=())
    key: KeyName | None = None
    socket: FilePath | None = None


class FlowKeySection(Section, frozen=True, kw_only=True):
    """A key that this host shares with the EIDs of `with`."""

    name: KeyName
    peers: tuple[Network, ...] = field(name="with", default=())
    key_id: Annotated[int, whole(0, 255)] = 1
    key: SecretText | None = None
    key_file: KeyFile | None = None

    def __post_init__(self) -> None:
        if (self.key is None) == (self.key_file is None):
            raise ValueError("give the shared key: either 'key' (the key itself) or 'key-file' (a file that holds it)")
        from lispmob.flow.auth import MIN_KEY_OCTETS

        if len(self.to_key().secret) < MIN_KEY_OCTETS:
            raise FieldError("key" if self.key else "key-file", f"a key of a flow has {MIN_KEY_OCTETS} octets or more")

    def to_key(self) -> FlowKey:
        """The key for the machines."""
        from lispmob.flow.auth import FlowKey

        secret = self.key or self.key_file
        assert secret is not None, "checked when the section was read"
        return FlowKey(self.key_id, secret.octets)


class FlowsSection(Section, frozen=True, kw_only=True):
    """Flows to names. `host` and `domain`: what may follow a name for this host.

    `when_stopped`: whether peers and programs are informed that their flows have ended, or wait for a restart.
    """

    enabled: YesNo = False
    port: Annotated[int, whole(1, 65535)] = 3359
    ports: Annotated[range | None, or_word("any", plain(_ports, "a range of ports such as 33590-33689"))] = None
    legacy: Annotated[str, one_of("first-datagram", "at-once", "no")] = "first-datagram"
    quiet: YesNo = False
    when_stopped: Annotated[str, one_of("close", "keep")] = "close"
    host: Annotated[str | None, or_word("auto", plain(_host, "a label of letters, digits and hyphens"))] = None
    domain: Annotated[str, plain(_domain, "a domain such as lisp.home.arpa, or nothing")] = ""
    socket: Annotated[Path | None, or_word("auto", FILE_PATH_TEXT)] = None
    names: tuple[FlowNameSection, ...] = ()
    keys: tuple[FlowKeySection, ...] = ()

    def __post_init__(self) -> None:
        keys = [key.name for key in self.keys]
        for index, name in enumerate(self.names):
            if name.key is not None and name.key not in keys:
                raise FieldError(f"names[{index}].key", f"'{name.key}' is none of 'keys': {', '.join(keys) or 'empty'}")
            if name.name.casefold() in [other.name.casefold() for other in self.names[:index]]:
                raise FieldError(f"names[{index}].name", f"{name.name} is listed twice")
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise FieldError(f"keys[{index}].name", f"{key} is listed twice")

    def key_for(self, peer: IpAddress) -> FlowKey | None:
        """The key that is shared with an EID: that of the longest of the prefixes that hold it."""
        found = [
            (prefix.prefixlen, key)
            for key in self.keys
            for prefix in key.peers
            if prefix.version == peer.version and peer in prefix
        ]
        return max(found, key=lambda pair: pair[0])[1].to_key() if found else None
