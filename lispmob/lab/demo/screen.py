"""The output of the demonstration: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from lispmob.lab.demo_service import Json

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table as RichTable

_LINES_KEPT: Final = 18
_REFRESH_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Table:
    """A table that both screens can print. The first column is left-aligned, the others right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self) -> list[str]:
        widths = [max(len(row[n]) for row in (self.columns, *self.rows)) for n in range(len(self.columns))]
        return [self.title, *(_line(row, widths) for row in (self.columns, *self.rows))]

    def markdown(self) -> str:
        """The table for a document, without its title."""
        rule = ("---", *("--:" for _ in self.columns[1:]))
        return "".join(f"| {' | '.join(row)} |\n" for row in (self.columns, rule, *self.rows))


@dataclass(frozen=True, slots=True)
class View:
    """The output of `lispctl status` and `lispctl map-cache` of a node; None while it does not answer."""

    node: str
    status: Json | None = None
    map_cache: Json | None = None
    is_running: bool = field(default=True)


class Screen(Protocol):
    """The output of the demonstration."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, text: str) -> None: ...
    def watch(self, look: Callable[[], Sequence[View]]) -> None:
        """Show what `look` returns, again and again; `look` is called from another thread."""

    def unwatch(self) -> None:
        """Return when `look` is no longer called."""

    def table(self, table: Table) -> None: ...


class PlainScreen:
    """Prints lines, one after the other."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unwatch()

    def say(self, text: str) -> None:
        print(text, flush=True)

    def watch(self, look: Callable[[], Sequence[View]]) -> None:
        """Print the tables once."""
        for view in look():
            for table in node_tables(view):
                self.table(table)

    def unwatch(self) -> None:
        pass

    def table(self, table: Table) -> None:
        print("\n" + "\n".join(table.lines()), flush=True)


class LiveScreen:
    """rich: uplinks, locators and map-cache of both nodes, and the events below."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._said: deque[str] = deque(maxlen=_LINES_KEPT)
        self._views: Sequence[View] = ()
        self._live: Live = Live(console=self._console, refresh_per_second=4, get_renderable=self._render)
        self._over = threading.Event()
        self._looker: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unwatch()
        self._live.stop()

    def say(self, text: str) -> None:
        self._said.extend(text.splitlines())

    def watch(self, look: Callable[[], Sequence[View]]) -> None:
        self.unwatch()
        self._over.clear()

        def keep_looking() -> None:
            while not self._over.wait(_REFRESH_S):
                self._views = look()

        self._looker = threading.Thread(target=keep_looking, name="screen", daemon=True)
        self._looker.start()

    def unwatch(self) -> None:
        self._over.set()
        if self._looker is not None:
            self._looker.join()
            self._looker = None

    def table(self, table: Table) -> None:
        self._console.print(_rich_table(table))

    def _render(self) -> Group:
        from rich.columns import Columns
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        panels = [
            Panel(Group(*(_rich_table(table) for table in node_tables(view))), title=f"node {view.node}")
            for view in self._views
        ]
        return Group(Columns(panels, expand=True), Panel(Text("\n".join(self._said)), title="timeline"))


def open_screen() -> PlainScreen | LiveScreen:
    """The live screen on a terminal if rich is installed, lines otherwise."""
    if sys.stdout.isatty():
        try:
            return LiveScreen()
        except ImportError:
            pass
    return PlainScreen()


def node_tables(view: View) -> Iterable[Table]:
    """Uplinks with their locators, and the map-cache, of a node."""
    status = view.status
    if status is None:
        yield Table(f"{view.node}: " + ("starting" if view.is_running else "not running"), ("",), ())
        return
    registered = {str(locator["address"]): locator for locator in status.get("locators", ())}
    rows = []
    for uplink in status.get("uplinks", ()):
        for address in uplink["addresses"] or ("-",):
            locator = registered.get(str(address))
            rank = f"{locator['priority']}/{locator['weight']}" if locator else "-"
            rows.append((str(uplink["name"]), str(address), rank))
    title = f"{view.node}: {status.get('state')}, locator set {status.get('locator_set_version')}"
    yield Table(title, ("uplink", "address", "priority/weight"), tuple(rows))
    entries = (view.map_cache or {}).get("entries", ())
    cached = tuple((str(entry["prefix"]), _locators(entry), str(entry["action"])) for entry in entries)
    yield Table(f"{view.node}: map-cache", ("EID-Prefix", "locators", "action"), cached)


def _locators(entry: Json) -> str:
    return (
        ", ".join(
            f"{locator['address']} {locator['priority']}/{locator['weight']}" for locator in entry.get("locators", ())
        )
        or "-"
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if number else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return ("  " + "  ".join([first, *others])).rstrip()


def _rich_table(table: Table) -> RichTable:
    from rich.table import Table as MadeTable

    drawn = MadeTable(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
