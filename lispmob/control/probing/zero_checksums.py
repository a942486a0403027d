"""Whether data without a UDP checksum reaches the peers; some firewalls drop it (RFC 9300, section 5.3, wants it so).

How it works:

1. Data to a locator is unanswered, and its RLOC-probes, which have checksums, are answered. The application may want
   no answer, so that alone proves nothing.
2. Three RLOC-probes without a checksum follow. If one is answered, nothing is wrong, and the pair rests for a minute.
3. If none is, although a probe with a checksum was answered after the first of them, our address sends all data with
   checksums from now on. Ten minutes later the same probes find out whether it still has to.

Over IPv6 nothing is asked: a control port takes no packet without a checksum there (RFC 8200, section 8.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from lispmob.control.probing.path import Path, State
from lispmob.protocol.effect import Count, Event, SendControl, UplinksRanked
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest

TRIES: Final = 3
PAUSE_S: Final = 0.3  # ours: between two of them
ANSWER_S: Final = 0.7  # ours: after the last
REST_S: Final = 60.0  # ours: after an answer, until the pair is asked again
RECHECK_S: Final = 600.0  # ours: a firewall may be replaced, and checksums cost speed
QUESTIONS_MAX: Final = 32  # ours

ChecksumEffect = SendControl | Count | Event | UplinksRanked


class _Question(msgspec.Struct):
    locator: LocalLocator
    remote: IpAddress
    eid: EidPrefix
    began_at: float
    nonces: list[int]
    next_at: float


class ZeroChecksums:
    """The verdicts, by local address. `path_of` looks a pair of locators up; `new_nonce` is unpredictable."""

    def __init__(self, path_of: Callable[[IpAddress, IpAddress], Path | None], *, new_nonce: Callable[[], int]) -> None:
        self._path_of = path_of
        self._new_nonce = new_nonce
        self._open: dict[tuple[IpAddress, IpAddress], _Question] = {}
        self._rests: dict[tuple[IpAddress, IpAddress], float] = {}
        self._since: dict[IpAddress, float] = {}  # addresses that must send checksums, since when

    @property
    def needed_from(self) -> frozenset[IpAddress]:
        """Our addresses that data leaves from with checksums."""
        return frozenset(self._since)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return min((question.next_at for question in self._open.values()), default=None)

    def on_locators(self, own: Iterable[LocalLocator]) -> None:
        """Another network has other firewalls: forget addresses that are gone."""
        present = {locator.address for locator in own}
        self._since = {address: at for address, at in self._since.items() if address in present}
        self._open = {pair: question for pair, question in self._open.items() if pair[0] in present}

    def on_unanswered(self, remote: IpAddress, own: Iterable[LocalLocator], now: float) -> list[ChecksumEffect]:
        """Data to this locator is unanswered; it may have left by any of these."""
        effects: list[ChecksumEffect] = []
        for locator in own:
            pair = locator.address, remote
            path = self._path_of(*pair)
            if remote.version != 4 or locator.address.version != 4 or path is None or path.state is not State.UP:
                continue
            is_resting = now < self._rests.get(pair, 0.0) or now < self._since.get(locator.address, -1e9) + RECHECK_S
            if is_resting or pair in self._open or len(self._open) >= QUESTIONS_MAX:
                continue
            self._open[pair] = _Question(locator, remote, path.eid, now, [], now)
            effects += self._ask(self._open[pair], now)
        return effects

    def on_map_reply(self, reply: MapReply, now: float) -> list[ChecksumEffect] | None:
        """None when it answers no probe of ours."""
        found = next((pair for pair, one in self._open.items() if reply.nonce in one.nonces), None)
        if found is None:
            return None
        del self._open[found]
        if len(self._rests) >= QUESTIONS_MAX:
            self._rests = {pair: until for pair, until in self._rests.items() if until > now}
        self._rests[found] = now + REST_S
        return self._set(found[0], now, is_needed=False)

    def on_timer(self, now: float) -> list[ChecksumEffect]:
        """A deadline may have passed: ask again, or decide."""
        effects: list[ChecksumEffect] = []
        for pair, question in list(self._open.items()):
            if now < question.next_at:
                continue
            if len(question.nonces) < TRIES:
                effects += self._ask(question, now)
                continue
            del self._open[pair]
            path = self._path_of(*pair)
            answered_at = None if path is None else path.answered_at
            if answered_at is not None and answered_at >= question.began_at:
                effects += self._set(pair[0], now, is_needed=True)
        return effects

    def _set(self, address: IpAddress, now: float, *, is_needed: bool) -> list[ChecksumEffect]:
        was_needed = address in self._since
        if is_needed:
            self._since[address] = now
        else:
            self._since.pop(address, None)
        if is_needed == was_needed:
            return []
        text = "data without a UDP checksum does not reach a peer: it is sent with checksums"
        event = Event("checksums-needed" if is_needed else "checksums-spared", {"rloc": str(address), "text": text})
        return [event, UplinksRanked()]

    def _ask(self, question: _Question, now: float) -> list[ChecksumEffect]:
        question.nonces.append(self._new_nonce())
        question.next_at = now + (PAUSE_S if len(question.nonces) < TRIES else ANSWER_S)
        own = question.locator
        record = EidRecord.of(question.eid)
        request = MapRequest(question.nonces[-1], None, (own.address,), (record,), is_probe=True)
        probe = SendControl(
            request.encode(), question.remote, source=own.address, ifindex=own.ifindex, has_checksum=False
        )
        return [probe, Count("tx_probe")]
