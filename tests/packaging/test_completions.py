"""Completion in real shells: uplinks, EIDs and names come from the running lispd, each time again."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISPCTL = """#!/bin/sh
case "$*" in
"words peers") cat {known} ;;
"words uplinks") printf 'wlan0\\nwwan0\\n' ;;
esac
"""


class Shells:
    """The completion files, and a lispctl that knows some words."""

    def __init__(self, directory: Path) -> None:
        self.files, self.known = directory / "files", directory / "known"
        command = [sys.executable, "-P", str(ROOT / "packaging" / "completions.py"), str(self.files)]
        subprocess.run(command, check=True, timeout=60)
        program = directory / "bin" / "lispctl"
        program.parent.mkdir()
        program.write_text(LISPCTL.format(known=self.known))
        program.chmod(0o755)
        hub = directory / "bin" / "lisphub"
        hub.write_text("#!/bin/sh\n[ \"$*\" = words ] && printf 'laptop\\nlamp\\n'\n")
        hub.chmod(0o755)
        self.known.write_text("nas\n10.99.0.2\n")
        self.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(directory), "TERM": "dumb"}

    def says(self, *command: str) -> list[str]:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.split()

    def typed(self, command: list[str], *lines: str, wanted: str) -> str:
        """What a terminal shows after these lines, of which the last one ends with a tab."""
        terminal, end = pty.openpty()
        shell = subprocess.Popen(
            command, env=self.environment, stdin=end, stdout=end, stderr=end, start_new_session=True
        )
        os.close(end)
        shown = ""
        deadline = time.monotonic() + 20
        try:
            for line in lines:
                os.write(terminal, f"{line}\n".encode() if line != lines[-1] else f"{line}\t".encode())
            while wanted not in shown.rpartition("READY")[2] and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.2)[0]:
                    shown += os.read(terminal, 4096).decode(errors="replace")
        finally:
            shell.kill()
            shell.wait(10)
            os.close(terminal)
        return shown.rpartition("READY")[2]


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Shells:
    return Shells(tmp_path_factory.mktemp("shells"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("lispctl", "peers", ""), {"nas", "10.99.0.2"}),
        (("lispctl", "ping", "na"), {"nas"}),
        (("lispctl", "rehearse", "--lose", ""), {"wlan0", "wwan0"}),
        (("lispctl", "run", "--via", "ww"), {"wwan0"}),
        (("lispctl", "pe"), {"peers"}),
        (("lisphub", "revoke", "la"), {"laptop", "lamp"}),
        (("lisphub", "renumber", "lap"), {"laptop"}),
        (("lisphub", "invite", "la"), set()),
        (("lisphub", "ren"), {"renumber"}),
    ],
)
def test_bash_completes_commands_uplinks_names_and_eids(
    shells: Shells, words: tuple[str, ...], found: set[str]
) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"source {shells.files}/{words[0]}.bash; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        f"_shtab_{words[0]} {words[0]} '{words[-1]}' '{words[-2]}'; echo \"${{COMPREPLY[@]}}\""
    )

    assert set(shells.says("bash", "-c", script)) == found


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is missing: install the Debian package fish")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lispctl peers ", {"nas", "10.99.0.2"}),
        ("lispctl rehearse --lose w", {"wlan0", "wwan0"}),
        ("lisphub revoke l", {"laptop", "lamp"}),
    ],
)
def test_fish_completes_uplinks_names_and_eids(shells: Shells, line: str, found: set[str]) -> None:
    shown = shells.says("fish", "-c", f"source {shells.files}/{line.split()[0]}.fish; complete -C '{line}'")

    assert found <= set(shown)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is missing: install the Debian package zsh")
def test_zsh_completes_what_there_is_now_and_not_what_there_was(shells: Shells) -> None:
    setup = f"PS1=; fpath=({shells.files} $fpath); autoload -U compinit; compinit -u -D; echo READY"

    first = shells.typed(["zsh", "-f", "-i"], setup, "lispctl peers na", wanted="nas")
    shells.known.write_text("printer\n")
    second = shells.typed(["zsh", "-f", "-i"], setup, "lispctl peers pri", wanted="printer")
    shells.known.write_text("nas\n10.99.0.2\n")

    assert "nas" in first
    assert "printer" in second
    assert "(lispctl words" not in (shells.files / "_lispctl").read_text().replace("\\$(", "")
