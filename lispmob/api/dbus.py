"""net.lispmob.Daemon1 on the system bus: the desktop's face of the same Backend that serves the control socket.

Every user may look. What changes something asks polkit, and without polkit only root may. `INTROSPECTION` is what
`gdbus introspect` shows, and the documentation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec

from lispmob.api.backend import ApiError, Backend
from lispmob.api.dbus_values import SIGNATURES, marshal, plain, properties
from lispmob.api.methods import call as call_method
from lispmob.api.methods import is_pending
from lispmob.api.polkit import is_authorized
from lispmob.api.schema import API_VERSION, Event, Lookup, Reloaded, Request
from lispmob.api.turns import Pages
from lispmob.bus.connection import BusError, Call, Connection, Signal

NAME: Final = "net.lispmob.Daemon1"
PATH: Final = "/net/lispmob/Daemon1"
ACTION_RELOAD: Final = "net.lispmob.reload"
ACTION_CHANGE: Final = "net.lispmob.change-map-cache"

TOLD: Final = frozenset({"registered", "register-timeout", "auth-failed", "moved", "withdrawn"})
"""Events that become signals; the control socket has them all."""

PEERS_MAX: Final = 256  # ours: more fit no window, and a message of D-Bus is one piece
_SETTLE_S: Final = 0.05  # ours: one PropertiesChanged for all that a move changes, and sooner than a person can look
_STANDARD: Final = "org.freedesktop.DBus"

INTROSPECTION: Final = """<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node name="/net/lispmob/Daemon1">
  <interface name="net.lispmob.Daemon1">
    <property name="Version" type="s" access="read"/>
    <property name="State" type="s" access="read"/>
    <property name="Verdict" type="s" access="read"/>
    <property name="Headline" type="s" access="read"/>
    <property name="Problems" type="aa{sv}" access="read"/>
    <property name="StartedAt" type="s" access="read"/>
    <property name="Eids" type="as" access="read"/>
    <property name="Registrations" type="aa{sv}" access="read"/>
    <property name="Uplinks" type="aa{sv}" access="read"/>
    <property name="Locators" type="aa{sv}" access="read"/>
    <property name="Routing" type="a{sv}" access="read"/>
    <property name="Datapath" type="a{sv}" access="read"/>
    <property name="LastHandover" type="a{sv}" access="read"/>
    <method name="GetStatus"><arg name="json" type="s" direction="out"/></method>
    <method name="GetHandovers"><arg name="json" type="s" direction="out"/></method>
    <method name="GetPeers"><arg name="json" type="s" direction="out"/></method>
    <method name="GetPeer">
      <arg name="name_or_eid" type="s" direction="in"/>
      <arg name="peer" type="a{sv}" direction="out"/>
    </method>
    <method name="GetNames"><arg name="json" type="s" direction="out"/></method>
    <method name="GetCounters"><arg name="counters" type="a{sa{st}}" direction="out"/></method>
    <method name="Lookup">
      <arg name="eid" type="s" direction="in"/>
      <arg name="instance_id" type="u" direction="in"/>
      <arg name="answer" type="a{sv}" direction="out"/>
    </method>
    <method name="Reload">
      <arg name="changed" type="as" direction="out"/>
      <arg name="needs_restart" type="as" direction="out"/>
    </method>
    <method name="AddMapping">
      <arg name="prefix" type="s" direction="in"/>
      <arg name="locators" type="a(suu)" direction="in"/>
      <arg name="action" type="s" direction="in"/>
    </method>
    <method name="DeleteMapping"><arg name="prefix" type="s" direction="in"/></method>
    <method name="FlushMapCache"><arg name="count" type="u" direction="out"/></method>
    <signal name="Happened">
      <arg name="kind" type="s"/>
      <arg name="at" type="s"/>
      <arg name="fields" type="a{sv}"/>
    </signal>
    <signal name="Moved"><arg name="handover" type="a{sv}"/></signal>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface" type="s" direction="in"/>
      <arg name="name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface" type="s" direction="in"/>
      <arg name="values" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface" type="s" direction="in"/>
      <arg name="name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface" type="s"/>
      <arg name="changed" type="a{sv}"/>
      <arg name="invalidated" type="as"/>
    </signal>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect"><arg name="xml" type="s" direction="out"/></method>
  </interface>
