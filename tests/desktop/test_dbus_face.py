"""net.lispmob.Daemon1 as gdbus and busctl see it, with and without polkit, for root and for others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from lispmob.api.dbus import INTROSPECTION, NAME, PATH, DBusFace
from lispmob.api.dbus_values import SIGNATURES
from lispmob.api.schema import Event, Status
from lispmob.bus.connection import BusError, Connection, Signal, libraries
from lispmob.bus.system_bus import SystemBus
from tests.api.fake_backend import FakeBackend
from tests.desktop.private_bus import PrivateBus, private_bus, wait_for, why_no_bus, why_no_mock

pytestmark = [
    pytest.mark.skipif(why_no_bus() is not None, reason=why_no_bus() or ""),
    pytest.mark.parametrize("library", libraries()),
]

PROPERTIES = "org.freedesktop.DBus.Properties"
NOBODY = 65534


class Listener:
    """A client that records what it receives."""

    def __init__(self) -> None:
        self.heard: list[Signal] = []
        self.is_there = asyncio.Event()

    async def on_bus(self, bus: Connection) -> None: ...

    def on_bus_lost(self) -> None: ...

    def on_owner(self, name: str, is_there: bool) -> None:
        self.is_there.set()

    def on_signal(self, signal: Signal) -> None:
        self.heard.append(signal)

    async def until(self, member: str) -> Signal:
        async with asyncio.timeout(10):
            while True:
                for signal in self.heard:
                    if signal.member == member:
                        return signal
                await asyncio.sleep(0.01)


class ChangingBackend(FakeBackend):
    """A backend with a state that tests set."""

    state = "partly-registered"
    uptime_s = 0.0

    def status(self) -> Status:
        self.uptime_s += 1.0
        return msgspec.structs.replace(super().status(), state=self.state, uptime_s=self.uptime_s)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    """A bus that every user may reach."""
    with tempfile.TemporaryDirectory(prefix="lispmob-bus-") as directory:
        Path(directory).chmod(0o755)
        with private_bus(Path(directory)) as one:
            one.socket.chmod(0o666)
            yield one


@contextlib.asynccontextmanager
async def face_on(
    bus: PrivateBus, library: str
) -> AsyncIterator[tuple[DBusFace, ChangingBackend, Connection, Listener]]:
    """A served FakeBackend, and a client's connection."""
    backend, listener = ChangingBackend(), Listener()
    face = DBusFace(backend)
    served = SystemBus([], face, address=bus.address, library=library)
    client = Connection(library, bus.address, [listener], None)
    await served.start()
    await client.open()
    try:
        await client.follow(NAME)
        await client.subscribe(f"type='signal',sender='{NAME}'")
        await asyncio.wait_for(listener.is_there.wait(), 10)
        yield face, backend, client, listener
    finally:
        await client.close()
        await served.stop()


