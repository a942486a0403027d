"""lispers.net's keepalive: Info-Requests to RTRs, in data packets from the one port that data leaves from.

    node : ephemeral -> NAT -> RTR : 4341     data header, Instance-ID 0xFFFFFF, and the message: no inner IP, no UDP

An RTR takes the translated address and port from them, and keeps both by host name. By the draft it answers; the one in
the field does not. So only an RTR that did answer can be seen to die.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from lispmob.control.effect import Count
from lispmob.control.locator_set import LocalLocator
from lispmob.natt.dialect import PUNCH_INTERVAL_S, TRAITS, Dialect
from lispmob.natt.effect import DataPort, SendFromDataPort
from lispmob.values import dataclass
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.info import InfoReply, InfoRequest

SILENT_LIMIT: Final = 3  # ours: punches that an RTR which used to answer may leave unanswered


@dataclass(slots=True)
class _Rtr:
    nonce: int = 0
    sent_at: float = 0.0
    unanswered: int = 0
    rtt_s: float | None = None  # None: has never answered


class Punches:
    """Keeps the bindings of one uplink to all its RTRs."""

    def __init__(self, locator: LocalLocator, host_name: bytes, *, new_nonce: Callable[[], int]) -> None:
        self._locator = locator
        self._host_name = host_name
        self._new_nonce = new_nonce
        self._rtrs: dict[IpAddress, _Rtr] = {}
        self._interval_s = PUNCH_INTERVAL_S
        self._wake_at: float | None = None

    @property
    def alive(self) -> tuple[IpAddress, ...]:
        """The RTRs that nothing speaks against; all of them when everything does."""
        found = tuple(ip for ip, rtr in self._rtrs.items() if rtr.rtt_s is None or rtr.unanswered < SILENT_LIMIT)
        return found or tuple(self._rtrs)

    def rtt_s(self, rtr: IpAddress) -> float | None:
        """The last round trip to an RTR that answers."""
        known = self._rtrs.get(rtr)
        return known.rtt_s if known else None

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return self._wake_at

    def start(self, rtrs: Iterable[IpAddress], interval_s: float, now: float) -> list[SendFromDataPort | Count]:
        """Keep the bindings to these RTRs; at once when there is a new one among them."""
        before = self._rtrs
        self._rtrs = {ip: before.get(ip, _Rtr()) for ip in rtrs}
        self._interval_s = min(interval_s, PUNCH_INTERVAL_S)
        return [] if self._rtrs.keys() <= before.keys() and self._wake_at is not None else self._punch(now)

    def stop(self) -> None:
        """No binding is wanted any more."""
        self._rtrs.clear()
        self._wake_at = None

    def on_timer(self, now: float) -> list[SendFromDataPort | Count]:
        """A deadline may have passed."""
        if self._wake_at is None or now < self._wake_at:
            return []
        return self._punch(now)

    def on_info_reply(self, reply: InfoReply, source: IpAddress, now: float) -> bool:
        """True when this is an RTR's answer to the last punch."""
        rtr = self._rtrs.get(source)
        if rtr is None or not rtr.unanswered or reply.nonce != rtr.nonce:
            return False
        rtr.unanswered = 0
        rtr.rtt_s = now - rtr.sent_at
        return True

    def _punch(self, now: float) -> list[SendFromDataPort | Count]:
        self._wake_at = now + self._interval_s if self._rtrs else None
        effects: list[SendFromDataPort | Count] = []
        one = self._locator
        port = TRAITS[Dialect.LISPERS].rtr_punch_port
        assert port is not None
        for ip, rtr in self._rtrs.items():
            rtr.nonce, rtr.sent_at = self._new_nonce(), now
            rtr.unanswered += 1
            request = InfoRequest(rtr.nonce, None, 0, tail=DistinguishedName(self._host_name))
            payload = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode() + request.encode()
            effects.append(SendFromDataPort(payload, ip, port, one.address, one.ifindex, DataPort.EPHEMERAL))
            effects.append(Count("tx_info_request"))
        return effects
