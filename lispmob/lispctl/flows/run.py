"""lispctl run: run a command over an uplink, with fail-over.

The command gets its own control group, and lispd a rule for that group, ahead of the configured ones; the rule is
removed when the last process ends. A control group needs no support by the program, includes its children, and cannot
be left by closing a descriptor or by becoming another user. systemd creates it where it runs; elsewhere lispd does.
"""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Mapping

from lispmob.api.client import Client, ReplyError
from lispmob.errors import LispError
from lispmob.lispctl.command import Command
from lispmob.lispctl.flows.why import own_cgroup
from lispmob.terminal.text import clean

_SCOPED = "LISPCTL_RUN_IN_SCOPE"
_SYSTEMD = "/run/systemd/system"


class CannotRun(LispError):
    """The command was not started; the text says why, and how to mend it. The exit codes are those of shells."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.epilog = "example: lispctl run --via 'wwan*' -- rsync -a photos/ backup:photos/"
    via_help = "uplink or pattern; repeatable: the first that exists is used"
    parser.add_argument("--via", metavar="UPLINK", action="append", required=True, help=via_help)
    drop_help = "send nothing if none of them exists (default: priority and weight decide)"
    parser.add_argument("--or-drop", action="store_true", help=drop_help)
    parser.add_argument("argv", nargs=REMAINDER, metavar="-- COMMAND", help="the command and its arguments")


def check(arguments: Namespace) -> None:
    """Check that there is a command that can be executed. Raises CannotRun."""
    import shutil

    argv = _command(arguments)
    if not argv:
        raise CannotRun("which command? lispctl run --via wlan0 -- COMMAND", 2)
    if shutil.which(argv[0]) is None:
        is_there = "/" in argv[0] and os.path.exists(argv[0])
        raise CannotRun(*((f"{argv[0]}: not executable", 126) if is_there else (f"{argv[0]}: no such command", 127)))


def _command(arguments: Namespace) -> list[str]:
    words: list[str] = arguments.argv
    return words[1:] if words[:1] == ["--"] else words


def run(client: Client, arguments: Namespace) -> int:
    """Replace this process by the command. Returns only on failure."""
    import shutil  # 10 ms, spent by this command only

    argv = _command(arguments)
    if os.environ.get(_SCOPED) is None and os.path.isdir(_SYSTEMD) and shutil.which("systemd-run") is not None:
        client.close()
        if os.geteuid() and not has_session_bus(os.environ, os.geteuid()):
            raise CannotRun(
                "systemd has no session for this user, which the command's control group would be part of; "
                f"log in as one, or: sudo loginctl enable-linger {os.environ.get('USER', '$USER')}, or use sudo"
            )
        return _become(scope_command(sys.argv, os.geteuid()), {**os.environ, _SCOPED: "1"})
    environment = dict(os.environ)
    params: dict[str, object] = {"via": arguments.via, "name": os.path.basename(argv[0])}
    if arguments.or_drop:
        params["otherwise"] = "drop"
    if environment.pop(_SCOPED, None) is not None:
        params["cgroup"] = _scope()
    try:
        made = client.call("run", **params)
    except ReplyError as error:
        raise CannotRun(f"the command was not started: {error}") from None
    if not made["uplinks"] and not arguments.json:
        then = "nothing is sent until one is" if arguments.or_drop else "priority and weight decide until one is"
        print(f"lispctl: none of {clean(', '.join(arguments.via))} is an uplink now: {then}", file=sys.stderr)
    client.close()
    return _become(argv, environment)


def has_session_bus(environment: Mapping[str, str], uid: int) -> bool:
    """True when `systemd-run --user` finds the user's own systemd."""
    runtime = environment.get("XDG_RUNTIME_DIR", f"/run/user/{uid}")
    return "DBUS_SESSION_BUS_ADDRESS" in environment or os.path.exists(f"{runtime}/bus")


def scope_command(argv: list[str], uid: int) -> list[str]:
    """This command line again, in a transient scope of systemd: the user's own, which needs no privilege."""
    whose = [] if uid == 0 else ["--user"]
    program = [sys.executable, "-m", "lispmob.lispctl.main"] if argv[0].endswith(".py") else [argv[0]]
    return ["systemd-run", *whose, "--scope", "--collect", "--quiet", "--", *program, *argv[1:]]


def _scope() -> str:
    found = own_cgroup()
    if found is None or not found.endswith(".scope"):
        raise CannotRun("systemd-run gave no scope; is the unified control group hierarchy mounted?")
    return found


def _become(argv: list[str], environment: dict[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 -- the user's own command, as the user
    except OSError as error:
        raise CannotRun(f"{argv[0]}: {error.strerror}", 126) from None


COMMAND = Command("run", "run a command over an uplink, with fail-over", run, add_arguments, check)