</node>
"""

# What each method takes: D-Bus signature; and the polkit action that it needs, None when every user may.
_METHODS: Final[dict[str, tuple[str, str | None]]] = {
    "GetStatus": ("", None),
    "GetHandovers": ("", None),
    "GetPeers": ("", None),
    "GetPeer": ("s", None),
    "GetNames": ("", None),
    "GetCounters": ("", None),
    "Lookup": ("su", None),
    "Reload": ("", ACTION_RELOAD),
    "AddMapping": ("sa(suu)s", ACTION_CHANGE),
    "DeleteMapping": ("s", ACTION_CHANGE),
    "FlushMapCache": ("", ACTION_CHANGE),
}

log = logging.getLogger(__name__)


class DBusFace:
    """Serves `backend` on the bus: the `server` of a SystemBus. `publish()` takes the events of the control socket."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._bus: Connection | None = None
        self._shown: dict[str, Any] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def on_bus(self, bus: Connection) -> None:
        """Take the name. If another program has it, or we may not have it, the daemon works without D-Bus."""
        self._shown = properties(self._backend.status())
        self._bus = bus
        try:
            await bus.take_name(NAME)
        except BusError as error:
            log.warning("not on the system bus as %s: %s", NAME, error.text)

    def on_bus_lost(self) -> None:
        """Wait for the next one."""
        self._bus = None
        self.close()

    def on_owner(self, name: str, is_there: bool) -> None:
        """No other service matters here."""

    def on_signal(self, signal: Signal) -> None:
        """No other signal matters here."""

    def close(self) -> None:
        """Stop publishing. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def publish(self, event: Event) -> None:
        """Something happened: signal it when it is for people, and see what properties it changed."""
        if self._bus is None:
            return
        if event.kind in TOLD:
            fields = marshal("a{sv}", event.fields, self._bus.variant)
            self._bus.emit(PATH, NAME, "Happened", "ssa{sv}", event.kind, event.at, fields)
        self.touch()

    def touch(self) -> None:
        """Something may have changed: look in a moment, once for all that comes together."""
        if self._bus is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._refresh)

    def _refresh(self) -> None:
        self._timer = None
        if self._bus is None:
            return
        old, self._shown = self._shown, properties(self._backend.status())
        changed = {key: value for key, value in self._shown.items() if value != old.get(key)}
        if not changed:
            return
        move = self._shown["LastHandover"]
        if move and move.get("id") != old.get("LastHandover", {}).get("id"):
            self._bus.emit(PATH, NAME, "Moved", "a{sv}", marshal("a{sv}", move, self._bus.variant))
        self._bus.emit(
            PATH, f"{_STANDARD}.Properties", "PropertiesChanged", "sa{sv}as", NAME, self._variants(changed), []
        )

    def _variants(self, values: dict[str, Any]) -> dict[str, Any]:
        assert self._bus is not None
        variant = self._bus.variant
        return {
            key: variant(SIGNATURES[key], marshal(SIGNATURES[key], value, variant)) for key, value in values.items()
        }

    # --- calls

    async def on_call(self, call: Call) -> tuple[str, list[Any]]:
        """Answer one call. Raises BusError."""
        if call.interface == f"{_STANDARD}.Introspectable" and call.member == "Introspect":
            return "s", [_introspect(call.path)]
        if call.path != PATH:
            raise BusError(f"{_STANDARD}.Error.UnknownObject", f"there is no object at {call.path}")
        if call.interface == f"{_STANDARD}.Properties":
            return self._on_properties(call)
        known = _METHODS.get(call.member)
        if call.interface not in (NAME, "") or known is None:
            raise BusError(f"{_STANDARD}.Error.UnknownMethod", f"no method {call.interface}.{call.member}")
        signature, action = known
        if call.signature != signature:
            raise BusError(f"{_STANDARD}.Error.InvalidArgs", f"{call.member} takes ({signature})")
        if action is not None:
            await self._authorize(call, action)
        try:
            return await self._do(call)
        except ApiError as error:
            name = "".join(word.capitalize() for word in error.code.split("-"))
            raise BusError(f"net.lispmob.Error.{name}", str(error)) from None

    async def _authorize(self, call: Call, action: str) -> None:
        assert self._bus is not None
        if not await is_authorized(self._bus, call.sender, action, may_ask=call.may_ask):
            raise BusError(f"{_STANDARD}.Error.AccessDenied", f"{call.member} needs the permission {action}")

    def _on_properties(self, call: Call) -> tuple[str, list[Any]]:
        match call.member, call.body:
            case "GetAll", (interface,):
                values = properties(self._backend.status()) if interface == NAME else {}
                return "a{sv}", [self._variants(values)]
            case "Get", (interface, name) if interface == NAME and name in SIGNATURES:
                value = properties(self._backend.status())[name]
                return "v", [self._variants({name: value})[name]]
            case "Set", (interface, name, _) if interface == NAME and name in SIGNATURES:
                raise BusError(f"{_STANDARD}.Error.PropertyReadOnly", f"{name} can only be read")
            case _:
                raise BusError(f"{_STANDARD}.Error.UnknownProperty", f"no such property: {call.body[:2]}")

    async def _do(self, call: Call) -> tuple[str, list[Any]]:
        match call.member, call.body:
            case "GetStatus", _:
                return "s", [msgspec.json.encode(self._backend.status()).decode()]
            case "GetHandovers", _:
                return "s", [msgspec.json.encode(list(self._backend.handovers())).decode()]
            case "GetPeers", _:
                return "s", [msgspec.json.encode(await latest(self._backend.peers.peers(), PEERS_MAX)).decode()]
            case "GetPeer", (name,):
                assert self._bus is not None
                return "a{sv}", [marshal("a{sv}", plain(await self._ask("peers", peer=name)), self._bus.variant)]
            case "GetNames", _:
                return "s", [msgspec.json.encode(self._backend.peers.names()).decode()]
            case "GetCounters", _:
                return "a{sa{st}}", [{group: dict(each) for group, each in self._backend.counters().items()}]
            case "Lookup", (eid, instance_id):
                found: Lookup = await self._ask("lookup", eid=eid, instance_id=instance_id)
                assert self._bus is not None
                return "a{sv}", [marshal("a{sv}", plain(found), self._bus.variant)]
            case "Reload", _:
                done: Reloaded = await self._ask("reload")
                self.touch()
                return "asas", [done.changed, done.needs_restart]
            case "AddMapping", (prefix, locators, action):
                listed = [{"address": locator[0], "priority": locator[1], "weight": locator[2]} for locator in locators]
                await self._ask("map-cache-add", prefix=prefix, locators=listed, action=action)
                return "", []
            case "DeleteMapping", (prefix,):
                await self._ask("map-cache-delete", prefix=prefix)
                return "", []
            case "FlushMapCache", _:
                return "u", [(await self._ask("map-cache-flush")).count]
        raise BusError(f"{_STANDARD}.Error.UnknownMethod", call.member)

    async def _ask(self, method: str, **params: Any) -> Any:
        """By the control socket's way in: its checks, its errors."""
        request = Request(v=API_VERSION, id=0, method=method, params=msgspec.Raw(msgspec.json.encode(params)))
        result = call_method(self._backend, request, may_change=True)
        return await result if is_pending(result) else result


async def latest(peers: Pages, most: int) -> list[msgspec.Struct]:
    """Those that packets went to lately; the loop turns between two pages."""
    found: list[msgspec.Struct] = []
    for page in peers.pages:
        found += page
        if len(found) > most:
            found.sort(key=_unused_s)
            del found[most:]
        await asyncio.sleep(0)
    return sorted(found, key=_unused_s)


def _unused_s(peer: msgspec.Struct) -> float:
    used_s: float | None = getattr(peer, "used_s", None)
    return float("inf") if used_s is None else used_s


def _introspect(path: str) -> str:
    """Our object, or the way to it."""
    if path == PATH:
        return INTROSPECTION
    head = path.rstrip("/") + "/"
    if PATH.startswith(head):
        return f'<node><node name="{PATH.removeprefix(head).partition("/")[0]}"/></node>'
    return "<node/>"
