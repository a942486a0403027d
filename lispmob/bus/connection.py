"""One connection to a D-Bus: calls, match rules, signals, and calls from others.

The only user of the D-Bus library: dbus-fast if it is installed, else dbus-next, with the same calls. Their high-level
objects are not used, because they introspect before each first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from lispmob.errors import LispError

LIBRARIES: Final = ("dbus_fast", "dbus_next")
"""In the order of preference; one of them is a dependency."""
BUS_NAME: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"

NO_OWNER: Final = "org.freedesktop.DBus.Error.NameHasNoOwner"

_CALL_S: Final = 5.0  # ours: a service on the same machine; libdbus waits 25 s, which is too long for every caller here
_CONNECT_S: Final = 5.0  # ours: a bus that does not even greet within this is as good as absent
_MAX_CALLS: Final = 256  # ours: calls from others that wait for us at a time; any local user may call
_MAX_CALLS_OF_ONE: Final = 8  # ours: a call may wait for a password, and one user must not exclude others
_INTERACTIVE: Final = 0x4  # D-Bus specification, ALLOW_INTERACTIVE_AUTHORIZATION
_NO_REPLY: Final = 0x1
_NO_AUTO_START: Final = 0x2
_OWNER_REPLACED_OR_MINE: Final = (1, 4)  # D-Bus specification, RequestName: PRIMARY_OWNER, ALREADY_OWNER
_DO_NOT_QUEUE: Final = 0x4

log = logging.getLogger(__name__)


class BusError(LispError):
    """The bus, or the called service, refused, or is not there. `name` is D-Bus' name of the error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class Signal(msgspec.Struct, frozen=True):
    """A signal. `body` holds plain values, no variants.

    `sender` is the well-known name when its owner is followed, else a unique name: match rules do not stop signals that
    are addressed to us directly, so a client accepts a signal only by its sender's name.
    """

    sender: str
    path: str
    interface: str
    member: str
    body: tuple[Any, ...]


class Call(msgspec.Struct, frozen=True):
    """A method call from another program; `may_ask` is true if the caller allows a password prompt."""

    sender: str
    path: str
    interface: str
    member: str
    signature: str
    body: tuple[Any, ...]
    may_ask: bool


class BusClient(Protocol):
    """What shares the connection."""

    async def on_bus(self, bus: Connection) -> None:
        """A connection is there: subscribe, ask, take names. Cancelled when it is lost meanwhile."""

    def on_bus_lost(self) -> None:
        """The connection is gone, and with it all that was subscribed."""

    def on_owner(self, name: str, is_there: bool) -> None:
        """A followed service appeared, or went; one that restarts goes and appears."""

    def on_signal(self, signal: Signal) -> None:
        """Any signal that arrived, whichever client subscribed to it."""


class BusServer(BusClient, Protocol):
    """A client that other programs call."""

    async def on_call(self, call: Call) -> tuple[str, list[Any]]:
        """Answer with (signature, values). Raises BusError, which goes back to the caller."""


