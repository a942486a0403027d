"""A menu as the values of com.canonical.dbusmenu, and the action of each line. Pure.

A line keeps its number as long as the menu has a line of its kind, with its action, in that place among those; 0 is the
menu itself. So a number never becomes a line of another kind: panels keep a check mark that a line had once. A click on
a menu that has just changed asks for what the user saw, or for nothing. A menu that changes has a new revision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from lispmob.desktop.picture import Action, Item

INTERFACE: Final = "com.canonical.dbusmenu"
PATH: Final = "/MenuBar"
VERSION: Final = 3

_ROOT: Final = Item(label="root")

ToVariant = Callable[[str, Any], Any]


class Menu:
    """The lines of the menu, by number."""

    def __init__(self) -> None:
        self.revision = 0
        self._numbers: dict[tuple[int, str, object, int], int] = {}
        self._items: dict[int, Item] = {0: _ROOT}
        self._children: dict[int, list[int]] = {0: []}

    def show(self, items: Sequence[Item]) -> bool:
        """Replace the lines; returns True if they have changed."""
        before = self._items, self._children
        self._items, self._children = {0: _ROOT}, {}
        self._add(0, items)
        if (self._items, self._children) == before:
            return False
        self.revision += 1
        return True

    def _add(self, parent: int, items: Sequence[Item]) -> None:
        seen: Counter[tuple[str, object]] = Counter()
        self._children[parent] = []
        for item in items:
            what = _kind(item), item.action
            number = self._numbers.setdefault((parent, *what, seen[what]), len(self._numbers) + 1)
            seen[what] += 1
            self._items[number] = item
            self._children[parent].append(number)
            self._add(number, item.children)

    def action(self, number: int) -> Action | None:
        """The action of a line."""
        return self._items[number].action if self.has(number) else None

    def has(self, number: int) -> bool:
        """True for a line of the current menu."""
        return number in self._items

    def layout(self, number: int, depth: int, variant: ToVariant) -> list[Any]:
        """A line with its submenu, (ia{sv}av); `depth` -1: all levels."""
        below = self._children[number] if depth else []
        children = [variant("(ia{sv}av)", self.layout(child, depth - 1, variant)) for child in below]
        return [number, self.properties(number, variant), children]

    def properties(self, number: int, variant: ToVariant) -> dict[str, Any]:
        """The properties of a line, without those that have the specification's default."""
        if number == 0:
            return {"children-display": variant("s", "submenu")}
        item = self._items[number]
        if not item.label:
            return {"type": variant("s", "separator")}
        shown = {"label": variant("s", item.label.replace("_", "__"))}  # a single underscore marks an access key
        if item.action is None and not item.children:
            shown["enabled"] = variant("b", False)
        if item.children:
            shown["children-display"] = variant("s", "submenu")
        if item.is_checked is not None:
            shown["toggle-type"] = variant("s", "checkmark")
            shown["toggle-state"] = variant("i", int(item.is_checked))
        return shown

    def numbers(self) -> Iterator[int]:
        """The numbers of all lines."""
        return iter(self._items)


def _kind(item: Item) -> str:
    if not item.label:
        return "separator"
    if item.is_checked is not None:
        return "check mark"
    return "submenu" if item.children else "text"
