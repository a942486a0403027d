"""Which source port control messages to the mapping system leave from: 4342, or another one; pure.

How it works. A NAT decides about a flow once, at its first packet, and keeps to that for as long as packets come. A
login page that redirects all UDP to itself, or an address that the NAT has lost, so holds the flow from port 4342
after the network works again, and our own tries keep it there. Each new source port is a new flow.

1. Map-Registers, Info-Requests and Map-Requests in an ECM are counted until the server answers. The first two are
   answered to the port that they came from (RFC 9301, 5.7; NAT-traversal draft), the last one to the inner source port.
   Info-Requests are counted apart, because not every Map-Server answers them.
2. After TRIES over TRIED_S the next tries leave from other ports: a fresh one each time, since the flow of the last one
   may be held as well. The port that is answered is used for all messages to that server.
3. Nothing leaves from 4342 meanwhile until the NAT has forgotten that flow. Then one message tries it: a filter may
   let no other port pass. While another port is answered, the pause before the next such try is twice as long. An
   answer to one ends all.

Port 0 stands for 4342; the adapter has a socket for each other one in `open_ports`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import cycle
from typing import Final, TypeAlias

from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType

TRIES: Final = 3  # ours: unanswered ones from 4342 before another port is tried
TRIED_S: Final = 3.0  # ours: over at least this time
FRESH_S: Final = 0.5  # ours: what is sent together, such as the registers of several EIDs, shares a fresh port
WAITING: Final = 3  # ours: fresh ports of one server that an answer may still come to
REST_S: Final = 35.0  # ours: Linux forgets a UDP flow without replies after 30 s
REST_MAX_S: Final = 600.0  # ours
RETURN_S: Final = 10.0  # ours: an answer that comes to 4342 later than this after a message from there proves nothing
KEPT: Final = 16  # ours: pairs of a local address and a server, the latest

PORTS: Final = range(61000, 65536)  # ours: above those that Linux gives to others (ip_local_port_range)

_COUNTED: Final = (MessageType.MAP_REGISTER, MessageType.INFO, MessageType.ENCAPSULATED_CONTROL)
_ANSWER: Final = MessageType.MAP_REPLY  # goes back by the port that it was asked at

_Way: TypeAlias = tuple[IpAddress, IpAddress]
"""A local address, and the address of a Map-Server or Map-Resolver."""


class _Silence:
    """Tries since the last answer."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.tries = 0

    def is_suspicious(self, now: float) -> bool:
        return self.tries >= TRIES and now >= self.since + TRIED_S


class _Ports:
    """The ports of one way."""

    def __init__(self) -> None:
        self.proven = 0
        self.fresh: deque[int] = deque(maxlen=WAITING)
        self.fresh_at = float("-inf")
        self.control_at = float("-inf")  # when a message last left from 4342
        self.rest_s = REST_S
        self.silences: dict[bool, _Silence] = {}  # of Info-Requests (True), and of the others


class SourcePorts:
    """The source ports of a node's control messages."""

    def __init__(self) -> None:
        self._ways: OrderedDict[_Way, _Ports] = OrderedDict()
        self._ports = cycle(PORTS)

    @property
    def open_ports(self) -> frozenset[int]:
        """The other ports that messages leave from, or that an answer may still come to."""
        return frozenset(port for way in self._ways.values() for port in (way.proven, *way.fresh) if port)

    def is_away(self, source: IpAddress) -> bool:
        """True when messages from this address leave from another port than 4342."""
        return any(local == source and way.proven for (local, _), way in self._ways.items())

    def on_send(self, message: SendControl, now: float) -> tuple[SendControl, int]:
        """The message as it is to be sent now, and the port that it leaves from."""
        port = self._port_for(message, now)
        return (_from_port(message, port) if port else message), port

    def _port_for(self, message: SendControl, now: float) -> int:
        kind = message.payload[0] >> 4 if message.payload else 0
        if message.source is None or kind == _ANSWER:
            return 0
        way = self._ways.get((message.source, message.destination))
        if kind not in _COUNTED:  # it may go to a host that never answers
            return way.proven if way is not None else 0
        if way is None:
            way = self._ways[message.source, message.destination] = _Ports()
            while len(self._ways) > KEPT:
                self._ways.popitem(last=False)
        self._ways.move_to_end((message.source, message.destination))
        port = self._choose(way, kind, now)
        way.silences.setdefault(kind == MessageType.INFO, _Silence(now)).tries += 1
        if port == 0:
            way.control_at = now
        return port

    def on_control_port_used(self, source: IpAddress | None, destination: IpAddress, now: float) -> None:
        """The datapath has sent a message from port 4342 by itself."""
        if source is not None and (way := self._ways.get((source, destination))) is not None:
            way.control_at = now

    def on_heard(self, local: IpAddress, server: IpAddress) -> None:
        """What was sent to this server has been answered, perhaps by another host."""
        if (way := self._ways.get((local, server))) is not None:
            way.silences.clear()

    def on_answered(self, local: IpAddress, server: IpAddress, port: int, now: float) -> None:
        """The server has answered, at this port. The answer was checked."""
        way = self._ways.get((local, server))
        if way is None:
            return
        way.silences.clear()
        if port == 0 and (way.proven == 0 or now < way.control_at + RETURN_S):
            way.proven, way.rest_s = 0, REST_S
            way.fresh.clear()
        elif port in way.fresh:
            way.proven = port
            way.fresh.clear()

    def _choose(self, way: _Ports, kind: int, now: float) -> int:
        counted = [one for is_info, one in way.silences.items() if not is_info or kind == MessageType.INFO]
        is_silent = any(one.is_suspicious(now) for one in counted)
        if not is_silent and not way.proven:
            return 0
        # A Map-Request does not try 4342: packets wait for its answer.
        if kind != MessageType.ENCAPSULATED_CONTROL and now >= way.control_at + way.rest_s:
            way.rest_s = min(2 * way.rest_s, REST_MAX_S) if way.proven else REST_S
            return 0
        return self._fresh(way, now) if is_silent else way.proven

    def _fresh(self, way: _Ports, now: float) -> int:
        if not way.fresh or now >= way.fresh_at + FRESH_S:
            way.fresh.append(next(self._ports))
            way.fresh_at = now
        return way.fresh[-1]


def _from_port(message: SendControl, port: int) -> SendControl:
    """The message with this port as the one that a Map-Reply goes to, if that was 4342."""
    if message.payload[0] >> 4 != MessageType.ENCAPSULATED_CONTROL:
        return message
    try:
        ecm = EncapsulatedControl.decode(message.payload)
    except MalformedMessage:  # ours are well-formed
        return message
    return (
        replace(message, payload=replace(ecm, source_port=port).encode())
        if ecm.source_port == CONTROL_PORT
        else message
    )
