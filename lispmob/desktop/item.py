"""The indicator on the session bus: a StatusNotifierItem with a menu, and notifications (adapter).

Panels query the item's properties, and the item signals changes. A panel's watcher may start late, or restart; the item
is registered each time that the watcher appears. Without a watcher or a notification server the item does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from lispmob.bus.connection import BusError, Call, Connection, Signal
from lispmob.desktop import menu
from lispmob.desktop.menu import Menu
from lispmob.desktop.picture import Action, Picture

WATCHER: Final = "org.kde.StatusNotifierWatcher"
_WATCHER_PATH: Final = "/StatusNotifierWatcher"
ITEM: Final = "org.kde.StatusNotifierItem"
ITEM_PATH: Final = "/StatusNotifierItem"
NOTIFICATIONS: Final = "org.freedesktop.Notifications"
_NOTIFICATIONS_PATH: Final = "/org/freedesktop/Notifications"
_STANDARD: Final = "org.freedesktop.DBus"
_SHOWN_MS: Final = 8000  # ours: time enough to read a line
_CLICKED: Final = "clicked"

_ITEM_XML: Final = f"""<node><interface name="{ITEM}">
<property name="Category" type="s" access="read"/><property name="Id" type="s" access="read"/>
<property name="Title" type="s" access="read"/><property name="Status" type="s" access="read"/>
<property name="WindowId" type="i" access="read"/><property name="IconName" type="s" access="read"/>
<property name="IconThemePath" type="s" access="read"/><property name="AttentionIconName" type="s" access="read"/>
<property name="OverlayIconName" type="s" access="read"/>
<property name="ToolTip" type="(sa(iiay)ss)" access="read"/><property name="ItemIsMenu" type="b" access="read"/>
<property name="Menu" type="o" access="read"/>
<method name="ContextMenu"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>
<method name="Activate"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>
<method name="SecondaryActivate"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>
<method name="Scroll"><arg type="i" direction="in"/><arg type="s" direction="in"/></method>
<signal name="NewTitle"/><signal name="NewIcon"/><signal name="NewAttentionIcon"/><signal name="NewToolTip"/>
<signal name="NewStatus"><arg type="s"/></signal>
</interface></node>"""
_MENU_XML: Final = f"""<node><interface name="{menu.INTERFACE}">
<property name="Version" type="u" access="read"/><property name="TextDirection" type="s" access="read"/>
<property name="Status" type="s" access="read"/><property name="IconThemePath" type="as" access="read"/>
<method name="GetLayout"><arg type="i" direction="in"/><arg type="i" direction="in"/><arg type="as" direction="in"/>
<arg type="u" direction="out"/><arg type="(ia{{sv}}av)" direction="out"/></method>
<method name="GetGroupProperties"><arg type="ai" direction="in"/><arg type="as" direction="in"/>
<arg type="a(ia{{sv}})" direction="out"/></method>
<method name="GetProperty"><arg type="i" direction="in"/><arg type="s" direction="in"/>
<arg type="v" direction="out"/></method>
<method name="Event"><arg type="i" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="in"/>
<arg type="u" direction="in"/></method>
<method name="EventGroup"><arg type="a(isvu)" direction="in"/><arg type="ai" direction="out"/></method>
<method name="AboutToShow"><arg type="i" direction="in"/><arg type="b" direction="out"/></method>
<method name="AboutToShowGroup"><arg type="ai" direction="in"/><arg type="ai" direction="out"/>
<arg type="ai" direction="out"/></method>
<signal name="LayoutUpdated"><arg type="u"/><arg type="i"/></signal>
<signal name="ItemsPropertiesUpdated"><arg type="a(ia{{sv}})"/><arg type="a(ias)"/></signal>
</interface></node>"""

log = logging.getLogger(__name__)


class TrayItem:
    """The `server` of a connection to the session bus.

    `on_action` is called when a line is clicked, `on_opened` when the menu is about to be shown.
    """

    def __init__(self, icon_path: str, on_action: Callable[[Action], None], on_opened: Callable[[], None]) -> None:
        self._icon_path = icon_path
        self._on_action, self._on_opened = on_action, on_opened
        self._bus: Connection | None = None
        self._menu = Menu()
        self._picture: Picture | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._notification = 0
        self.is_registered = False

    def show(self, picture: Picture) -> None:
        """Show this picture, and signal what has changed."""
        before, self._picture = self._picture, picture
        is_other = self._menu.show(picture.items)
        if self._bus is None:
            return
        if is_other:
            self._bus.emit(menu.PATH, menu.INTERFACE, "LayoutUpdated", "ui", self._menu.revision, 0)
        if before is None or before.icon != picture.icon:
            for member in ("NewIcon", "NewAttentionIcon"):
                self._bus.emit(ITEM_PATH, ITEM, member, "")
        if before is None or before.tooltip != picture.tooltip:
            self._bus.emit(ITEM_PATH, ITEM, "NewToolTip", "")
        if before is None or before.needs_attention != picture.needs_attention:
            self._bus.emit(ITEM_PATH, ITEM, "NewStatus", "s", _status(picture))

    async def notify(self, summary: str, body: str, icon: str) -> None:
        """Show a notification that replaces the one before. Does nothing without a notification server."""
        if self._bus is None:
            return
        hints = {"desktop-entry": self._bus.variant("s", "lispmob-indicator")}
        try:
            (self._notification,) = await self._bus.call(
                *(NOTIFICATIONS, _NOTIFICATIONS_PATH, NOTIFICATIONS, "Notify", "susssasa{sv}i"),
                *("LISP", self._notification, icon, summary, _escaped(body), [], hints, _SHOWN_MS),
            )
        except BusError as error:
            log.debug("no notification server: %s", error)

    # --- the connection

    async def on_bus(self, bus: Connection) -> None:
        """Wait for the watcher of a panel."""
        self._bus = bus
        await bus.follow(WATCHER)

    def on_bus_lost(self) -> None:
        """The session has ended, or its bus has restarted."""
        self._bus, self.is_registered, self._notification = None, False, 0

    def on_owner(self, name: str, is_there: bool) -> None:
        """A panel's watcher appeared, or disappeared."""
        if name != WATCHER:
            return
        self.is_registered = False
        if is_there:
            task = asyncio.get_running_loop().create_task(self._register())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def on_signal(self, signal: Signal) -> None:
        """The item uses no signals of panels."""

    async def _register(self) -> None:
        assert self._bus is not None
        try:
            await self._bus.call(WATCHER, _WATCHER_PATH, WATCHER, "RegisterStatusNotifierItem", "s", self._bus.name)
        except BusError as error:
            log.warning("the panel does not take the indicator: %s", error)
        else:
            self.is_registered = True

    # --- calls of panels

    async def on_call(self, call: Call) -> tuple[str, list[Any]]:
        """Answer a call. Raises BusError."""
        if call.interface == f"{_STANDARD}.Introspectable" and call.member == "Introspect":
            return "s", [{ITEM_PATH: _ITEM_XML, menu.PATH: _MENU_XML}.get(call.path, "<node/>")]
        if call.interface == f"{_STANDARD}.Properties":
            return self._on_properties(call)
        if call.path == ITEM_PATH and call.interface in (ITEM, ""):
            return "", []  # a click shows the menu, which the panel draws
        if call.path == menu.PATH and call.interface in (menu.INTERFACE, ""):
            return self._on_menu(call)
        raise BusError(f"{_STANDARD}.Error.UnknownMethod", f"no method {call.interface}.{call.member}")

    def _on_properties(self, call: Call) -> tuple[str, list[Any]]:
        values = self._item_values() if call.path == ITEM_PATH else self._menu_values()
        match call.member, call.body:
            case "GetAll", (_,):
                return "a{sv}", [values]
            case "Get", (_, name) if name in values:
                return "v", [values[name]]
            case _:
                raise BusError(f"{_STANDARD}.Error.UnknownProperty", f"no such property: {call.body[:2]}")

    def _item_values(self) -> dict[str, Any]:
        assert self._bus is not None
        variant, shown = self._bus.variant, self._picture
        icon = shown.icon if shown is not None else "lispmob-off"
        tooltip = shown.tooltip if shown is not None else ""
        return {
            "Category": variant("s", "Communications"),
            "Id": variant("s", "lispmob"),
            "Title": variant("s", shown.title if shown is not None else "LISP"),
            "Status": variant("s", _status(shown)),
            "WindowId": variant("i", 0),
            "IconName": variant("s", icon),
            "IconThemePath": variant("s", self._icon_path),
            "AttentionIconName": variant("s", icon),
            "OverlayIconName": variant("s", ""),
            "ToolTip": variant("(sa(iiay)ss)", [icon, [], "LISP", _escaped(tooltip)]),
            "ItemIsMenu": variant("b", True),
            "Menu": variant("o", menu.PATH),
        }

    def _menu_values(self) -> dict[str, Any]:
        assert self._bus is not None
        variant = self._bus.variant
        return {
            "Version": variant("u", menu.VERSION),
            "TextDirection": variant("s", "ltr"),
            "Status": variant(
                "s", "notice" if self._picture is not None and self._picture.needs_attention else "normal"
            ),
            "IconThemePath": variant("as", [self._icon_path]),
        }

    def _on_menu(self, call: Call) -> tuple[str, list[Any]]:
        assert self._bus is not None
        variant = self._bus.variant
        match call.member, call.body:
            case "GetLayout", (number, depth, _) if self._menu.has(number):
                return "u(ia{sv}av)", [self._menu.revision, self._menu.layout(number, depth, variant)]
            case "GetGroupProperties", (numbers, _):
                wanted = [number for number in numbers if self._menu.has(number)] or list(self._menu.numbers())
                return "a(ia{sv})", [[[number, self._menu.properties(number, variant)] for number in wanted]]
            case "GetProperty", (number, name) if self._menu.has(number):
                values = self._menu.properties(number, variant)
                if name in values:
                    return "v", [values[name]]
            case "Event", (number, what, _, _):
                self._on_event(number, what)
                return "", []
            case "EventGroup", (events,):
                unknown = [number for number, *_ in events if not self._menu.has(number)]
                for number, what, *_ in events:
                    self._on_event(number, what)
                return "ai", [unknown]
            case "AboutToShow", (_,):
                self._on_opened()
                return "b", [False]
            case "AboutToShowGroup", (numbers,):
                self._on_opened()
                return "aiai", [[], [number for number in numbers if not self._menu.has(number)]]
        raise BusError(f"{_STANDARD}.Error.InvalidArgs", f"{call.member} of what is not there")

    def _on_event(self, number: int, what: str) -> None:
        if what == _CLICKED and (action := self._menu.action(number)) is not None:
            self._on_action(action)


def _status(picture: Picture | None) -> str:
    return "NeedsAttention" if picture is not None and picture.needs_attention else "Active"


def _escaped(text: str) -> str:
    """Escape markup: notifications and tooltips interpret it, and lispd's texts are plain."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
