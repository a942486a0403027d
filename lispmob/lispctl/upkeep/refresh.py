"""lispctl refresh: apply what the hub has changed since `lispctl join`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lispmob.api.client import DEFAULT_SOCKET, Client
from lispmob.errors import ConfigError, LispError, NotRunning
from lispmob.lispctl.command import Command, no_run
from lispmob.lispctl.upkeep.join import (
    DEFAULT_CONFIG,
    EXIT_CONFIG,
    NotJoined,
    check,
    exchanged,
    read_config,
    tell_names,
)


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}")
    parser.epilog = (
        "EIDs, overlay prefixes, domain and lisp-sec; all else in the file stays as it is. Exit codes: 0 nothing "
        "changed, or changed and taken over; 1 the file is not one that lispctl join wrote; 9 the hub does not "
        "know this node; 10 the hub does not answer; 77 not permitted; 78 what the hub says makes no configuration."
    )


def run(arguments: Namespace) -> int:
    """Ask the hub; when its settings differ, write them and have lispd reload."""
    from pathlib import Path

    from lispmob.joining.checking import hub_of
    from lispmob.joining.exchange import SettingsQuestion
    from lispmob.joining.files import PrivateFile
    from lispmob.joining.node_file import with_settings

    path = Path(arguments.config)
    text = read_config(path)
    if text is None:
        raise LispError(f"{path} does not exist: lispctl join writes it")
    try:
        addresses, key = hub_of(path)
    except ConfigError as error:
        raise NotJoined(str(error), EXIT_CONFIG) from None
    with PrivateFile(path) as file:
        joined = exchanged(lambda private, ciphers: SettingsQuestion(key, private, ciphers), addresses)
        changed = with_settings(text, joined.settings)
        if changed is None:
            raise LispError(f"{path} was not written by lispctl join, so it is not changed")
        if changed == text:
            print("the hub has no changes for this node")
            tell_names(path)  # another program may have overwritten the resolver's files
            return 0
        file.put(changed, check, ".before-refresh")
    code = _reload(getattr(arguments, "socket", DEFAULT_SOCKET), str(path))
    tell_names(path)
    return code


def _reload(socket: str, path: str) -> int:
    try:
        with Client(socket) as client:
            client.call("reload")
    except NotRunning:
        print(f"{path} has what the hub says now; lispd reads it when it starts")
        return 0
    print(f"{path} has what the hub says now, and lispd has read it")
    return 0


COMMAND = Command(
    "refresh", "take over what the hub has changed since the join; needs root", no_run, add_arguments, alone=run
)
