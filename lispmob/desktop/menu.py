"""A menu as the values of com.canonical.dbusmenu, and the action of each line. Pure.

Lines are numbered from the top; 0 is the menu itself. A changed menu has a new revision. Numbers belong to positions,
so that a click on a menu that has just changed is ignored at worst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from lispmob.desktop.picture import Action, Item

INTERFACE: Final = "com.canonical.dbusmenu"
PATH: Final = "/MenuBar"
VERSION: Final = 3

ToVariant = Callable[[str, Any], Any]


class Menu:
    """The lines of the menu, by number."""

    def __init__(self) -> None:
        self.revision = 0
        self._items: list[Item] = [Item(label="root")]
        self._children: list[list[int]] = [[]]

    def show(self, items: Sequence[Item]) -> bool:
        """Replace the lines; returns True if they have changed."""
        before = self._items[1:], self._children
        self._items, self._children = [Item(label="root")], [[]]
        self._children[0] = [self._add(item) for item in items]
        if (self._items[1:], self._children) == before:
            return False
        self.revision += 1
        return True

    def _add(self, item: Item) -> int:
        number = len(self._items)
        self._items.append(item)
        self._children.append([])
        self._children[number] = [self._add(child) for child in item.children]
        return number

    def action(self, number: int) -> Action | None:
        """The action of a line."""
        return self._items[number].action if self.has(number) else None

    def has(self, number: int) -> bool:
        """True for a line of the current menu."""
        return 0 <= number < len(self._items)

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
        return iter(range(len(self._items)))
