"""A real dnsmasq, of the host or of a real NetworkManager, asks lispd once it is told to, and only so long."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet, why_unavailable
from tests.desktop.private_bus import wait_for
from tests.desktop.real_network_manager import RealNetworkManager, real_network_manager, why_no_network_manager
from tests.names.dns_programs import ASK, RESOLVER

pytestmark = pytest.mark.netns

DOMAIN = "lisp.home.arpa"
CONFIG = f"""eids: [10.1.0.1/32]
map-servers: [{{address: 198.51.100.1, key: a key}}]
routing: {{overlay-prefixes: [10.1.0.0/24]}}
names: {{domain: {DOMAIN}}}
"""
# lispd's DNS server at its loopback address, with one name; and a resolver for other names behind dnsmasq.
SERVE = """
import asyncio, sys
from ipaddress import ip_address, ip_network
from lispmob.names.server import NameServer
from lispmob.names.zone import Zone
from lispmob.protocol.effect import NameResolved

KNOWN = {
    b"nas": NameResolved(b"nas", (ip_address("10.1.0.2"),), "registered"),
    b"2.0.1.10.in-addr.arpa": NameResolved(b"", (), "", names=(b"nas",)),
}

async def find(name):
    return KNOWN.get(name, NameResolved(name, (), ""))

async def main():
    zone = Zone("lisp.home.arpa", [ip_network("10.1.0.0/24")])
    server = NameServer(zone, find, lambda asker: asker.is_loopback)
    await server.start([ip_address("127.0.99.53")], 5399)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


def ask(here: Namespace, name: str, kind: str = "A") -> str:
    argv = here.argv(sys.executable, "-c", ASK, "127.0.0.1", name, kind)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


@contextlib.contextmanager
def serving(here: Namespace, script: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        here.argv(sys.executable, "-c", script, *words), stdin=pipe, stdout=pipe, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def check_told(here: Namespace, lispd: subprocess.Popen[str]) -> None:
    """Our names come from lispd and others from elsewhere; after a crash of lispd the others still do, at once."""
    assert ask(here, f"nas.{DOMAIN}") == "NOERROR 10.1.0.2"
    assert ask(here, f"printer.{DOMAIN}") == "NXDOMAIN"
    assert ask(here, "2.0.1.10.in-addr.arpa", "PTR") == f"NOERROR nas.{DOMAIN}."
    assert ask(here, "www.example.net") == "NOERROR 192.0.2.77"

    lispd.kill()
    lispd.wait(10)
    began = time.monotonic()
    assert ask(here, "other.example.net") == "NOERROR 192.0.2.77"
    assert time.monotonic() - began < 3


@pytest.mark.skipif(why_unavailable() is not None, reason=why_unavailable() or "")
@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is missing: install dnsmasq-base")
def test_a_dnsmasq_of_the_host_finds_our_names_by_the_file_that_it_gets(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for directory in ("etc/dnsmasq.d", "run/dnsmasq"):
        (root / directory).mkdir(parents=True)
    (root / "proc").symlink_to("/proc")
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tmp_path / "lispd.conf").write_text(CONFIG)
    (tmp_path / "lispd.conf").chmod(0o600)
    tell = (
        "import sys; from pathlib import Path; from lispmob.joining.checking import wanted_names;"
        "from lispmob.names.host_resolver import HostResolver;"
        "wanted = wanted_names(Path(sys.argv[1]));"
        "done = HostResolver(Path(sys.argv[2]), lambda command: True).configure(wanted); print(done.kind.value)"
    )
    with NamespaceSet("d") as names:
        here = names.make("h")
        here.run("ip", "link", "set", "lo", "up")
        command = (
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            f"--conf-dir={root}/etc/dnsmasq.d",
            "--no-resolv",
            "--server=127.0.0.2",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--user=root",
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(serving(here, RESOLVER, "127.0.0.2"))
            lispd = stack.enter_context(serving(here, SERVE))

            def start() -> subprocess.Popen[bytes]:
                running = stack.enter_context(subprocess.Popen(here.argv(*command)))
                stack.callback(running.kill)
                (root / "run/dnsmasq/dnsmasq.pid").write_text(f"{running.pid}\n")
                wait_for(lambda: ask(here, "www.example.net") == "NOERROR 192.0.2.77", "it answers")
                return running

            first = start()
            assert ask(here, f"nas.{DOMAIN}") == "NOERROR 192.0.2.77", "not told yet: it asks anybody"
            told = subprocess.run(
                [sys.executable, "-c", tell, tmp_path / "lispd.conf", root], capture_output=True, text=True, check=True
            )
            first.kill()
            first.wait(10)
            start()

            assert told.stdout == "dnsmasq\n"
            check_told(here, lispd)


@pytest.mark.skipif(why_no_network_manager() is not None, reason=why_no_network_manager() or "")
@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is missing: install dnsmasq-base")
def test_networkmanagers_dnsmasq_is_told_by_one_command_and_given_back_by_another(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("# Generated by NetworkManager\nnameserver 127.0.0.1\n")
    (tmp_path / "lispd.conf").write_text(CONFIG)
    (tmp_path / "lispd.conf").chmod(0o600)
    mounts = (
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; mkdir -p /etc/NetworkManager/dnsmasq.d; "
        "mount -t tmpfs none /etc/NetworkManager/dnsmasq.d; "
        "echo user=root > /etc/NetworkManager/dnsmasq.d/lab.conf"  # the user `nobody` may not reach the bus of the test
    )
    with real_network_manager(tmp_path, dns="dnsmasq", mounts=mounts) as manager, NamespaceSet("u") as others:
        here, router = manager.namespace, others.make("r")
        here.run("ip", "link", "set", "lo", "up")
        here.run("ip", "link", "set", "far0", "netns", router.name)
        router.run("ip", "addr", "add", "192.168.90.1/24", "dev", "far0")
        router.run("ip", "link", "set", "far0", "up")
        manager.nmcli("con", "up", manager.add_uplink(0, "ipv4.dns", "192.168.90.1"))
        with serving(router, RESOLVER, "192.168.90.1"), serving(here, SERVE) as lispd:
            wait_for(lambda: ask(here, "www.example.net") == "NOERROR 192.0.2.77", "its dnsmasq answers")
            assert ask(here, f"nas.{DOMAIN}") == "NOERROR 192.0.2.77", "not told yet: it asks anybody"

            told = names(manager, "--configure", "-c", str(tmp_path / "lispd.conf"))
            wait_for(lambda: ask(here, f"nas.{DOMAIN}") == "NOERROR 10.1.0.2", "it asks lispd")
            again = names(manager, "--configure", "-c", str(tmp_path / "lispd.conf"))

            assert "NetworkManager's dnsmasq asks lispd for lisp.home.arpa" in told
            assert "already" in again
            check_told(here, lispd)
            assert "lispmob.conf" in names(manager, "--revert")
            wait_for(lambda: ask(here, f"nas.{DOMAIN}") == "NOERROR 192.0.2.77", "it asks anybody again")
            assert (tmp_path / "resolv.conf").read_text().startswith("# Generated by NetworkManager\n")


def names(manager: RealNetworkManager, *words: str) -> str:
    """`lispctl names`, as root of that host."""
    command = (sys.executable, "-m", "lispmob.lispctl.main", "names", *words)
    done = subprocess.run(
        manager.namespace.argv("nsenter", "-t", str(manager.pid), "-m", *command),
        env={**manager.bus.environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())
