"""The keys of LISP-SEC for `lig`, from a key file or from lispd.conf. Imported only when they are needed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_bytes

from lispmob.config.node import NodeFile, load_node
from lispmob.config.values import read_key_file
from lispmob.crypto.key_wrap import AesKeyWrap
from lispmob.errors import ConfigError, LispError
from lispmob.tools.lig_security import Protection, Secret, registration_secret
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.lisp_sec_auth import OTK_OCTETS


def protections(
    resolvers: Sequence[IpAddress],
    *,
    source: EidPrefix | None,
    key_file: Path | None,
    resolver_key_file: Path | None,
    key_id: int,
    configuration: Path,
) -> Mapping[IpAddress, Protection]:
    """LISP-SEC for each resolver. Raises LispError when a resolver has no key, or when this build has no key wrap."""
    wrap = AesKeyWrap()
    if key_file is not None:
        secrets = dict.fromkeys(resolvers, registration_secret(_read(key_file), key_id))
    elif resolver_key_file is not None:
        secrets = dict.fromkeys(resolvers, Secret(_read(resolver_key_file), key_id))
    else:
        secrets = dict(_configured(configuration))
    if without := [str(resolver) for resolver in resolvers if resolver not in secrets]:
        raise LispError(
            f"{configuration} has no key for Map-Resolver {', '.join(without)}; give one by --key-file (the key that "
            "this host registers with there) or --resolver-key-file"
        )
    return {
        resolver: Protection(secrets[resolver], source, wrap, lambda: token_bytes(OTK_OCTETS)) for resolver in resolvers
    }


def secrets_of(file: NodeFile) -> Mapping[IpAddress, Secret]:
    """The secret of each Map-Resolver in lispd.conf: its own key, or derived from the key of its Map-Server."""
    found = {server.address: registration_secret(server.secret.octets, server.key_id) for server in file.map_servers}
    for resolver in file.map_resolvers:
        if resolver.secret is not None:
            found[resolver.address] = Secret(resolver.secret.octets, resolver.key_id)
    return found


def _read(path: Path) -> bytes:
    try:
        return read_key_file(path).octets
    except ValueError as error:
        raise LispError(str(error)) from None


def _configured(path: Path) -> Mapping[IpAddress, Secret]:
    if not os.access(path, os.R_OK):
        what = "you may not read it" if path.exists() else "there is no such file"
        raise LispError(f"LISP-SEC needs a key. {path}: {what}; give one by --key-file")
    try:
        return secrets_of(load_node(path))
    except ConfigError as error:
        raise LispError(str(error).partition("\n")[0]) from None
