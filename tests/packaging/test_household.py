"""README's first page, exactly as written, on clean machines: nine actions, `ssh nas`, out of the house.

A server, a laptop and a NAS, each on a network of its own behind one router; Debian 12, Debian 13, and Ubuntu 24.04.
No file is edited; what is typed is what README shows, and it is counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet
from tests.desktop.private_bus import wait_for
from tests.packaging.machine import BASES, ROOT, UBUNTU_KEYS, Machine, architecture, machine, why_no_machine
from tests.packaging.readme import blocks_of

log = logging.getLogger(__name__)
pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(why_no_machine() is not None, reason=why_no_machine() or ""),
]

SUITES: Final = ("bookworm", "trixie", "noble")
CHAPTER: Final = "Two machines and a server"
SERVER, EACH, USING, AFTER = range(4)
MOST_ACTIONS: Final = 9
FIREWALL: Final = 1
"""An action at the provider, which may filter: not needed in this test, and counted nevertheless."""
JOINED_WITHIN_S: Final = 30.0
LINES: Final = 150
STEP_S: Final = 0.1


class Household:
    """Three machines, and a router between their networks."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, suite: str, package: Path) -> None:
        namespaces = stack.enter_context(NamespaceSet("h"))
        self.net = namespaces.make("n")
        self.net.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.actions: list[str] = []
        self.machines: dict[str, Machine] = {}
        for number, name in enumerate(("server", "laptop", "nas")):
            namespace = namespaces.make(f"m{number}")
            if name == "server":
                self.attach(namespace, "eth0", "198.51.100.1", "198.51.100.254")
            else:
                self.attach(namespace, "wlan0", f"203.0.113.{number * 16 + 2}", f"203.0.113.{number * 16 + 1}", 28)
            place = directory / name
            place.mkdir()
            box = stack.enter_context(machine(namespace, place, f"household-{suite}"))
            box.put(f"/root/{package.name}", package.read_bytes())
            self.machines[name] = box
        # What a user of ssh has: a key, which the other machine knows.
        laptop, nas = self.machines["laptop"], self.machines["nas"]
        laptop.sh("mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        laptop.put("/root/.ssh/config", "Host *\n  StrictHostKeyChecking accept-new\n  BatchMode yes\n")
        nas.sh("mkdir -p -m 700 /root/.ssh; hostname nas")
        nas.put("/root/.ssh/authorized_keys", laptop.sh("cat /root/.ssh/id_ed25519.pub"))

    def attach(
        self, namespace: Namespace, device: str, address: str, gateway: str, length: int = 24, metric: int = 100
    ) -> None:
        """A network with this machine in it."""
        far = f"{namespace.name[-5:]}{device[-5:]}"
        namespace.run("ip", "link", "add", device, "type", "veth", "peer", "name", far, "netns", self.net.name)
        self.net.run("ip", "addr", "add", f"{gateway}/{length}", "dev", far)
        self.net.run("ip", "link", "set", far, "up")
        namespace.run("ip", "addr", "add", f"{address}/{length}", "dev", device)
        namespace.run("ip", "link", "set", device, "up")
        namespace.run("ip", "route", "add", "default", "via", gateway, "metric", str(metric))

    def type(self, name: str, command: str) -> str:
        """Type one line of README on one machine: an action."""
        self.actions.append(f"{name}# {command}")
        return self.machines[name].sh(f"cd /root; {command}", timeout_s=300.0)


@pytest.fixture(params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    if request.param == "noble" and not UBUNTU_KEYS.exists():
        pytest.skip(f"{UBUNTU_KEYS} is missing, the keys of Ubuntu's archive; another file: KEYRING=")
    return str(request.param)


@pytest.fixture
def household(tmp_path: Path, suite: str, request: pytest.FixtureRequest) -> Iterator[Household]:
    with contextlib.ExitStack() as stack:
        yield Household(stack, tmp_path, suite, package_for(suite, request))


def package_for(suite: str, request: pytest.FixtureRequest) -> Path:
    """The .deb of a Debian: built here where this is that one, otherwise in a clean root of it.

    DEBS=dist takes what `make debs` has made there.
    """
    if (made := os.environ.get("DEBS")) is not None:
        (found,) = (Path(made) / suite).glob(f"lispmob_*_{architecture()}.deb")
        return found
    if f"VERSION_CODENAME={suite}" in Path("/etc/os-release").read_text():
        built: Path = request.getfixturevalue("package")
        return built
    out = BASES / "debs"
    command = [str(ROOT / "packaging" / "build_debs.sh"), str(out), architecture(), "--", suite]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    (found,) = (out / suite).glob(f"lispmob_*_{architecture()}.deb")
    return found


def test_the_first_page_of_readme_leads_from_nothing_to_a_session_that_goes_on_outside(household: Household) -> None:
    blocks = blocks_of(CHAPTER)
    lines: dict[str, str] = {}

    for command in blocks[SERVER]:
        said = household.type("server", command)
        if command.startswith("lisphub invite"):
            lines[command.split()[-1]] = next(word for word in said.split() if word.startswith("LISP-1-"))
    assert set(lines) == {"laptop", "nas"}
    for name, line in lines.items():
        for command in blocks[EACH]:
            began = time.monotonic()
            said = household.type(name, re.sub(r"\bLINE\b", line, command))
            if command.startswith("lispctl join"):
                took_s = time.monotonic() - began
                log.info("%s: lispctl join took %.2f s, until it works", name, took_s)
                assert took_s < JOINED_WITHIN_S
                assert "working" in said

    assert len(household.actions) + FIREWALL <= MOST_ACTIONS, household.actions
    check_ssh(household, blocks[USING])
    walk_out_of_the_house(household, blocks[USING][0])
    for command in blocks[AFTER]:
        assert household.machines["laptop"].sh(command).strip(), command
    assert "nas" in household.machines["laptop"].sh("lispctl peers")
    check_modes(household)


def check_ssh(household: Household, commands: list[str]) -> None:
    """By name, by the full name, and back from the address."""
    laptop = household.machines["laptop"]
    (ssh,) = commands
    wait_for(lambda: laptop.sh("getent hosts nas", must=False) != "", "the name is known", 20)
    assert laptop.sh(f"echo hostname | {ssh}").strip().endswith("nas")
    eid = laptop.sh("getent ahostsv4 nas").split()[0]
    assert laptop.sh("getent ahostsv4 nas.lisp.home.arpa").split()[0] == eid
    assert "nas.lisp.home.arpa" in laptop.sh(f"getent hosts {eid}")


def walk_out_of_the_house(household: Household, ssh: str) -> None:
    """A session that writes ten lines a second, while Wi-Fi goes and another network comes."""
    laptop = household.machines["laptop"]
    household.attach(laptop.namespace, "wwan0", "192.0.2.2", "192.0.2.1", metric=600)
    with laptop.started(ssh) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(f"for i in $(seq {LINES}); do echo line $i; sleep {STEP_S}; done; exit\n")
        session.stdin.flush()
        heard: list[str] = []
        while (said := session.stdout.readline()) and f"line {LINES}\n" != said:
            heard += [said.strip()] if said.startswith("line ") else []
            if len(heard) == LINES // 3:
                laptop.namespace.run("ip", "link", "set", "wlan0", "down")
    assert heard == [f"line {number}" for number in range(1, LINES)]
    assert "wwan0" in laptop.sh("lispctl uplinks")


def check_modes(household: Household) -> None:
    """Files with keys are readable for root and the service only."""
    for name, path in (("server", "/etc/lispmob/hub.conf"), ("laptop", "/etc/lispmob/lispd.conf")):
        assert household.machines[name].sh(f"stat -c '%U:%G %a' {path}").strip() == "root:lispmob 640"
