"""The local socket of flows: programs register names, allocate flows, and get sockets (`packets.py` has the format).

A flow lives as long as the connection that requested it. No client can block the daemon or exhaust its memory: clients,
requests under way and unread packets are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lispmob.api.listen import Peer, file_identity, group_id_of, listen_at, peer_of, remove_socket
from lispmob.config.flows import FlowsSection
from lispmob.errors import LispError
from lispmob.flow import packets, sockets
from lispmob.flow.adopting import read_adoption
from lispmob.flow.adoption import show
from lispmob.flow.caller import Ask
from lispmob.flow.effect import AskProgram, FlowId, FlowOpened
from lispmob.flow.limits import UserShare
from lispmob.flow.message import MAX_CALLER_OCTETS, Reason, reason_word
from lispmob.flow.name import check_name, fold
from lispmob.flow.steered import Owner
from lispmob.lispd.flows.names import group_names, held_name, section_of, user_name, why_not
from lispmob.lispd.flows.service import AllocationRefused, FlowService

MAX_CLIENTS: Final = 256  # ours
MAX_CLIENTS_OF_USER: Final = 64  # ours: so that one user leaves room for others
MAX_ALLOCATIONS_OF_USER: Final = 32
MAX_ADOPTED: Final = 64  # ours: by one connection
MAX_UNREAD: Final = 256  # ours: packets that a client has not taken yet
MAX_TIMEOUT_S: Final = 3600.0
MAX_LIFETIME_S: Final = 65535
PACKETS_A_TURN: Final = 32

log = logging.getLogger(__name__)


class Refused(LispError):
    """A request was refused; `code` is a word for programs."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class FlowServer:
    """Serves programs at `path`. `start`, `close`."""

    def __init__(self, service: FlowService, path: Path, *, group: str = "lispmob") -> None:
        self._service, self._path, self._group = service, path, group
        self._group_id: int | None = None
        self._listener: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._loop = asyncio.get_running_loop()
        self.clients: set[_Client] = set()
        self.allocations: Counter[int] = Counter()  # in progress, by user
        self.requests = UserShare()

    @property
    def flows(self) -> FlowsSection:
        """The configuration."""
        return self._service.flows

    def start(self) -> None:
        """Listen. Raises SocketRefusedError."""
        self._group_id = group_id_of(self._group)
        # All users may connect; the credentials decide what they may do.
        listener = listen_at(self._path, mode=0o666, kind=socket.SOCK_SEQPACKET, setting="flows.socket")
        self._listener, self._identity = listener, file_identity(self._path)
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Close all connections and remove the socket file."""
        if self._listener is None or self._identity is None:
            return
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        remove_socket(self._path, self._identity)
        for client in list(self.clients):
            client.end()

    def take_away(self, name: str) -> None:
        """The holder of a name loses it, and is informed."""
        for client in list(self.clients):
            client.lose(name)

    def may_do_all(self, peer: Peer) -> bool:
        """True for root and the control group."""
        return peer.may_change(self._group_id)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            try:
                peer = peer_of(connection)
            except OSError:
                connection.close()
                return
            of_user = sum(client.peer.uid == peer.uid for client in self.clients)
            if len(self.clients) >= MAX_CLIENTS or (of_user >= MAX_CLIENTS_OF_USER and peer.uid):
                with contextlib.suppress(OSError):
                    packets.send(connection, _error(None, "busy", "too many programs are connected already"))
                connection.close()
                return
            self.clients.add(_Client(self, self._service, connection, peer))


class _Client:
    """One program: its names, its flows, its open requests."""

    def __init__(self, server: FlowServer, service: FlowService, connection: socket.socket, peer: Peer) -> None:
        self._server, self._service = server, service
        self._connection = connection
        self.peer = peer
        self.user = user_name(peer.uid)
        self.owner: Owner | None = Owner(peer.pid, peer.uid, peer.gid)
        self._loop = asyncio.get_running_loop()
        self._names: dict[bytes, str] = {}
        self._flows: set[FlowId] = set()
        self._given: list[int] = []  # the descriptors of the current packet
        self._asked: set[FlowId] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._unsent: deque[tuple[dict[str, Any], socket.socket | None]] = deque()
        self._loop.add_reader(connection.fileno(), self._on_readable)
        self._methods: Mapping[str, Callable[[int, dict[str, Any]], dict[str, Any] | None]] = {
            "register": self._register,
            "unregister": self._unregister,
            "allocate": self._allocate,
            "adopt": self._adopt,
            "cancel": self._cancel,
            "answer": self._answer,
            "close": self._close,
            "list": self._list,
            "resolve": self._resolve,
        }

    def end(self) -> None:
        """The program has gone, with its names and flows. Idempotent."""
        if self not in self._server.clients:
            return
        self._server.clients.discard(self)
        fd = self._connection.fileno()
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        self._connection.close()
        for task in self._tasks.values():
            task.cancel()
        for name in self._names.values():
            self._service.release(name)
        for flow in self._flows:
            self._service.close(flow, Reason.PROGRAM_ENDED)
        for flow in self._asked:
            self._service.answer(flow, Reason.NO_ANSWER)
        for _, one in self._unsent:
            if one is not None:
                one.close()

    def lose(self, name: str) -> None:
        """Another program takes a name. Its flows stay."""
        held = self._names.pop(fold(name), None)
        if held is not None:
            self._service.release(held, Reason.REPLACED)
            self._send({"event": {"kind": "replaced", "fields": {"name": held}}})

    # --- for the service

    def on_call(self, asked: AskProgram) -> None:
        """A call came for a name that this program decides about."""
        self._asked.add(asked.flow)
        fields = {
            "flow": asked.flow,
            "name": asked.name.decode(),
            "peer": str(asked.caller),
            "caller": asked.caller_says,
            "qos": packets.quality_to_json(asked.wish),
        }
        self._send({"event": {"kind": "call", "fields": fields}})

    def on_flow(self, opened: FlowOpened, one: socket.socket) -> None:
        """A call to a name of this program is open."""
        self._asked.discard(opened.flow)
        self._flows.add(opened.flow)
        self._send({"event": {"kind": "flow", "fields": _flow_fields(opened, one, is_ours=False)}}, one.dup())

    def on_ended(self, flow: FlowId, reason_code: int) -> None:
        """A flow of this program has ended."""
        self._flows.discard(flow)
        self._send({"event": {"kind": "closed", "fields": {"flow": flow, "reason": reason_word(reason_code)}}})

    # --- requests

    def _on_readable(self) -> None:
        for _ in range(PACKETS_A_TURN):
            if wait_s := self._server.requests.wait_s(self.peer.uid, self._loop.time()):
                self._loop.remove_reader(self._connection.fileno())
                self._loop.call_later(wait_s, self._read_on)
                return
            try:
                octets, descriptors = packets.receive(self._connection)
            except BlockingIOError:
                return
            except OSError:
                self.end()
                return
            if not octets:
                self.end()
                return
            self._server.requests.on_request(self.peer.uid, self._loop.time())
            self._given = descriptors
            try:
                self._on_packet(octets)
            finally:
                for fd in self._given:
                    os.close(fd)
            if self not in self._server.clients:
                return

    def _read_on(self) -> None:
        if self in self._server.clients:
            self._loop.add_reader(self._connection.fileno(), self._on_readable)

    def _on_packet(self, octets: bytes) -> None:
        number: int | None = None
        try:
            packet = packets.unpack(octets)
            given, word, params = packet.get("id"), packet.get("method"), packet.get("params", {})
            if not isinstance(given, int) or isinstance(given, bool) or not isinstance(params, dict):
                raise Refused("malformed", "a request has a number as 'id', a 'method', and an object as 'params'")
            number = given
            method = self._methods.get(word) if isinstance(word, str) else None
            if method is None:
                raise Refused("method", f"there is no method {str(word)[:40]!r}: {', '.join(self._methods)}")
            result = method(number, params)
            if result is not None:
                self._send({"id": number, "result": result})
        except Refused as refused:
            self._send(_error(number, refused.code, str(refused)))
        except LispError as error:
            self._send(_error(number, "refused", str(error)))
        except (ValueError, RecursionError) as error:  # no JSON, or a value of the wrong kind
            self._send(_error(number, "malformed", str(error)[:200]))

    def _register(self, _number: int, params: dict[str, Any]) -> dict[str, Any]:
        name = check_name(_text(params, "name"))
        decides, replaces = params.get("decide", "daemon"), params.get("replace", False)
        backlog = params.get("backlog", 16)
        if decides not in ("daemon", "program"):
            raise Refused("params", "decide: daemon or program")
        if not isinstance(backlog, int) or not 1 <= backlog <= 64:
            raise Refused("params", "backlog: a number from 1 to 64")
        if not isinstance(replaces, bool):
            raise Refused("params", "replace: true or false")
        if replaces and not self._server.may_do_all(self.peer):
            raise Refused("not-allowed", "only root and the members of the control group may take a name from another")
        self._check_may_hold(name)
        if replaces:
            self._server.take_away(name)
        held = held_name(
            name, f"{self.user} (pid {self.peer.pid})", self._server.flows, self._service.is_overlay,
            asks_program=decides == "program", backlog=backlog,
        )  # fmt: skip
        self._service.hold(held, self)
        self._names[fold(name)] = name
        log.info("user %s accepts flows to %s", self.user, ascii(name)[1:-1])
        return {"name": name}

    def _check_may_hold(self, name: str) -> None:
        if self._server.may_do_all(self.peer):
            return
        section = section_of(name, self._server.flows)
        if (why := why_not(name, self.user, group_names(self.peer.groups), section)) is not None:
            raise Refused("not-allowed", why)

    def _unregister(self, _number: int, params: dict[str, Any]) -> dict[str, Any]:
        name = self._names.pop(fold(_text(params, "name")), None)
        if name is None:
            raise Refused("params", "name: not held by this program")
        self._service.release(name)
        return {}

    def _allocate(self, number: int, params: dict[str, Any]) -> None:
        name = check_name(_text(params, "name").rpartition("@")[0] or _text(params, "name"))
        caller = params.get("caller", "")
        timeout_s, lifetime_s = params.get("timeout_s", 10.0), params.get("lifetime_s", 600)
        protocol, via = params.get("protocol", 1), self._via(params)
        if not isinstance(timeout_s, int | float) or not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise Refused("params", f"timeout_s: seconds, more than 0 and at most {MAX_TIMEOUT_S:g}")
        if not isinstance(lifetime_s, int) or not 0 <= lifetime_s <= MAX_LIFETIME_S:
            raise Refused("params", f"lifetime_s: whole seconds, at most {MAX_LIFETIME_S}; 0: for ever")
        if protocol not in (0, 1):
            raise Refused("params", "protocol: 0 or 1")
        if not isinstance(caller, str) or len(caller.encode()) > MAX_CALLER_OCTETS:
            raise Refused("params", f"caller: a text of at most {MAX_CALLER_OCTETS} octets")
        if number in self._tasks:
            raise Refused("malformed", f"a request with the id {number} is under way")
        if self._server.allocations[self.peer.uid] >= MAX_ALLOCATIONS_OF_USER and self.peer.uid:
            raise Refused("busy", f"{MAX_ALLOCATIONS_OF_USER} allocations of {self.user} are under way already")
        ask = Ask(
            name, packets.quality_from_json(params.get("qos")), caller, float(timeout_s), lifetime_s,
            is_legacy=protocol == 0,
        )  # fmt: skip
        self._begin(number, self._allocating(number, _text(params, "name"), ask, via))

    def _adopt(self, _number: int, params: dict[str, Any]) -> dict[str, Any]:
        """A flow of an earlier lispd: the socket comes with the packet."""
        via = self._via(params)
        if len(self._flows) >= MAX_ADOPTED:
            raise Refused("busy", f"{MAX_ADOPTED} flows of one program are adopted already")
        if len(self._given) != 1:
            raise Refused("params", "the socket of the flow is needed, in the same packet")
        fd = self._given.pop()
        try:
            one = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            raise Refused("params", "the descriptor is no socket") from None
        with one:
            shown = read_adoption(params, one)
            if not shown.is_ours:
                self._check_may_hold(shown.name)
            opened = self._service.adopt(shown, one, self, via)
            self._flows.add(opened.flow)
            return _flow_fields(opened, one, is_ours=shown.is_ours)

    def _via(self, params: dict[str, Any]) -> tuple[str, ...]:
        via = params.get("via", [])
        if not isinstance(via, list) or not all(isinstance(pattern, str) and pattern for pattern in via):
            raise Refused("params", "via: a list of uplinks, by name or pattern")
        if via and not self._server.may_do_all(self.peer):
            raise Refused("not-allowed", "only root and the members of the control group may choose an uplink")
        return tuple(via)

    async def _allocating(self, number: int, name: str, ask: Ask, via: tuple[str, ...]) -> None:
        self._server.allocations[self.peer.uid] += 1
        try:
            resolved = await self._service.resolver.resolve(name)
            async with asyncio.timeout(ask.timeout_s + 1):
                allocated = await self._service.allocate(ask, resolved, self, via)
        except AllocationRefused as refused:
            reason = reason_word(refused.reason_code) if refused.reason_code else refused.failure.value
            self._send(_error(number, refused.failure.value, str(refused), reason=reason))
        except LispError as error:
            self._send(_error(number, "no-such-name", str(error)))
        except TimeoutError:
            self._send(_error(number, "timed-out", f"no answer in {ask.timeout_s:g} s"))
        else:
            self._flows.add(allocated.opened.flow)
            result = _flow_fields(allocated.opened, allocated.socket, is_ours=True)
            self._send({"id": number, "result": result}, allocated.socket)
        finally:
            self._server.allocations[self.peer.uid] -= 1

    def _begin(self, number: int, work: Any) -> None:
        task = self._tasks[number] = self._loop.create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    def _cancel(self, _number: int, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("id")
        task = self._tasks.get(wanted) if isinstance(wanted, int) else None
        if task is not None:
            task.cancel()
            self._send(_error(wanted, "cancelled", "cancelled"))
        return {"is_cancelled": task is not None}

    def _answer(self, _number: int, params: dict[str, Any]) -> dict[str, Any]:
        flow = _number_of(params, "flow")
        if flow not in self._asked:
            raise Refused("params", f"flow: {flow} does not wait for an answer of this program")
        accept = params.get("accept")
        if not isinstance(accept, bool):
            raise Refused("params", "accept: true or false")
        if not accept:
            self._asked.discard(flow)
        self._service.answer(flow, None if accept else Reason.NOT_ALLOWED)
        return {}

    def _close(self, _number: int, params: dict[str, Any]) -> dict[str, Any]:
        flow = _number_of(params, "flow")
        if flow not in self._flows:
            raise Refused("params", f"flow: {flow} is no flow of this program")
        self._flows.discard(flow)
        self._service.close(flow)
        return {}

    def _list(self, _number: int, _params: dict[str, Any]) -> dict[str, Any]:
        """The flows and names of this program; all of them for privileged clients."""
        sees_all = self._server.may_do_all(self.peer)
        flows = [
            {"flow": number, "name": flow.name.decode(), "peer": str(flow.peer), "direction": direction}
            for number, flow in self._service.open_flows().items()
            if sees_all or number in self._flows
            for direction in ("out" if flow.is_ours else "in",)
        ]
        names = [
            {"name": held.name, "owner": held.owner}
            for held in self._service.endpoint.holder.names()
            if sees_all or fold(held.name) in self._names
        ]
        return {"flows": flows, "names": names, "counters": dict(self._service.endpoint.counters)}

    def _resolve(self, number: int, params: dict[str, Any]) -> None:
        if self._server.allocations[self.peer.uid] >= MAX_ALLOCATIONS_OF_USER and self.peer.uid:
            raise Refused("busy", f"{MAX_ALLOCATIONS_OF_USER} requests of {self.user} are under way already")
        self._begin(number, self._resolving(number, _text(params, "name")))

    async def _resolving(self, number: int, name: str) -> None:
        self._server.allocations[self.peer.uid] += 1
        try:
            resolved = await self._service.resolver.resolve(name)
        except LispError as error:
            steps = [{"source": step.source, "outcome": step.outcome} for step in getattr(error, "steps", ())]
            self._send({**_error(number, "no-such-name", str(error)), "steps": steps})
        else:
            steps = [{"source": step.source, "outcome": step.outcome} for step in resolved.steps]
            eids = [str(eid) for eid in resolved.eids]
            self._send({"id": number, "result": {"name": resolved.name, "eids": eids, "steps": steps}})
        finally:
            self._server.allocations[self.peer.uid] -= 1

    # --- sending

    def _send(self, packet: dict[str, Any], one: socket.socket | None = None) -> None:
        """Send a packet and a socket, which we close, now or when there is room."""
        if self not in self._server.clients:
            if one is not None:
                one.close()
            return
        self._unsent.append((packet, one))
        if len(self._unsent) > MAX_UNREAD:
            log.warning("a program of user %s does not read its socket: connection closed", self.user)
            self.end()
            return
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            packet, one = self._unsent[0]
            try:
                packets.send(self._connection, packet, () if one is None else (one.fileno(),))
            except BlockingIOError:
                self._loop.add_writer(self._connection.fileno(), self._flush)
                return
            except OSError:
                self._loop.call_soon(self.end)
                return
            self._unsent.popleft()
            if one is not None:
                one.close()
        self._loop.remove_writer(self._connection.fileno())


def _flow_fields(opened: FlowOpened, one: socket.socket, *, is_ours: bool) -> dict[str, Any]:
    return {
        "flow": opened.flow,
        "name": opened.name.decode(),
        "peer": str(opened.peer),
        "qos": packets.quality_to_json(opened.granted),
        "lifetime_s": opened.lifetime_s,
        "max_datagram": sockets.max_datagram(one),
        **show(opened, is_ours=is_ours),
    }


def _error(number: int | None, code: str, why: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "error": {"code": code, "message": why, **more}}


def _text(params: dict[str, Any], key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str) or not value:
        raise Refused("params", f"{key}: a text is needed")
    return value


def _number_of(params: dict[str, Any], key: str) -> int:
    value = params.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused("params", f"{key}: a number is needed")
    return value
