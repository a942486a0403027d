"""The section `registry` of hub.conf: the servers that several hubs share."""

from __future__ import annotations

import re
import ssl
import typing
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

from lispmob.config.reader import Section
from lispmob.config.values import FieldError, FilePath, KeyFile, Secret, YesNo, or_word, plain, whole

LEAST_CLIENT: Final = (8, 1)
DEFAULT_PORT: Final = 6379
CACHE_DEFAULT: Final = 100_000
_PLACE: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?")


def _server(text: str) -> str:
    """HOST, HOST:PORT or [ADDRESS]:PORT, with the default port added. Raises ValueError."""
    match = _PLACE.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match is not None else 0
    if match is None or not 0 < port < 65536:
        raise ValueError
    return f"[{match['v6']}]:{port}" if match["v6"] else f"{match['host']}:{port}"


def _word(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable() or " " in text:
        raise ValueError
    return text


def client_version() -> str | None:
    """Of redis-py, as it is installed; None: it is not."""
    try:
        return metadata.version("redis")
    except metadata.PackageNotFoundError:
        return None


def why_no_client(version: str | None) -> str | None:
    """Why hubs cannot share a registry with this version of redis-py; None: they can."""
    found = re.match(r"(\d+)\.(\d+)", version or "")
    if found is not None and (int(found[1]), int(found[2])) >= LEAST_CLIENT:
        return None
    there = "is not installed" if version is None else f"is {version} here"
    return f"needs redis-py {LEAST_CLIENT[0]}.{LEAST_CLIENT[1]} or newer, which {there}: pip install 'lispmob[cluster]'"


ServerName = Annotated[str, plain(_server, "a server, as HOST:PORT or [ADDRESS]:PORT")]


class RegistrySection(Section, frozen=True, kw_only=True):
    """Without servers the registrations are this hub's alone."""

    valkey: tuple[ServerName, ...] = ()
    """Some of the servers; the others of a cluster are discovered."""
    user: Annotated[str | None, or_word("none", plain(_word, "a name"))] = None
    password_file: Annotated[Secret | None, or_word("none", typing.get_args(KeyFile)[1])] = None
    tls: YesNo = False
    tls_ca: Annotated[Path | None, or_word("none", typing.get_args(FilePath)[1])] = None
    """The authority of the servers' certificates; None: those that this machine trusts."""
    island: YesNo = True
    cache: Annotated[int, whole(1000, 100_000_000)] = CACHE_DEFAULT
    name: Annotated[str | None, or_word("none", plain(_word, "a name"))] = None

    def __post_init__(self) -> None:
        if len(set(self.valkey)) < len(self.valkey):
            raise FieldError("valkey", "a server is listed twice")
        if self.user is not None and self.password_file is None:
            raise FieldError("user", "a user needs a password: give 'password-file'")
        if self.tls_ca is not None and not self.tls:
            raise FieldError("tls-ca", "needs 'tls: yes'")
        if not self.valkey and (self.user or self.password_file or self.tls):
            raise FieldError("valkey", "give the servers that this is meant for")

    @property
    def is_shared(self) -> bool:
        """True when several hubs share the registrations."""
        return bool(self.valkey)

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each server."""
        found = (text.rpartition(":") for text in self.valkey)
        return tuple((host.strip("[]"), int(port)) for host, _, port in found)

    def check_tls(self) -> None:
        """Raises OSError, ssl.SSLError for an invalid file."""
        if self.tls_ca is not None:
            ssl.create_default_context(cafile=str(self.tls_ca))
