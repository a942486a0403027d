"""lispctl config: checks and converts configuration files, ours and those of other programs. It needs no lispd."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lispmob.lispctl.command import Command, common_options, no_run

_DEFAULT = "/etc/lispmob/lispd.conf"
_OLD = "LISPmob's, Open Overlay Router's (also OpenWrt's and Android's) or lispers.net's"


def add_arguments(parser: ArgumentParser) -> None:
    """Actions of this command."""
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    common = [common_options()]
    convert = actions.add_parser("convert", parents=common, help="write lispd.conf or hub.conf from an old file")
    convert.add_argument("file", metavar="FILE", help=_OLD)
    convert.add_argument(
        "-o", "--output", metavar="FILE", help="write it there, and each key into a file beside it (default: print it)"
    )
    convert.add_argument("--force", action="store_true", help="replace files that are there")
    convert.add_argument(
        "--key-file",
        action="append",
        default=[],
        metavar="SERVER=PATH",
        help="the file with the key for a Map-Server (for a site: its EID-Prefix); needed where the old key is refused",
    )
    convert.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="NAME=ADDRESS",
        help="what a host name in the file stands for (default: what DNS says now)",
    )
    check = actions.add_parser(
        "check", parents=common, help="list all mistakes of a file, in the present or an old format"
    )
    show = actions.add_parser("show", parents=common, help="print it as it takes effect, with defaults, without keys")
    for action in (check, show):
        action.add_argument("file", nargs="?", default=_DEFAULT, metavar="FILE", help=f"default: {_DEFAULT}")


def run(arguments: Namespace) -> int:
    """Do one action."""
    from lispmob.convert import command  # late: it reads configurations, which costs more than all of lispctl

    actions = {"convert": command.run_convert, "check": command.run_check, "show": command.run_show}
    return actions[arguments.action](arguments)


COMMAND = Command(
    "config", "convert, check or show a configuration file; without lispd", no_run, add_arguments, alone=run
)
