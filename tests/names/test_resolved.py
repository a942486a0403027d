"""What systemd-resolved is told, and when: a bus in memory, and a real resolved where it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest

from lispmob.bus.connection import BusError, Connection
from lispmob.lab.namespace import NamespaceSet
from lispmob.names.resolved import NAME, LinkNames, Resolved
from tests.desktop.private_bus import PrivateBus, why_no_bus

LINK = LinkNames(7, ip_address("10.1.0.1"), 5399, "lisp.home.arpa", ("1.10.in-addr.arpa",))
TOLD = [
    ("SetLinkDNSEx", (7, [[2, b"\x0a\x01\x00\x01", 5399, ""]])),
    ("SetLinkDomains", (7, [["lisp.home.arpa", False], ["1.10.in-addr.arpa", True]])),
    ("SetLinkDefaultRoute", (7, False)),
    ("SetLinkLLMNR", (7, "no")),
    ("SetLinkMulticastDNS", (7, "no")),
    ("SetLinkDNSSEC", (7, "no")),
    ("SetLinkDNSOverTLS", (7, "no")),
]


class Bus:
    """A connection that records the calls."""

    def __init__(self, refusal: BusError | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.followed: list[str] = []
        self.refusal = refusal

    async def follow(self, name: str) -> None:
        self.followed.append(name)

    async def call(self, _name: str, _path: str, _interface: str, member: str, _signature: str, *body: Any) -> None:
        self.calls.append((member, body))
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal


def run(do: Callable[[Resolved, Bus], Awaitable[None]], refusal: BusError | None = None) -> Bus:
    bus = Bus(refusal)

    async def all_of_it() -> None:
        resolved = Resolved()
        await resolved.on_bus(cast(Connection, bus))
        await do(resolved, bus)

    asyncio.run(all_of_it())
    return bus


async def settle() -> None:
    for _ in range(40):
        await asyncio.sleep(0)


def test_resolved_is_told_when_it_appears_and_again_when_it_comes_back() -> None:
    async def do(resolved: Resolved, bus: Bus) -> None:
        resolved.use(LINK)
        await settle()
        assert bus.calls == []
        for is_there in (True, False, True):
            resolved.on_owner(NAME, is_there)
            await settle()
        assert resolved.is_configured

    bus = run(do)

    assert bus.followed == [NAME]
    assert bus.calls == TOLD + TOLD


def test_what_was_told_is_taken_back() -> None:
    async def do(resolved: Resolved, bus: Bus) -> None:
        resolved.use(LINK)
        resolved.on_owner(NAME, True)
        await settle()
        await resolved.revert()
        await resolved.revert()

    assert run(do).calls == [*TOLD, ("RevertLink", (7,))]


def test_a_new_device_is_told_of_in_place_of_the_old_one() -> None:
    async def do(resolved: Resolved, bus: Bus) -> None:
        resolved.on_owner(NAME, True)
        resolved.use(LINK)
        resolved.use(LINK)
        await settle()
        resolved.use(LinkNames(8, LINK.server, LINK.port, LINK.domain))
        await settle()

    bus = run(do)

    assert [body[0] for member, body in bus.calls if member == "SetLinkDNSEx"] == [7, 8]


def test_a_refusal_is_kept_with_its_reason_and_nothing_else_is_tried() -> None:
    async def do(resolved: Resolved, bus: Bus) -> None:
        resolved.use(LINK)
        resolved.on_owner(NAME, True)
        await settle()
        assert (resolved.is_configured, resolved.refusal) == (False, "Access denied")
        await resolved.revert()

    bus = run(do, BusError("org.freedesktop.DBus.Error.AccessDenied", "Access denied"))

    assert bus.calls == TOLD[:1]


def test_other_services_and_a_bus_that_goes_change_nothing() -> None:
    async def do(resolved: Resolved, bus: Bus) -> None:
        resolved.use(LINK)
        resolved.on_owner("org.freedesktop.NetworkManager", True)
        await settle()
        resolved.on_bus_lost()
        resolved.on_owner(NAME, True)
        await settle()
        assert bus.calls == []

    run(do)


# --- with a real one

RESOLVED = os.environ.get("SYSTEMD_RESOLVED", "/lib/systemd/systemd-resolved")
SERVE = """
import asyncio, socket, sys
from ipaddress import ip_address, ip_network
from lispmob.bus.system_bus import SystemBus
from lispmob.protocol.effect import NameResolved
from lispmob.names.resolved import LinkNames, Resolved
from lispmob.names.server import NameServer
from lispmob.names.zone import Zone

