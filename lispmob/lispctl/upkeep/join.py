"""lispctl join: turns an invitation into a working node."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from lispmob.api.client import DEFAULT_SOCKET, Client
from lispmob.errors import LispError, NotRunning
from lispmob.lispctl.command import Command, no_run
from lispmob.lispctl.show.wait import LOOK_S, seconds
from lispmob.terminal.text import clean, fold, paint, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lispmob.joining.exchange import Ciphers, Exchange, Joined
    from lispmob.joining.invitation import Address, Invitation

EXIT_NOT_RUNNING = 3
EXIT_CODES = {"working": 0, "degraded": 4, "not-working": 5}  # as status
EXIT_REFUSED = 9
EXIT_SILENT = 10
EXIT_CONFIG = 78  # sysexits.h: EX_CONFIG
EXIT_NO_INVITATION = 65  # sysexits.h: EX_DATAERR
DEFAULT_CONFIG = "/etc/lispmob/lispd.conf"


class NotJoined(LispError):
    """The node has not joined; the text says why."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("line", nargs="+", metavar="LINE", help="what `lisphub invite NAME` printed on the hub")
    parser.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}")
    parser.add_argument("--force", action="store_true", help="replace an existing configuration; the old one is kept")
    parser.add_argument("--no-service", action="store_true", help="write the configuration, but start nothing")
    parser.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="S", help="wait this many seconds until it works (default: 30)"
    )
    parser.epilog = (
        "Exit codes: 0 joined, and working; 1 not done; 3 joined, and lispd does not run; 4 joined, working in part; 5 "
        "joined, not working; 9 the hub refuses the invitation; 10 the hub does not answer, or another "
        "host in its place; 65 the line is no invitation, or was changed; 77 not permitted; 78 the configuration "
        "would have mistakes."
    )


def run(arguments: Namespace) -> int:
    """Redeem the invitation, write lispd.conf, start lispd, and wait until it works."""
    from pathlib import Path

    from lispmob.joining.files import PrivateFile
    from lispmob.joining.invitation import BadInvitation, read_invitation

    try:
        invitation = read_invitation(" ".join(arguments.line))
    except BadInvitation as bad:
        raise NotJoined(str(bad), EXIT_NO_INVITATION) from None
    path = Path(arguments.config)
    _refuse_to_replace(path, is_forced=arguments.force)
    with PrivateFile(path) as file:
        joined = _redeem(invitation)
        kept = file.put(_text(joined, invitation, arguments), check, ".before-join")
    settings = joined.settings
    print(f"{paint(clean(settings.name), 'bold')}: {', '.join(map(clean, settings.eids))}, written to {path}")
    if kept is not None:
        print(f"the file that was there is {kept} now")
    code = _start(arguments)
    if not arguments.no_service:
        tell_names(path)
    return code


def tell_names(path: Path) -> None:
    """Configure this host's resolver to ask lispd for the hub's domain; a failure is printed, and is not fatal.

    Done only for the service's configuration: another one may belong to a lispd elsewhere, in a namespace.
    """
    if str(path) != DEFAULT_CONFIG:
        return
    from lispmob.joining.checking import wanted_names
    from lispmob.names.host_resolver import HostResolver

    try:
        wanted, resolver = wanted_names(path), HostResolver()
        if wanted is None:
            resolver.revert()
            return
        text = resolver.configure(wanted).text
    except LispError as error:
        text = f"names: {error}"
    if text:
        print("\n".join(fold(clean(text))))


def _refuse_to_replace(path: Path, *, is_forced: bool) -> None:
    from lispmob.joining.node_file import is_example

    text = read_config(path)
    if text is not None and not is_forced and not is_example(text):
        raise LispError(f"{path} exists already; --force replaces it, and keeps it under another name")


def read_config(path: Path) -> str | None:
    """The text of a file; None when it is not there. Raises LispError."""
    from lispmob.joining.files import MayNotWrite

    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise MayNotWrite(f"{path}: {error.strerror}: try it as root, with sudo") from None
    except OSError as error:
        raise LispError(f"{path}: {error.strerror}") from None


def _redeem(invitation: Invitation) -> Joined:
    from lispmob.joining.exchange import Redemption

    late = "; the invitation has expired, too, by this machine's clock" if _is_late(invitation) else ""
    return exchanged(
        lambda private, ciphers: Redemption(invitation, private, ciphers), invitation.addresses, unanswered=late
    )


