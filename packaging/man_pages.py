"""Write the manual pages from the programs' own help and the commented configurations: they cannot disagree.

man_pages.py DIRECTORY
    (DIRECTORY/lispd.8, lisphub.8, lispctl.1, lispflow.1, lig.1, lisp-echo.1, lispmob-indicator.1, lispd.conf.5,
    hub.conf.5)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
WIDTH: Final = 73  # of what man indents by seven columns on a screen of eighty
LEAST: Final = 25  # of what stands behind a key
DATE: Final = "2026-11"  # of the texts below; not of the build, which is to be reproducible


@dataclass(frozen=True, slots=True)
class Program:
    """A command, the module that runs it, and what its help does not say."""

    name: str
    section: int
    module: str
    summary: str
    more: str
    see: str
    has_subcommands: bool = False


PROGRAMS: Final = (
    Program(
        "lispd",
        8,
        "lispmob",
        "LISP mobile node",
        "It keeps the host's EIDs, its lasting addresses, reachable over whatever networks it is attached to: it "
        "watches the uplinks, registers with Map-Servers, and moves packets between lmn0 and the uplinks.\n.PP\n"
        "SIGTERM withdraws the registration and gives the host its routes back. SIGHUP reads the configuration again.\n"
        ".SH EXIT STATUS\n0 stopped; 1 failed; 77 a permission is missing; 78 the configuration has errors.\n"
        ".SH FILES\n.I /etc/lispmob/lispd.conf\n.br\n.I /run/lispmob/lispd.sock\n.br\n.I /var/lib/lispmob/",
        "lispctl(1), lispd.conf(5), lisphub(8)",
    ),
    Program(
        "lisphub",
        8,
        "lispmob.hub.cli.main",
        "LISP Map-Server, Map-Resolver and proxy",
        "The hub of mobile nodes, for a machine that is always on and has a public address.\n.PP\n"
        "Without a command it runs the hub, as systemd starts it. The commands query the running hub. They are for "
        "root and the members of the group lispmob.\n.PP\n"
        "SIGHUP reads the configuration again; SIGUSR1 logs the counters.\n"
        ".SH EXIT STATUS\n0 stopped, or done; 1 failed, or the hub refused; 2 wrong usage; 3 lisphub is not running; "
        "4 status: there is a problem; 77 a permission is missing; 78 the configuration has errors; 130 interrupted. "
        "With \\fB--json\\fR \\fBstatus\\fR always ends with 0, since the output says it.\n"
        ".SH FILES\n.I /etc/lispmob/hub.conf\n.br\n.I /etc/lispmob/sites.d/*.conf\n.br\n"
        ".I /var/lib/lispmob/hub.sqlite\n.br\n.I /var/lib/lispmob/hub\\-sites.sqlite\n.br\n"
        ".I /run/lisphub/lisphub.sock",
        "lispctl(1), lispd(8), hub.conf(5)",
        has_subcommands=True,
    ),
    Program(
        "lispctl",
        1,
        "lispmob.lispctl.main",
        "show and control a running lispd",
        "Every user may read the state; root and the members of the group lispmob may change it.\n"
        ".SH EXIT STATUS\n0 done; 1 the daemon refused; 2 wrong usage; 3 lispd is not running; 130 interrupted.\n"
        ".PP\n\\fBstatus\\fR: 0 working; 4 degraded, a part does not work; "
        "5 not working; with \\fB--json\\fR always 0, since the output says it. \\fBwait\\fR ends with 6 at its "
        "timeout, \\fBreplay\\fR with 7 when the core does something else than in the recording, "
        "\\fBbelieved\\fR with 8 when a Map-Resolver or a correspondent has another mapping of ours.\n"
        ".PP\n\\fBrun\\fR ends with the exit status of its command; 126: not executable; 127: it does not exist.\n"
        ".PP\n\\fBconfig\\fR needs no lispd: 0 done; 1 it could not be done; 4 converted, but some settings need your "
        "attention; 78 the file has mistakes.\n"
        ".PP\n\\fBjoin\\fR needs no lispd either; its exit codes are listed below.\n"
        ".SH FILES\n.I /run/lispmob/lispd.sock",
        "lispd(8), lispflow(1), lig(1), lisp\\-echo(1)",
        has_subcommands=True,
    ),
    Program(
        "lispflow",
        1,
        "lispmob.flow.cli",
        "flows to names: UDP sockets between EIDs, by name",
        "A flow goes on when either machine moves to another network. lispd has to run on both machines, with\n"
        ".B flows: {enabled: yes}\nin its configuration.\n"
        ".SH EXIT STATUS\n0 done; 1 no flow, with the reason; 2 wrong usage; 3 lispd does not serve flows here; "
        "130 interrupted; with a command, the command's own.\n"
        ".SH FILES\n.I /run/lispmob/flow.sock",
        "lispd(8), lispd.conf(5)",
        has_subcommands=True,
    ),
    Program(
        "lig",
        1,
        "lispmob.tools.lig",
        "ask the mapping system where an EID is",
        "It needs neither lispd nor root: the answer comes to the UDP port that the request left from. All resolvers "
        "are asked at once. If none answers, it says what came instead.\n"
        ".SH EXIT STATUS\n0 every EID has a mapping with locators; 1 no answer for an EID; 2 wrong usage; "
        "3 no EID or Map-Resolver to ask: lispd does not run, and you may not read lispd.conf; 4 answered, but an EID "
        "has no locators; 130 interrupted.\n"
        ".SH FILES\n.I /run/lispmob/lispd.sock\n.br\n.I /etc/lispmob/lispd.conf",
        "lispctl(1), lisp\\-echo(1), lispd(8)",
    ),
    Program(
        "lisp-echo",
        1,
        "lispmob.tools.echo_cli",
        "measure what gets through between two EIDs",
        "On one machine \\fBlisp\\-echo server\\fR; on the other \\fBlisp\\-echo client\\fR and the EID of the first.\n"
        ".SH EXIT STATUS\n0 everything was answered; 1 nothing was answered, or it could not start; 2 wrong usage; 4 a "
        "part was lost; 130 interrupted before anything was sent. The server ends with 0 when it is told to.\n"
        ".SH FILES\n.I /run/lispmob/lispd.sock\n.br\n.I /etc/lispmob/lispd.conf",
        "lig(1), lispctl(1), lispd(8)",
        has_subcommands=True,
    ),
    Program(
        "lispmob-indicator",
        1,
        "lispmob.desktop.main",
        "show the state of lispd in the panel of a desktop",
        "An icon and a menu with the state of the overlay, the uplink, the peers, the last move and its cost, and "
        "problems with their remedies. It leaves the overlay and comes back as \\fBlispctl "
        "down\\fR and \\fBlispctl up\\fR do. Notifications of moves and problems can be switched off in the menu.\n"
        ".SH EXIT STATUS\n0 quit; 2 wrong usage; 69 there is no session bus.\n"
        ".SH FILES\n.I ~/.config/lispmob/indicator.json\n.br\n.I ~/.config/autostart/lispmob\\-indicator.desktop",
        "lispctl(1), lispd(8)",
    ),
)

CONFIGURATIONS: Final = (
    ("lispd.conf", "configuration of lispd", "lispd(8), lispctl(1)"),
    ("hub.conf", "configuration of lisphub", "lisphub(8)"),
)


def escape(text: str) -> str:
    """Plain text as roff takes it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in text.splitlines())


