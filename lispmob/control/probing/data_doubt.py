"""Finds out whether UDP port 4341 is filtered on a path whose probes, on port 4342, are answered.

Unanswered data alone proves nothing: the application may expect no answer. So after several such reports two
RLOC-probes are sent as data packets (Instance-ID 0xFFFFFF):

1. one whose answer comes to the control port. Without it, data does not arrive;
2. one whose answer comes as data. If only the first is answered, data does not come back.

A peer that supports no control messages in data answers neither, and looks like the first case. Therefore the verdict
also needs further unanswered data, and any data from the locator ends it.

Packets may have left a locator because of its verdict. Then no data goes there that could be unanswered, so such a
locator is held: its probes are repeated until both are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import CONTROL_PORT, DATA_PORT, MessageType
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.map_request import EidRecord, MapRequest

SILENCES: Final = 3  # ours
LASTS_S: Final = 5.0  # ours: a peer that restarts is silent for some seconds
ANSWER_S: Final = 1.0  # ours
TRIES: Final = 3  # ours: with a tenth lost each way, all of them get lost once in 150 doubts
AGAIN_S: Final = 60.0  # ours: an opened port shows in the status after a minute at most
FORGET_S: Final = 60.0  # ours: without further reports nothing is sent there any more
HELD_FIRST_S: Final = 5.0  # ours: how soon a locator is tested again that has just been found to lose data; doubles
HELD_AGAIN_S: Final = 30.0  # ours: at most, so how soon packets return to a locator whose filter is gone
DOUBTS_MAX: Final = 64  # ours

_HEADER: Final = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()


class Verdict(Enum):
    """The verdict about data on a path."""

    OPEN = "passes in both directions"
    OUT = "does not get there"
    BACK = "does not come back"


LOSES: Final = (Verdict.OUT, Verdict.BACK)


class Route(NamedTuple):
    """How to probe: an EID-Prefix that the locator serves, and the local locator to send from."""

    eid: EidPrefix
    local: IpAddress
    ifindex: int


class Question(NamedTuple):
    """One datagram from `local` port 4341 to `remote` port 4341."""

    payload: bytes
    remote: IpAddress
    local: IpAddress
    ifindex: int


class _Doubt(msgspec.Struct):
    first_at: float
    last_at: float
    silences: int = 1
    asked_at: float | None = None  # while the probes are open
    tries: int = 0
    nonces: tuple[int, int] = (0, 0)  # answered by control, answered in data
    got: tuple[bool, bool] = (False, False)
    verdict: Verdict | None = None
    judged_at: float = float("-inf")
    rest_s: float = HELD_FIRST_S


class DataDoubts:
    """All doubts of a node, by remote locator. `route_to` says how to probe (None: not now), `new_nonce` a number.

    `silences`, `lasts_s`: how many reports, over how many seconds, it takes before a locator is probed; `again_s`: the
    least time before it is probed again; `answer_s`: how long an answer may take before the probes are repeated.
    """

    def __init__(
        self,
        route_to: Callable[[IpAddress], Route | None],
        *,
        new_nonce: Callable[[], int],
        silences: int = SILENCES,
        lasts_s: float = LASTS_S,
        again_s: float = AGAIN_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._route_to = route_to
        self._new_nonce = new_nonce
        self._silences, self._lasts_s, self._again_s = silences, lasts_s, again_s
        self._answer_s = answer_s
        self._doubts: dict[IpAddress, _Doubt] = {}
        self._held: frozenset[IpAddress] = frozenset()

    def verdicts(self, now: float) -> dict[IpAddress, Verdict]:
        """The locators that lose data, with the current verdicts."""
        return {
            remote: doubt.verdict
            for remote, doubt in self._doubts.items()
            if doubt.verdict in LOSES and self._counts(remote, doubt, now)
        }

    def passing(self, now: float) -> frozenset[IpAddress]:
        """The locators that have answered both probes lately, and nothing since then says otherwise."""
        return frozenset(
            remote
            for remote, doubt in self._doubts.items()
            if doubt.verdict is Verdict.OPEN and self._counts(remote, doubt, now)
        )

    def hold(self, remotes: Iterable[IpAddress]) -> None:
        """Something depends on the verdicts about these: they are not forgotten, and a bad one is tested again."""
        self._held = frozenset(remotes)

    def on_moved(self) -> None:
        """Our locators have changed, and with them the paths: test those that are held again, at once."""
        for remote in self._held & self._doubts.keys():
            self._doubts[remote].judged_at = float("-inf")

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        times = (self._due_at(remote, doubt) for remote, doubt in self._doubts.items())
        return min((at for at in times if at is not None), default=None)

    def on_silent(self, remote: IpAddress, now: float) -> list[Question]:
        """Data to this locator went unanswered again."""
        doubt = self._doubts.get(remote)
        if doubt is None or now > doubt.last_at + FORGET_S:
            if len(self._doubts) >= DOUBTS_MAX and remote not in self._doubts:
                del self._doubts[min(self._doubts, key=lambda one: self._doubts[one].last_at)]
            doubt = self._doubts[remote] = _Doubt(now, now, silences=0)
        doubt.silences, doubt.last_at = doubt.silences + 1, now
        is_enough = doubt.silences >= self._silences and now >= doubt.first_at + self._lasts_s
        if not is_enough or doubt.asked_at is not None or now < doubt.judged_at + self._again_s:
            return []
        return self._begin(remote, doubt, now)

    def on_heard(self, remotes: Iterable[IpAddress]) -> None:
        """Data came from these locators, so nothing is filtered."""
        for remote in remotes:
            self._doubts.pop(remote, None)

    def on_map_reply(self, payload: bytes, *, in_data: bool, now: float) -> bool:
        """A control message came; True when it answers a probe of ours."""
        if len(payload) < 12 or payload[0] >> 4 != MessageType.MAP_REPLY:
            return False
        nonce = int.from_bytes(payload[4:12])
        for doubt in self._doubts.values():
            if doubt.asked_at is not None and nonce == doubt.nonces[in_data]:
                doubt.got = (doubt.got[0] or not in_data, doubt.got[1] or in_data)
                if all(doubt.got):
                    self._judge(doubt, now)
                return True
        return False

    def on_timer(self, now: float) -> list[Question]:
        """A deadline may have passed: probe again, or decide."""
        questions: list[Question] = []
        for remote, doubt in list(self._doubts.items()):
            due_at = self._due_at(remote, doubt)
            if due_at is None or now < due_at:
                continue
            if doubt.asked_at is None:
                questions += self._begin(remote, doubt, now)
            elif doubt.tries < TRIES:
                questions += self._ask(remote, doubt, now)
            else:
                self._judge(doubt, now)
        return questions

    def _counts(self, remote: IpAddress, doubt: _Doubt, now: float) -> bool:
        return remote in self._held or now < doubt.last_at + FORGET_S

    def _due_at(self, remote: IpAddress, doubt: _Doubt) -> float | None:
        if doubt.asked_at is not None:
            return doubt.asked_at + self._answer_s
        return doubt.judged_at + doubt.rest_s if remote in self._held and doubt.verdict in LOSES else None

    def _begin(self, remote: IpAddress, doubt: _Doubt, now: float) -> list[Question]:
        doubt.tries, doubt.got = 0, (False, False)
        doubt.nonces = self._new_nonce(), self._new_nonce()
        return self._ask(remote, doubt, now)

    def _ask(self, remote: IpAddress, doubt: _Doubt, now: float) -> list[Question]:
        route = self._route_to(remote)
        if route is None:  # its RLOC-probes are not answered either, so this is not about the port
            doubt.asked_at = doubt.verdict = None
            return []
        doubt.asked_at, doubt.tries = now, doubt.tries + 1
        ports = (CONTROL_PORT, DATA_PORT)
        return [
            Question(_HEADER + _probe(route, remote, nonce, port), remote, route.local, route.ifindex)
            for nonce, port, is_there in zip(doubt.nonces, ports, doubt.got, strict=True)
            if not is_there
        ]

    @staticmethod
    def _judge(doubt: _Doubt, now: float) -> None:
        gets_there, comes_back = doubt.got
        doubt.rest_s = min(2 * doubt.rest_s, HELD_AGAIN_S) if doubt.verdict in LOSES else HELD_FIRST_S
        doubt.verdict = Verdict.OPEN if comes_back else Verdict.BACK if gets_there else Verdict.OUT
        doubt.asked_at, doubt.judged_at = None, now


def _probe(route: Route, remote: IpAddress, nonce: int, port: int) -> bytes:
    """An RLOC-probe in IP and UDP; `port` is where the answer goes: 4342 for control, 4341 for data."""
    asked = EidRecord.of(EidPrefix.host(route.eid.address, route.eid.instance_id))
    request = MapRequest(nonce, None, (route.local,), (asked,), is_probe=True)
    return build_ip_udp(route.local, port, remote, CONTROL_PORT, request.encode())