def libraries() -> list[str]:
    """The D-Bus libraries that are installed here, the preferred first."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]


class Connection:
    """One connection's life. Calls raise BusError once it is over."""

    def __init__(self, library: str, address: str, clients: Sequence[BusClient], server: BusServer | None) -> None:
        self._library: Any = importlib.import_module(library)
        self._bus: Any = importlib.import_module(f"{library}.aio").MessageBus(bus_address=address)
        self._clients = clients
        self._server = server
        self._owners: dict[str, str | None] = {}  # None: not known yet
        self._waiting: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Our unique name, such as ":1.42"."""
        return str(self._bus.unique_name)

    async def open(self) -> None:
        """Connect and greet. Raises BusError."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._bus.connect()
        except Exception as error:  # the library's refusals: its own classes, EOFError, OSError, TimeoutError
            self._close_socket()
            raise BusError("net.lispmob.NoBus", str(error) or type(error).__name__) from None
        self._lost = asyncio.get_running_loop().create_task(self._bus.wait_for_disconnect())
        self._bus.add_message_handler(self._on_message)

    async def until_lost(self) -> None:
        """Return when the connection is over."""
        assert self._lost is not None, "open() was called"
        await asyncio.wait({self._lost})  # never awaited itself: being cancelled would cancel it for others too
        self._lost.exception()  # looked at, or asyncio complains; it says no more than that it is over

    async def close(self) -> None:
        """End it, and the answers in progress. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        if self._bus.connected:
            self._bus.disconnect()
        if self._lost is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CONNECT_S):
                    await self.until_lost()
        self._close_socket()

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
        timeout_s: float = _CALL_S,
        may_ask: bool = False,
        starts_service: bool = True,
    ) -> tuple[Any, ...]:
        """Call a method; its results without variants. Raises BusError.

        `may_ask`: a password may be asked for. `starts_service`: the bus starts the service when it does not run.
        """
        message = self._library.Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=self._library.MessageFlag(
                (_INTERACTIVE if may_ask else 0) | (0 if starts_service else _NO_AUTO_START)
            ),
        )
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise BusError(
                "org.freedesktop.DBus.Error.NoReply", f"{destination} did not answer {interface}.{member}"
            ) from None
        except Exception as error:  # the connection broke; each library has its own error for it
            raise BusError("org.freedesktop.DBus.Error.Disconnected", str(error) or type(error).__name__) from None
        if reply.error_name:
            raise BusError(str(reply.error_name), " ".join(map(str, reply.body)))
        return tuple(unwrap(value) for value in reply.body)

    async def subscribe(self, rule: str) -> None:
        """Let signals through that match. The rule ends with the connection. Raises BusError."""
        await self.call(BUS_NAME, BUS_PATH, BUS_NAME, "AddMatch", "s", rule)

    async def follow(self, name: str) -> None:
        """Inform the clients, now and later, whether a service is there. Raises BusError."""
        rule = f"type='signal',sender='{BUS_NAME}',interface='{BUS_NAME}',member='NameOwnerChanged',arg0='{name}'"
        self._owners.setdefault(name, None)
        await self.subscribe(rule)
        try:
            owner = str((await self.call(BUS_NAME, BUS_PATH, BUS_NAME, "GetNameOwner", "s", name))[0])
        except BusError as error:
            if error.name != NO_OWNER:
                raise
            owner = ""
        if self._owners[name] is None:  # otherwise a signal right after the answer was read before this line
            self._on_owner(name, owner)

    async def take_name(self, name: str) -> None:
        """Own a well-known name as long as this connection lives. Raises BusError if another program does."""
        (code,) = await self.call(BUS_NAME, BUS_PATH, BUS_NAME, "RequestName", "su", name, _DO_NOT_QUEUE)
        if code not in _OWNER_REPLACED_OR_MINE:
            raise BusError("net.lispmob.NameTaken", f"another process owns {name}")

    def emit(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        """Send a signal to its subscribers; lost with the connection."""
        if not self._bus.connected:
            return
        self._send(
            self._library.Message.new_signal(
                path=path, interface=interface, member=member, signature=signature, body=list(body)
            )
        )

    def variant(self, signature: str, value: Any) -> Any:
        """A value with its type, as D-Bus' `v` requires."""
        return self._library.Variant(signature, value)

    def _on_message(self, message: Any) -> bool | None:
        kind = message.message_type.name
        if kind == "SIGNAL":
            self._on_signal(message)
        elif kind == "METHOD_CALL" and self._server is not None and message.interface != "org.freedesktop.DBus.Peer":
            sender = str(message.sender)
            if len(self._tasks) >= _MAX_CALLS or self._waiting[sender] >= _MAX_CALLS_OF_ONE:
                self._answer_error(message, "org.freedesktop.DBus.Error.LimitsExceeded", "too many calls at a time")
                return True
            task = asyncio.get_running_loop().create_task(self._answer(self._server, message))
            self._tasks.add(task)
            self._waiting[sender] += 1
            task.add_done_callback(lambda done: self._on_answered(done, sender))
            return True
        return None

    def _on_signal(self, message: Any) -> None:
        body = tuple(unwrap(value) for value in message.body)
        sender = str(message.sender)
        if sender == BUS_NAME and message.member == "NameOwnerChanged" and body[0] in self._owners:
            self._on_owner(body[0], body[2])
            return
        known = next((name for name, owner in self._owners.items() if owner == sender), sender)
        signal = Signal(known, message.path, message.interface, message.member, body)
        for client in self._clients:
            client.on_signal(signal)

    def _on_owner(self, name: str, owner: str) -> None:
        before, self._owners[name] = self._owners[name], owner
        if before and before != owner:
            for client in self._clients:
                client.on_owner(name, False)
        if owner and before != owner:
            for client in self._clients:
                client.on_owner(name, True)

    async def _answer(self, server: BusServer, message: Any) -> None:
        call = Call(
            sender=str(message.sender),
            path=message.path,
            interface=message.interface or "",
            member=message.member,
            signature=message.signature,
            body=tuple(unwrap(value) for value in message.body),
            may_ask=bool(message.flags.value & _INTERACTIVE),
        )
        try:
            signature, values = await server.on_call(call)
            if not message.flags.value & _NO_REPLY:
                self._send(self._library.Message.new_method_return(message, signature, values))
        except BusError as error:
            self._answer_error(message, error.name, error.text)
        except Exception:  # the top of a task: a bug costs one reply, not the daemon
            log.exception("D-Bus call failed member=%s", call.member)
            self._answer_error(message, "org.freedesktop.DBus.Error.Failed", "lispd could not do this; see its log")

    def _on_answered(self, task: asyncio.Task[None], sender: str) -> None:
        self._tasks.discard(task)
        self._waiting[sender] -= 1
        if not self._waiting[sender]:
            del self._waiting[sender]

    def _answer_error(self, message: Any, name: str, text: str) -> None:
        if not message.flags.value & _NO_REPLY:
            self._send(self._library.Message.new_error(message, name, text))

    def _send(self, message: Any) -> None:
        if self._bus.connected:
            # A connection that breaks under a message cannot be told: the subscriptions are gone with it.
            self._bus.send(message).add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    def _close_socket(self) -> None:
        """dbus-next leaves both open (0.2.3); dbus-fast closes one of them, and closing twice does nothing."""
        for name in ("_stream", "_sock"):
            if (one := getattr(self._bus, name, None)) is not None:
                with contextlib.suppress(OSError):
                    one.close()


def unwrap(value: Any) -> Any:
    """A received value without the variants in it; structs are lists, whatever the library has for them."""
    if hasattr(value, "signature") and hasattr(value, "value"):
        return unwrap(value.value)
    if isinstance(value, list | tuple):
        return [unwrap(item) for item in value]
    if isinstance(value, dict):
        return {key: unwrap(each) for key, each in value.items()}
    return value