def folded(text: str) -> str:
    """A commented configuration in lines that fit; what stands behind a key stays behind it."""
    return "\n".join(line for long in text.splitlines() for line in _folded(long))


def _folded(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    if line.endswith("-----"):
        title = line.rstrip("-").rstrip()
        return [line[:WIDTH]] if len(title) <= WIDTH else _folded(title)
    at = line.find(" # ", 1) + 1
    if at and at < WIDTH - LEAST:
        margin = ("#" if line.startswith("#") else " ") + " " * (at - 1) + "# "
        first, *rest = textwrap.wrap(line[at + 2 :], WIDTH - at - 2, break_on_hyphens=False)
        return [f"{line[:at]}# {first}", *(margin + more for more in rest)]
    if at:
        indent = line[: len(line) - len(line.lstrip(" "))]
        return [*_folded(f"{indent}# {line[at + 2 :]}"), line[:at].rstrip()]
    head = re.match(r" *#? *(?:- )?", line)
    assert head is not None, "it matches nothing, too"
    margin = re.sub("-", " ", head[0])
    return textwrap.wrap(line, WIDTH, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False)


def verbatim(text: str) -> str:
    """Lines as they are."""
    return f".nf\n{escape(text.rstrip())}\n.fi\n"


def help_of(module: str, *words: str) -> str:
    """What `--help` of the installed program prints; from /, so that no source tree is taken for it."""
    environment = {**os.environ, "COLUMNS": str(WIDTH + 2), "NO_COLOR": "1"}
    command = [sys.executable, "-m", module, *words, "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd="/")
    return "\n".join(part for line in done.stdout.splitlines() for part in _fitting(line)) + "\n"


def _fitting(line: str) -> list[str]:
    """argparse never breaks a usage that a program wrote, nor a list of choices."""
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")) + 4)
    return textwrap.wrap(line.replace(",", ", ") if " " not in line.strip() else line, WIDTH, subsequent_indent=indent)


def subcommands_of(help_text: str) -> list[str]:
    """The words that argparse lists, indented by four, under its positional arguments."""
    inside, found = False, []
    for line in help_text.splitlines():
        if line.startswith("positional arguments"):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and line.startswith("    ") and line[4:5].isalpha():
            found.append(line.split()[0])
    return found


def subcommand(module: str, *words: str) -> list[str]:
    """The section about a subcommand, and those about its own."""
    text = help_of(module, *words)
    own = [section for word in subcommands_of(text) for section in subcommand(module, *words, word)]
    return [f".SS {' '.join(words)}\n{verbatim(text)}", *own]


def page(program: Program) -> str:
    """One command's page."""
    text = help_of(program.module)
    usage, _, rest = text.partition("\n\n")
    if not usage.startswith("usage: "):
        raise SystemExit(f"{program.module} --help prints no usage: {text[:200]!r}")
    parts = [
        f'.TH {program.name.upper()} {program.section} "{DATE}" "lispmob"\n',
        f".SH NAME\n{escape(program.name)} \\- {escape(program.summary)}\n",
        f".SH SYNOPSIS\n{verbatim(usage.removeprefix('usage: '))}",
        f".SH DESCRIPTION\n{verbatim(rest)}.PP\n{program.more}\n",
    ]
    if program.has_subcommands:
        parts.append(".SH COMMANDS\n")
        parts += [section for word in subcommands_of(text) for section in subcommand(program.module, word)]
    parts.append(f".SH SEE ALSO\n{program.see}\n")
    return "".join(parts)


def configuration_page(name: str, summary: str, see: str) -> str:
    """The shipped file, which explains itself."""
    text = (ROOT / "conf" / name).read_text("utf-8")
    return (
        f'.TH {name.upper()} 5 "{DATE}" "lispmob"\n.SH NAME\n{name} \\- {summary}\n'
        f".SH DESCRIPTION\nThe file as it is shipped, every key with its default.\n.PP\n{verbatim(folded(text))}"
        f".SH SEE ALSO\n{see}\n"
    )


def main(directory: Path) -> None:
    """Write all pages."""
    directory.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        (directory / f"{program.name}.{program.section}").write_text(page(program), "utf-8")
    for name, summary, see in CONFIGURATIONS:
        (directory / f"{name}.5").write_text(configuration_page(name, summary, see), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
