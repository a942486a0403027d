"""The indicator in a real panel, that of Xfce, on a screen in memory; SCREENSHOTS=DIRECTORY keeps a picture of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from lispmob.api.dbus import DBusFace
from lispmob.api.schema import Status, Uplink
from lispmob.bus.system_bus import SystemBus
from tests.api.fake_backend import WWAN, FakeBackend
from tests.desktop.private_bus import private_bus, wait_for, why_no_bus
from tests.desktop.test_indicator import MOVE

TOOLS: Final = {
    "Xvfb": "xvfb",
    "xfce4-panel": "xfce4-panel",
    "xdotool": "xdotool",
    "import": "imagemagick",
    "dbus-run-session": "dbus-daemon",
}
XFCONFD: Final = Path("/usr/lib/x86_64-linux-gnu/xfce4/xfconf/xfconfd")
WIDTH, HEIGHT, PANEL = 800, 480, 36
_PANEL: Final = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array"><value type="int" value="1"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=6;x=0;y=0"/>
      <property name="length" type="uint" value="100"/>
      <property name="size" type="uint" value="36"/>
      <property name="plugin-ids" type="array"><value type="int" value="1"/><value type="int" value="2"/></property>
    </property>
  </property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="separator"><property name="expand" type="bool" value="true"/>
    </property>
    <property name="plugin-2" type="string" value="systray"><property name="icon-size" type="int" value="24"/>
    </property>
  </property>
</channel>
"""


def why_no_panel() -> str | None:
    """What is missing, with the remedy; None: nothing."""
    if reason := why_no_bus():
        return reason
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            return f"{tool} is missing: install the Debian package {package}"
    return None if XFCONFD.exists() else f"{XFCONFD} is missing: install the Debian package xfconf"


class Backend(FakeBackend):
    """lispd on a laptop that has left the house: LTE is in use."""

    def uplinks(self) -> list[Uplink]:
        return [msgspec.structs.replace(WWAN, type="wwan", is_used=True, note="used")]

    def status(self) -> Status:
        return msgspec.structs.replace(super().status(), last_handover=MOVE, uplinks=self.uplinks())


@contextlib.contextmanager
def started(*command: str, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program with all processes that it starts: they are ended together."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(5)


@contextlib.contextmanager
def screen(log: Path) -> Iterator[str]:
    """A display of the X server's choice."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    with log.open("ab") as output:
        server = subprocess.Popen(command, pass_fds=(writing,), stdout=output, stderr=output)
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            yield f":{said.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.skipif(why_no_panel() is not None, reason=why_no_panel() or "")
def test_a_real_panel_takes_the_indicator_and_opens_its_menu(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    channel = home / "xfce4" / "xfconf" / "xfce-perchannel-xml" / "xfce4-panel.xml"
    channel.parent.mkdir(parents=True)
    channel.write_text(_PANEL)
    (tmp_path / "run").mkdir(mode=0o700)
    script = f"echo $DBUS_SESSION_BUS_ADDRESS >{tmp_path}/address; {XFCONFD} & exec xfce4-panel --disable-wm-check"
    with private_bus(tmp_path) as system, screen(log) as display:
        environment = {
            **system.environment,
            "DISPLAY": display,
            "HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(home),
            "XDG_RUNTIME_DIR": str(tmp_path / "run"),
            "NO_AT_BRIDGE": "1",
        }
        with started("dbus-run-session", "--", "sh", "-c", script, environment=environment, log=log):
            wait_for(lambda: (tmp_path / "address").exists() and registered(tmp_path) is not None, "a watcher", 30)
            empty = pixels(display)
            asyncio.run(beside_lispd(system.address, lambda: look(tmp_path, environment, empty), log))


def look(tmp_path: Path, environment: dict[str, str], empty: bytes) -> None:
    """Start the indicator, and check what the panel shows of it."""
    indicator = (sys.executable, "-m", "lispmob.desktop.main")
    environment = {**environment, "DBUS_SESSION_BUS_ADDRESS": address_of(tmp_path)}
    display = environment["DISPLAY"]
    with started(*indicator, environment=environment, log=tmp_path / "indicator.log"):
        wait_for(lambda: "StatusNotifierItem" in (registered(tmp_path) or ""), "it is registered", 20)
        wait_for(lambda: pixels(display) != empty, "an icon is drawn", 20)
        time.sleep(1)  # until the icon shows lispd's state, too
        with_icon = pixels(display)
        subprocess.run(
            ["xdotool", "mousemove", str(WIDTH - 16), str(PANEL // 2), "click", "1"], env=environment, check=True
        )
        wait_for(lambda: changed_rows(with_icon, pixels(display)) > 2 * PANEL, "its menu is open", 20)
        if (directory := os.environ.get("SCREENSHOTS")) is not None:
            time.sleep(1)
            subprocess.run(
                [
                    "import",
                    "-display",
                    display,
                    "-window",
                    "root",
                    "-crop",
                    "800x260+0+0",
                    f"{directory}/indicator.png",
                ],
                check=True,
            )


async def beside_lispd(address: str, work: object, log: Path) -> None:
    """Run `work` in a thread, while lispd is on the bus."""
    assert callable(work)
    served = SystemBus([], DBusFace(Backend()), address=address)
    await served.start()
    try:
        await asyncio.to_thread(work)
    finally:
        await served.stop()


def address_of(tmp_path: Path) -> str:
    """The address of the session's bus."""
    return (tmp_path / "address").read_text().strip()


def registered(tmp_path: Path) -> str | None:
    """The items that the panel knows; None while there is no panel."""
    done = subprocess.run(
        [
            *("gdbus", "call", "--session", "--dest", "org.kde.StatusNotifierWatcher"),
            *("--object-path", "/StatusNotifierWatcher", "--method", "org.freedesktop.DBus.Properties.Get"),
            *("org.kde.StatusNotifierWatcher", "RegisteredStatusNotifierItems"),
        ],
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": address_of(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def pixels(display: str) -> bytes:
    """The screen, three octets a pixel, row by row."""
    shown = subprocess.run(
        ["import", "-display", display, "-window", "root", "-depth", "8", "ppm:-"], capture_output=True, check=True
    ).stdout
    head = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", shown)
    assert head is not None
    return shown[head.end() :]


def changed_rows(before: bytes, now: bytes) -> int:
    """How many rows of the screen differ."""
    width = 3 * WIDTH
    return sum(before[at : at + width] != now[at : at + width] for at in range(0, len(before), width))
