"""README's chapter about laptops, followed exactly on a Debian that has just been installed.

A user who may use sudo types the commands as they are there. What comes from the Internet comes from the host's
network; everything else happens on a machine one hop away from a hub, with only what the commands have installed.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Daemon, module
from tests.desktop.private_bus import wait_for
from tests.packaging.machine import ROOT, Machine, connect, machine, why_no_machine
from tests.packaging.readme import blocks_of

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_no_machine() is not None, reason=why_no_machine() or ""),
]

EID: Final = "10.1.0.1"
KEY: Final = "what the operator of the Map-Server gave us"
TREE: Final = "/home/anna/lispmob"
BUILDING, USING, WITHOUT_A_PACKAGE = range(3)
_FETCHING: Final = ("apt-get install", "make deb", "pip install")
NAS: Final = "10.1.0.2"
_HUB: Final = f"""sites:
  - {{name: anna, eids: [{EID}/32], key: {KEY}}}
  - {{name: nas, eids: [{NAS}/32], key: that of the nas}}
"""
_NAS: Final = f"""eids: [{NAS}/32]
map-servers: [{{address: 198.51.100.1, key: that of the nas}}]
routing: {{overlay-prefixes: [10.1.0.0/16]}}
dbus: no
"""
# What a user does in the editor: the first three entries, and where the other EIDs are.
_EDITOR: Final = f"""#!/bin/sh
exec sed -i -e 's|^  - 192.0.2.7/32$|  - {EID}/32|' -e 's|^    key: CHANGE-ME$|    key: {KEY}|' \\
  -e 's|^# routing:$|routing: {{overlay-prefixes: [10.1.0.0/16]}}|' "$@"
"""


class Anna:
    """A user with a laptop."""

    def __init__(self, laptop: Machine) -> None:
        self.laptop = laptop
        laptop.sh("useradd -m -s /bin/bash anna && echo 'anna ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/anna")
        laptop.put("/usr/local/bin/editor-of-anna", _EDITOR)
        laptop.sh("chmod 755 /usr/local/bin/editor-of-anna")

    def clones(self) -> None:
        """The tree as git has it, with changes that are not committed yet."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=60,
        )
        packed = subprocess.run(
            ["tar", "-c", "--null", "--ignore-failed-read", "-T", "-"],
            cwd=ROOT,
            input=listed.stdout,
            capture_output=True,
            check=True,
            timeout=60,
        )
        self.laptop.put("/srv/tree.tar", packed.stdout)
        self.laptop.sh(f"runuser -u anna -- sh -ec 'mkdir {TREE}; tar -C {TREE} -xf /srv/tree.tar'")

    def types(self, command: str, *, must: bool = True) -> str:
        """Type one line of README, in the tree."""
        needs_internet = any(word in command for word in _FETCHING)
        if needs_internet and "apt-get" in command:
            self.laptop.sh_outside("apt-get update")
        self.laptop.put("/srv/line", f"cd {TREE}\n{command}\n")
        script = "runuser -u anna -- env HOME=/home/anna EDITOR=editor-of-anna bash -e /srv/line"
        if needs_internet:
            return self.laptop.sh_outside(script)
        return self.laptop.sh(script, must=must)

    def status(self) -> dict[str, object]:
        """The answer of `lispctl --json status`; empty while no daemon answers."""
        shown = self.types(f"{self.lispctl} --json status", must=False)
        found: dict[str, object] = json.loads(shown) if shown else {}
        return found

    lispctl = "lispctl"


@pytest.fixture
def anna(tmp_path: Path) -> Iterator[Anna]:
    with contextlib.ExitStack() as stack:
        namespaces = stack.enter_context(NamespaceSet())
        hub, home = namespaces.make("hub"), namespaces.make("laptop")
        connect(hub, home)
        nas = namespaces.make("nas")
        connect_nas(hub, nas)
        own = f"state-file: none\ncontrol-socket: {tmp_path}/lisphub.sock\n"
        (tmp_path / "hub.conf").write_text(_HUB + own, encoding="ascii")
        (tmp_path / "hub.conf").chmod(0o600)
        serving = module("lispmob.hub.daemon", "-c", str(tmp_path / "hub.conf"))
        stack.enter_context(Daemon("hub", hub, serving, tmp_path / "hub.log"))
        here = f"control: {{socket: {tmp_path}/nas.sock}}\nstate-dir: {tmp_path}/nas\n"
        (tmp_path / "nas").mkdir()
        (tmp_path / "nas.conf").write_text(_NAS + here, encoding="ascii")
        (tmp_path / "nas.conf").chmod(0o600)
        stack.enter_context(
            Daemon("nas", nas, module("lispmob", "-c", str(tmp_path / "nas.conf")), tmp_path / "nas.log")
        )
        one = Anna(stack.enter_context(machine(home, tmp_path, "bare")))
        one.clones()
        yield one


def connect_nas(hub: Namespace, nas: Namespace) -> None:
    """Another link, by way of the hub's machine."""
    hub.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    hub.run("ip", "link", "add", "far1", "type", "veth", "peer", "name", "eth0", "netns", nas.name)
    hub.run("ip", "addr", "add", "203.0.113.1/24", "dev", "far1")
    hub.run("ip", "link", "set", "far1", "up")
    nas.run("ip", "addr", "add", "203.0.113.2/24", "dev", "eth0")
    nas.run("ip", "link", "set", "eth0", "up")
    nas.run("ip", "route", "add", "default", "via", "203.0.113.1")


def test_the_package_is_built_installed_configured_used_and_purged_as_readme_says(anna: Anna) -> None:
    building, using = (blocks_of("On a laptop")[number] for number in (BUILDING, USING))
    for command in building:
        anna.types(command)

    wait_for(lambda: anna.status().get("state") == "registered", "registered by what README says", 30.0)
    for command in using:
        has_no_end = "--follow" in command or command.endswith("watch")
        shown = anna.types(f"timeout 3 {command} || test $? = 124" if has_no_end else command)
        assert shown.strip() or "--follow" in command, command
    assert "enabled" in anna.types("systemctl is-enabled lispd")
    assert EID in anna.types("lispctl status")

    anna.types("sudo apt-get purge -y lispmob")
    names = " -o ".join(f"-name '{name}'" for name in ("*lispmob*", "lispd", "lispd.*", "lisphub*", "lispctl*"))
    left = anna.laptop.sh(
        f"find / -xdev \\( -path /proc -o -path /home/anna -o -path /srv \\) -prune -o \\( {names} \\) -print"
    )
    assert [line for line in left.splitlines() if not line.startswith(("/var/cache/", "/var/log/"))] == []
    assert "lmn0" not in anna.laptop.sh("cat /proc/net/dev")


def test_without_a_package_it_runs_from_a_virtual_environment_as_readme_says(anna: Anna) -> None:
    commands = blocks_of("On a laptop")[WITHOUT_A_PACKAGE]
    *preparing, running = commands
    for command in preparing:
        anna.types(command)
    anna.lispctl = "/opt/lispmob/bin/lispctl"

    anna.types(f"sh -c 'echo $$ >/home/anna/pid; exec {running}' >/home/anna/lispd.log 2>&1 &")
    wait_for(lambda: anna.status().get("state") == "registered", "registered by what README says", 30.0)
    anna.types("sudo bash -c 'kill -TERM $(cat /home/anna/pid)'")
    wait_for(lambda: "lmn0" not in anna.laptop.sh("cat /proc/net/dev"), "its device is gone", 10.0)