def exchanged(
    made: Callable[[bytes, Ciphers], Exchange], addresses: Sequence[Address], *, unanswered: str = ""
) -> Joined:
    """The hub's answer to the question that `made` makes with a fresh private key. Raises LispError."""
    import secrets

    from lispmob.crypto.key_wrap import KeyWrapMissingError
    from lispmob.crypto.noise_ciphers import KEY_OCTETS, NoiseCiphers
    from lispmob.joining.exchange import JoinRefused
    from lispmob.joining.invitation import BadInvitation
    from lispmob.joining.redeeming import PATIENCE_S, HubSilent, HubUnproved, redeem

    try:
        ciphers = NoiseCiphers()
    except KeyWrapMissingError:
        raise LispError("this build cannot join: libcrypto's headers (libssl-dev) were missing") from None
    try:
        return redeem(made(secrets.token_bytes(KEY_OCTETS), ciphers), tuple(addresses))
    except BadInvitation as bad:
        raise NotJoined(str(bad), EXIT_NO_INVITATION) from None
    except JoinRefused as refused:
        raise NotJoined(str(refused), EXIT_REFUSED) from None
    except HubUnproved as unproved:
        raise NotJoined(
            f"an answer came from {unproved}, and its sender does not prove to be the hub. Either the hub has another "
            "key than before: have it print another invitation. Or another host answers in its place: try it from "
            "another network",
            EXIT_SILENT,
        ) from None
    except HubSilent as silent:
        raise NotJoined(
            f"the hub does not answer within {PATIENCE_S:.0f} s on UDP port 4342 ({silent}). Either it does not run, a "
            f"firewall keeps UDP ports 4341 and 4342 from it, or this machine has no network{unanswered}",
            EXIT_SILENT,
        ) from None


def _is_late(invitation: Invitation) -> bool:
    return time.time() >= invitation.expires_at


def _text(joined: Joined, invitation: Invitation, arguments: Namespace) -> str:
    from pathlib import Path

    from lispmob.joining.node_file import node_text

    given = getattr(arguments, "socket", None)
    return node_text(joined, invitation.addresses, time.strftime("%Y-%m-%d"), Path(given) if given else None)


def check(path: Path) -> None:
    """Raises NotJoined for a file that lispd would not accept: the hub's settings may be invalid."""
    from lispmob.errors import ConfigError
    from lispmob.joining.checking import check_node

    try:
        check_node(path)
    except ConfigError as error:
        raise NotJoined(f"what the hub says makes no configuration:\n{error}", EXIT_CONFIG) from None


def _start(arguments: Namespace) -> int:
    from lispmob.joining import units

    if arguments.no_service or not units.runs_systemd():
        print("\n".join(fold(f"start it with: lispd -c {arguments.config}; then: lispctl wait working")))
        return 0
    try:
        units.start("lispd.service")
    except units.NotStarted as failed:
        raise NotJoined(str(failed), EXIT_NOT_RUNNING) from None
    try:
        units.start("lispmob-refresh.timer", "lispmob-refresh.path")
    except units.NotStarted as failed:  # the node works without
        print("\n".join(fold(f"later changes of the hub need `lispctl refresh`: {failed}")))
    return wait_until_working(getattr(arguments, "socket", DEFAULT_SOCKET), arguments.timeout)


def wait_until_working(socket: str, timeout_s: float) -> int:
    """Wait, and print the state; returns the exit code."""
    from lispmob.lispctl.show.status import problems_lines

    until = time.monotonic() + timeout_s
    status: dict[str, Any] | None = None
    while True:
        try:
            with Client(socket) as client:
                status = client.call("status")
        except NotRunning:
            status = None
        if status is not None and status["state"] == "registered" and status.get("verdict") == "working":
            break
        if time.monotonic() >= until:
            break
        time.sleep(LOOK_S)
    if status is None:
        raise NotJoined("lispd does not run; why: sudo journalctl -u lispd -n 20", EXIT_NOT_RUNNING)
    code = EXIT_CODES.get(status.get("verdict", "working"), 1)
    if code == 0 and status["state"] != "registered":
        code = EXIT_CODES["not-working"]
    problems = status.get("problems", [])
    print("\n".join(fold(paint(clean(status.get("headline", status["state"])), "good" if code == 0 else "warn"))))
    print("\n".join(problems_lines(problems)), end="\n" if problems else "")
    if code:
        print("\n".join(fold(f"joined, and not working after {timeout_s:g} s ({plural(len(problems), 'problem')})")))
    return code


COMMAND = Command("join", "join a hub with an invitation; needs root", no_run, add_arguments, alone=run)