KNOWN = {
    b"nas": NameResolved(b"nas", (ip_address("10.1.0.2"),), ""),
    b"2.0.1.10.in-addr.arpa": NameResolved(b"", (), "", names=(b"nas",)),
}

async def find(name):
    return KNOWN.get(name, NameResolved(name, (), ""))

async def main():
    own = ip_address("10.1.0.1")
    server = NameServer(Zone("lisp.home.arpa", [ip_network("10.1.0.0/24")]), find, own.__eq__)
    await server.start([own], 5399)
    resolved = Resolved()
    bus = SystemBus([resolved], address=sys.argv[1])
    await bus.start()
    resolved.use(LinkNames(socket.if_nametoindex("lmn0"), own, 5399, "lisp.home.arpa", ("0.1.10.in-addr.arpa",)))
    while not resolved.is_configured:
        await asyncio.sleep(0.02)
    print("told", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await resolved.revert()
    server.close()
    await bus.stop()
    print("reverted", flush=True)

asyncio.run(main())
"""


class RealResolved:
    """A namespace with a device of ours, a bus, a real resolved, and a server that it is told of."""

    def __init__(self, directory: Path, names: NamespaceSet, bus: PrivateBus) -> None:
        self.here, self.bus = names.make("r"), bus
        for line in (
            "link set lo up",
            "link add lmn0 type veth peer name far",
            "link set far up",
            "addr add 10.1.0.1/32 dev lmn0",
            "link set lmn0 up",
        ):
            self.here.run("ip", *line.split())
        users = directory / "passwd"
        users.write_text(Path("/etc/passwd").read_text() + "systemd-resolve:x:0:0::/:/bin/false\n")
        script = (
            f"mount --bind {users} /etc/passwd && mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && "
            f"mkdir -p /run/systemd/resolve && exec {RESOLVED}"
        )
        self.resolved = self.start("unshare", "-m", "sh", "-c", script)
        self.server = self.start(sys.executable, "-c", SERVE, bus.address)

    def start(self, *command: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.here.argv(*command), env=self.bus.environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip

    def query(self, *asked: str) -> str:
        tool = shutil.which("resolvectl") or str(Path(RESOLVED).parents[2] / "usr/bin/resolvectl")
        argv = self.here.argv(tool, *asked)
        done = subprocess.run(argv, env=self.bus.environment, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    def close(self) -> None:
        for process in (self.server, self.resolved):
            process.kill()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealResolved]:
    if not Path(RESOLVED).exists():
        pytest.skip("systemd-resolved is missing: install the Debian package, or name the program in SYSTEMD_RESOLVED")
    if (reason := why_no_bus()) is not None:
        pytest.skip(reason)
    bus = PrivateBus(tmp_path)
    bus.start()
    try:
        with NamespaceSet("r") as names:
            place = RealResolved(tmp_path, names, bus)
            try:
                yield place
            finally:
                place.close()
    finally:
        bus.stop()


@pytest.mark.netns
def test_a_real_resolved_asks_us_for_our_names_alone_and_no_more_once_we_have_gone(real: RealResolved) -> None:
    assert real.server.stdout is not None
    assert real.server.stdout.readline() == "told\n"

    assert "nas: 10.1.0.2" in real.query("query", "nas")
    assert "10.1.0.2: nas.lisp.home.arpa" in real.query("query", "10.1.0.2")
    assert "not found" in real.query("query", "printer.lisp.home.arpa")
    assert "-DefaultRoute" in real.query("status", "lmn0")

    assert real.server.stdin is not None
    real.server.stdin.close()
    assert real.server.stdout.readline() == "reverted\n"
    assert "lisp.home.arpa" not in real.query("domain", "lmn0")
