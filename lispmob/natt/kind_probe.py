"""Finds the kind of a NAT in the terms of RFC 4787, with ports used for nothing else.

    port 1 --- Info-Request in a data packet ---> RTR : 4341      answered with the place outside
    port 1 --- Info-Request ---> Map-Server : 4342                answered with the place outside; the same one?

    port 2 --- Info-Request in a data packet ---> RTR : 4341      answered with the place outside
    4342 --- Encapsulated Map-Request ---> RTR, Map-Server        "answer to that place", which both do from 4342

Two ports, because a NAT may treat the second binding differently after refusing packets to the first.
An answer from the Map-Server, to which the port never sent: endpoint-independent filtering. From the RTR alone, to
whose port 4341 it sent: address-dependent. No answer: address-and-port-dependent.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import ClassVar, Final, TypeAlias

import msgspec

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.natt.info_exchange import Seen
from lispmob.natt.question import SendFromSparePort, question
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.auth import sign, verify
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader, split_data_packet
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import CONTROL_PORT, DATA_PORT, MessageType
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import build_ip_udp, parse_ip_udp
from lispmob.wire.map_reply import MapReply

ANSWER_S: Final = 1.0
TRIES: Final = 3

ENDPOINT_INDEPENDENT: Final = "endpoint-independent"
ADDRESS_DEPENDENT: Final = "address-dependent"
ADDRESS_AND_PORT_DEPENDENT: Final = "address-and-port-dependent"


class KindFound(msgspec.Struct, frozen=True):
    """The kind of the NAT of one address; None: unknown.

    With an RTR at the Map-Server's own address, address-dependent and endpoint-independent look the same.
    """

    address: IpAddress
    mapping: str | None
    filtering: str | None


KindEffect: TypeAlias = SendFromSparePort | SendControl | KindFound


class _Phase(Enum):
    RESTING = "resting"
    PUNCHING = "punching"
    ASKING = "asking"
    COMPARING = "comparing"


class _KindProbe:
    """One verdict about one address. `host_name` identifies us to the RTR."""

    _AFTER_PUNCH: ClassVar[_Phase]

    def __init__(
        self,
        locator: LocalLocator,
        eid: EidPrefix,
        seen: Seen,
        rtr: IpAddress,
        host_name: bytes,
        *,
        new_nonce: Callable[[], int],
    ) -> None:
        self._locator = locator
        self._eid = eid
        self._seen = seen
        self._rtr = rtr
        self._host_name = host_name
        self._nonces = [new_nonce() for _ in range(5)]
        self._phase = _Phase.RESTING
        self._tries = 0
        self._wake_at: float | None = None
        self._place: tuple[IpAddress, int] | None = None
        self._answered: set[IpAddress] = set()
        self._has_control = False

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return self._wake_at

    def start(self, now: float) -> list[KindEffect]:
        """Begin."""
        return self._enter(_Phase.PUNCHING, now)

    def on_timer(self, now: float) -> list[KindEffect]:
        """A deadline may have passed."""
        if self._wake_at is None or now < self._wake_at:
            return []
        if self._tries < TRIES:
            return self._send(now)
        return self._end(None)

    def on_spare_datagram(self, payload: bytes, now: float) -> list[KindEffect]:
        """A datagram came to the spare port."""
        try:
            kind = payload[0] >> 4 if payload else 0
            if self._phase is _Phase.PUNCHING:
                _, inner = split_data_packet(payload)
                return self._on_punched(InfoReply.decode(parse_ip_udp(inner).payload), now)
            if self._phase is _Phase.ASKING and kind == MessageType.MAP_REPLY:
                return self._on_answer(MapReply.decode(payload))
            if self._phase is _Phase.COMPARING and kind == MessageType.INFO:
                verify(payload, self._seen.server.key)
                return self._on_compared(InfoReply.decode(payload))
        except (MalformedMessage, AuthenticationFailed):
            pass  # garbage only delays the verdict
        return []

    def on_control_reply(self, reply: MapReply) -> bool:
        """True when a Map-Reply on the control port answers the control request."""
        is_answer = self._phase is _Phase.ASKING and reply.nonce == self._nonces[3]
        self._has_control = self._has_control or is_answer
        return is_answer

    def _on_punched(self, reply: InfoReply, now: float) -> list[KindEffect]:
        address = reply.nat.global_etr_rloc
        if reply.nonce != self._nonces[0] or address is None or address != self._seen.address:
            return []
        self._place = (self._seen.address, reply.nat.etr_port)
        return self._enter(self._AFTER_PUNCH, now)

    def _on_answer(self, reply: MapReply) -> list[KindEffect]:
        asked = {self._nonces[1]: self._rtr, self._nonces[2]: self._seen.server.address}.get(reply.nonce)
        if asked is None:
            return []
        self._answered.add(asked)
        is_widest = self._seen.server.address in self._answered
        return self._end(None) if is_widest else []

    def _on_compared(self, reply: InfoReply) -> list[KindEffect]:
        if reply.nonce != self._nonces[4] or self._place is None:
            return []
        is_same = (reply.nat.global_etr_rloc, reply.nat.etr_port) == self._place
        is_one_host = self._rtr == self._seen.server.address
        other = ADDRESS_AND_PORT_DEPENDENT if is_one_host else ADDRESS_DEPENDENT
        return self._end(ENDPOINT_INDEPENDENT if is_same else other)

    def _end(self, mapping: str | None) -> list[KindEffect]:
        filtering = None
        if self._seen.server.address in self._answered:
            filtering = ENDPOINT_INDEPENDENT if self._rtr != self._seen.server.address else ADDRESS_DEPENDENT
        elif self._rtr in self._answered:
            filtering = ADDRESS_DEPENDENT
        elif self._has_control:
            filtering = ADDRESS_AND_PORT_DEPENDENT
        self._phase, self._wake_at = _Phase.RESTING, None
        return [KindFound(self._locator.address, mapping, filtering)]

    def _enter(self, phase: _Phase, now: float) -> list[KindEffect]:
        self._phase, self._tries = phase, 0
        return self._send(now)

    def _send(self, now: float) -> list[KindEffect]:
        self._tries += 1
        self._wake_at = now + ANSWER_S
        one, server = self._locator, self._seen.server
        if self._phase is _Phase.PUNCHING:
            request = InfoRequest(self._nonces[0], None, 0, tail=DistinguishedName(self._host_name))
            here = one.address_towards(self._rtr)
            inner = build_ip_udp(here, CONTROL_PORT, self._rtr, CONTROL_PORT, request.encode())
            payload = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode() + inner
            return [SendFromSparePort(payload, self._rtr, DATA_PORT, one.address, one.ifindex)]
        if self._phase is _Phase.ASKING:
            assert self._place is not None
            assert self._seen.address is not None
            place, port = self._place
            return [
                question(one, self._eid, self._rtr, self._nonces[1], place, port),
                question(one, self._eid, server.address, self._nonces[2], place, port),
                question(one, self._eid, server.address, self._nonces[3], self._seen.address, self._seen.port),
            ]
        request = InfoRequest(self._nonces[4], from_prefix(self._eid), self._eid.mask_len)
        payload = sign(request, server.key)
        return [SendFromSparePort(payload, server.address, CONTROL_PORT, one.address, one.ifindex)]


class MappingProbe(_KindProbe):
    """Whether a port keeps its translation towards all destinations."""

    _AFTER_PUNCH = _Phase.COMPARING


class FilteringProbe(_KindProbe):
    """Which hosts may send to an open port."""

    _AFTER_PUNCH = _Phase.ASKING