def as_nobody(bus: PrivateBus, member: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call a method as an ordinary user."""
    command = ["gdbus", "call", "--system", f"--dest={NAME}", f"--object-path={PATH}", f"--method={NAME}.{member}"]
    who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run(
        [*who, *command, *arguments], env=bus.environment, capture_output=True, text=True, timeout=20, check=False
    )


def test_introspection_says_what_is_there_and_gdbus_understands_it(bus: PrivateBus, library: str) -> None:
    async def scenario() -> str:
        async with face_on(bus, library):
            arguments = ("introspect", "--system", f"--dest={NAME}", f"--object-path={PATH}")
            return await asyncio.to_thread(bus.gdbus, *arguments)

    shown = asyncio.run(scenario())

    tree = ElementTree.fromstring(INTROSPECTION)  # noqa: S314 - a constant of our own
    ours = next(each for each in tree if each.get("name") == NAME)
    assert {match.get("name"): match.get("type") for match in ours.findall("property")} == SIGNATURES
    for element in ours:
        assert str(element.get("name")) in shown


def test_all_properties_arrive_with_their_types(bus: PrivateBus, library: str) -> None:
    async def scenario() -> Any:
        async with face_on(bus, library) as (_, _, client, _):
            (everything,) = await client.call(NAME, PATH, PROPERTIES, "GetAll", "s", NAME)
            (state,) = await client.call(NAME, PATH, PROPERTIES, "Get", "ss", NAME, "State")
            return everything, state

    everything, state = asyncio.run(scenario())

    assert set(everything) == set(SIGNATURES)
    assert state == "partly-registered"
    assert everything["Eids"] == ["192.0.2.7/32"]
    assert everything["Uplinks"][1]["addresses"] == ["203.0.113.80", "2001:db8:4::80"]
    assert everything["Registrations"][1]["problem"] == "authentication failed"
    assert everything["LastHandover"]["gap_in_ms"] == 31.0


def test_an_event_becomes_a_signal_and_only_what_changed_is_told(bus: PrivateBus, library: str) -> None:
    async def scenario() -> list[Signal]:
        async with face_on(bus, library) as (face, backend, _, listener):
            backend.state = "registered"
            face.publish(Event(kind="moved", at="2026-01-31T12:00:00.123Z", fields={"rlocs": ["192.0.2.1"], "n": 1}))
            face.publish(Event(kind="miss", at="2026-01-31T12:00:00.124Z"))
            await listener.until("PropertiesChanged")
            return listener.heard

    heard = [signal for signal in asyncio.run(scenario()) if signal.sender == NAME]

    assert [(signal.member, signal.body) for signal in heard] == [
        ("Happened", ("moved", "2026-01-31T12:00:00.123Z", {"rlocs": ["192.0.2.1"], "n": 1})),
        ("PropertiesChanged", (NAME, {"State": "registered"}, [])),
    ]


def test_when_nothing_changed_but_the_clock_nothing_is_told(bus: PrivateBus, library: str) -> None:
    async def scenario() -> list[Signal]:
        async with face_on(bus, library) as (face, _, _, listener):
            face.touch()
            await asyncio.sleep(0.2)
            return listener.heard

    assert [signal for signal in asyncio.run(scenario()) if signal.sender == NAME] == []


def test_others_may_look_but_not_change_without_polkit(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        async with face_on(bus, library) as (_, backend, client, _):
            looked = await asyncio.to_thread(as_nobody, bus, "GetStatus")
            refused = await asyncio.to_thread(as_nobody, bus, "Reload")
            changed = await client.call(NAME, PATH, NAME, "Reload")

            assert "4711" in looked.stdout
            assert "net.lispmob.reload" in refused.stderr
            assert changed == (["uplinks", "control.socket"], ["control.socket"])
            assert backend.calls == [("reload",)]

    asyncio.run(scenario())


@pytest.mark.skipif(why_no_mock() is not None, reason=why_no_mock() or "")
def test_polkit_decides_for_others(bus: PrivateBus, library: str) -> None:
    bus.mock("polkitd")
    wait_for(lambda: "PolicyKit1" in bus.gdbus("call", "--system", *_LIST_NAMES), "polkit is mocked")

    async def scenario() -> None:
        async with face_on(bus, library) as (_, backend, client, _):
            before = await asyncio.to_thread(as_nobody, bus, "FlushMapCache")
            await client.call(
                *_POLKIT, "org.freedesktop.DBus.Mock", "SetAllowed", "as", ["net.lispmob.change-map-cache"]
            )
            after = await asyncio.to_thread(as_nobody, bus, "FlushMapCache")
            other = await asyncio.to_thread(as_nobody, bus, "Reload")

            assert "AccessDenied" in before.stderr
            assert after.stdout.strip() == "(uint32 1,)"
            assert "AccessDenied" in other.stderr
            assert backend.calls == [("flush",)]

    asyncio.run(scenario())


def test_mappings_are_added_and_deleted_by_the_control_sockets_rules(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        async with face_on(bus, library) as (_, backend, client, _):
            add = (NAME, PATH, NAME, "AddMapping", "sa(suu)s")
            await client.call(*add, "192.0.2.64/28", [["203.0.113.5", 1, 100]], "drop")
            await client.call(NAME, PATH, NAME, "DeleteMapping", "s", "192.0.2.64/28")
            errors = []
            for arguments in (
                ("192.0.2.7/32", [], "drop"),
                ("nonsense", [], "drop"),
                ("192.0.2.64/28", [["203.0.113.5", 300, 100]], "drop"),
            ):
                with pytest.raises(BusError) as caught:
                    await client.call(*add, *arguments)
                errors.append(caught.value.name)

            assert errors == ["net.lispmob.Error.Refused", "net.lispmob.Error.Params", "net.lispmob.Error.Params"]
            assert backend.calls == [
                ("add", "192.0.2.64/28", [("203.0.113.5", 1, 100)], "drop"),
                ("delete", "192.0.2.64/28"),
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("interface", "member", "signature", "body", "error"),
    [
        (NAME, "Explode", "", (), "UnknownMethod"),
        (NAME, "Lookup", "s", ("192.0.2.7",), "InvalidArgs"),
        (PROPERTIES, "Get", "ss", (NAME, "Colour"), "UnknownProperty"),
        ("org.example.Other", "GetStatus", "", (), "UnknownMethod"),
    ],
)
def test_what_is_not_there_is_an_error_with_its_standard_name(
    bus: PrivateBus, library: str, interface: str, member: str, signature: str, body: tuple[Any, ...], error: str
) -> None:
    async def scenario() -> str:
        async with face_on(bus, library) as (_, _, client, _):
            with pytest.raises(BusError) as caught:
                await client.call(NAME, PATH, interface, member, signature, *body)
            return caught.value.name

    assert asyncio.run(scenario()) == f"org.freedesktop.DBus.Error.{error}"


def test_a_bug_behind_a_call_costs_one_reply(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        async with face_on(bus, library) as (_, backend, client, _):
            backend.is_broken = True
            with pytest.raises(BusError) as caught:
                await client.call(NAME, PATH, NAME, "GetStatus")
            backend.is_broken = False

            assert caught.value.name == "org.freedesktop.DBus.Error.Failed"
            assert await client.call(NAME, PATH, NAME, "Lookup", "su", "192.0.2.65", 0)

    asyncio.run(scenario())


@pytest.mark.skipif(shutil.which("busctl") is None, reason="busctl is missing: install the Debian package systemd")
def test_busctl_finds_the_way_to_the_object(bus: PrivateBus, library: str) -> None:
    async def scenario() -> str:
        async with face_on(bus, library):
            command = ["busctl", f"--address={bus.address}", "tree", "--list", NAME]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)
            return str(done.stdout)

    assert PATH in asyncio.run(scenario()).split()


_LIST_NAMES = (
    "--dest=org.freedesktop.DBus",
    "--object-path=/org/freedesktop/DBus",
    "--method=org.freedesktop.DBus.ListNames",
)
_POLKIT = ("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority")


def test_peers_and_names_are_on_the_bus(bus: PrivateBus, library: str) -> None:
    async def scenario() -> tuple[Any, ...]:
        async with face_on(bus, library) as (_, _, client, _):
            (peers,) = await client.call(NAME, PATH, NAME, "GetPeers")
            (peer,) = await client.call(NAME, PATH, NAME, "GetPeer", "s", "nas")
            (names,) = await client.call(NAME, PATH, NAME, "GetNames")
            with pytest.raises(BusError, match=r"no site of the hub has this name"):
                await client.call(NAME, PATH, NAME, "GetPeer", "s", "printer")
            return peers, peer, names

    peers, peer, names = asyncio.run(scenario())

    assert [load["eid"] for load in json.loads(peers)] == ["10.99.0.2/32", "10.99.0.3/32"]
    assert (peer["name"], peer["way"], peer["packets_out"]) == ("nas", "direct", 1234)
    assert json.loads(names)["domain"] == "lisp.home.arpa"
