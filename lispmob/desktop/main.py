"""lispmob-indicator: connects the parts of the indicator, and runs until the session ends or the user quits it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from lispmob.bus.connection import libraries
from lispmob.bus.system_bus import SystemBus
from lispmob.desktop.daemon_watch import DaemonWatch
from lispmob.desktop.item import TrayItem
from lispmob.desktop.picture import Action, Facts, move_text, picture, problem_text
from lispmob.desktop.settings import Settings
from lispmob.options import HelpfulParser, ShowVersion

ICONS: Final = Path(__file__).parent / "icons"
EXIT_NO_SESSION: Final = 69  # sysexits.h: EX_UNAVAILABLE
_GRAVE: Final = ("broken", "degraded")


def build_parser() -> argparse.ArgumentParser:
    """The parser; man pages are made from it too."""
    parser = HelpfulParser(
        prog="lispmob-indicator",
        description="Show in a desktop's panel how lispd is, whom it talks to and how it moved; leave and come back.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--no-notifications", action="store_true", help="show none this time, whatever was chosen")
    parser.epilog = (
        "Needs a session bus, and a panel with a StatusNotifierWatcher: KDE Plasma, Xfce, LXQt, Cinnamon, MATE, "
        "waybar, or GNOME with its AppIndicator extension. Exit codes: 0 quit, 69 there is no session bus."
    )
    return parser


class Indicator:
    """Keeps the known state, and updates menu and notifications when it changes."""

    def __init__(self, settings: Settings, *, is_silent: bool = False) -> None:
        self._settings, self._is_silent = settings, is_silent
        self._facts = Facts(notifies=settings.notifies, starts_with_session=settings.starts_with_session)
        self._tasks: set[asyncio.Task[None]] = set()
        self._notified: frozenset[str] = frozenset()
        self.over = asyncio.Event()
        self.item = TrayItem(str(ICONS), self._on_action, self._on_opened)
        self.watch = DaemonWatch(self._on_facts, self._on_move)
        self.item.show(picture(self._facts))

    def _on_facts(self, properties: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> None:
        failure = "" if bool(properties) is not self._facts.is_running else self._facts.failure
        self._show(replace(self._facts, properties=properties, peers=peers, failure=failure))
        problems = [problem for problem in properties.get("Problems", []) if problem.get("severity") in _GRAVE]
        now = {f"{problem.get('key')} {problem.get('subject')}": problem for problem in problems}
        for key in now.keys() - self._notified:
            self._notify(*problem_text(now[key]), icon="lispmob-broken")
        self._notified = frozenset(now)

    def _on_move(self, move: Mapping[str, Any]) -> None:
        self._notify(move_text(move), "", icon="lispmob-working")

    def _on_opened(self) -> None:
        self.watch.look()

    def _on_action(self, action: Action) -> None:
        match action:
            case "leave" | "come-back":
                self._spawn(self._switch(on=action == "come-back"))
            case "notifications":
                self._settings.set_notifies(not self._facts.notifies)
                self._show(replace(self._facts, notifies=not self._facts.notifies))
            case "autostart":
                self._settings.set_starts_with_session(not self._facts.starts_with_session)
                self._show(replace(self._facts, starts_with_session=self._settings.starts_with_session))
            case "quit":
                self.over.set()

    async def _switch(self, *, on: bool) -> None:
        failure = await self.watch.switch(on=on)
        self._show(replace(self._facts, failure=failure))
        if failure:
            self._notify("Not done", failure, icon="lispmob-broken")

    def _show(self, facts: Facts) -> None:
        self._facts = facts
        self.item.show(picture(facts))

    def _notify(self, summary: str, body: str, *, icon: str) -> None:
        if summary and self._facts.notifies and not self._is_silent:
            self._spawn(self.item.notify(summary, body, icon))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def run(session: str, *, is_silent: bool) -> None:
    """Show the indicator until the user quits it."""
    indicator = Indicator(Settings(), is_silent=is_silent)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, indicator.over.set)
    buses = (SystemBus((), indicator.item, address=session), SystemBus([indicator.watch]))
    for bus in buses:
        await bus.start()
    await indicator.over.wait()
    for bus in buses:
        await bus.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="lispmob-indicator: %(message)s")
    session = os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path=/run/user/{os.getuid()}/bus"
    if not libraries() or (session.startswith("unix:path=") and not Path(session[10:].partition(",")[0]).exists()):
        sys.stderr.write("lispmob-indicator: there is no session bus: start it in a desktop session\n")
        return EXIT_NO_SESSION
    asyncio.run(run(session, is_silent=arguments.no_notifications))
    return 0


if __name__ == "__main__":
    sys.exit(main())
