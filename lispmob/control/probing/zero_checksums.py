"""Whether data without a UDP checksum reaches the peers; some firewalls drop it (RFC 9300, section 5.3, wants it so).

How it works:

1. Data to a locator is unanswered, or the peer sends a volley of probes because it waits for ours, and RLOC-probes,
   which have checksums, are answered. The application may want no answer, so that alone proves nothing.
2. Three RLOC-probes without a checksum follow. If one is answered, nothing is wrong, and the pair rests for a minute.
3. If none is, although a probe with a checksum was answered after the first of them, our address sends all data with
   checksums from now on. Ten minutes later the same probes find out whether it still has to.

Over IPv6 no control port takes a packet without a checksum (RFC 8200, section 8.1), and a data port does (RFC 6935).
So there the probes are data packets (Instance-ID 0xFFFFFF), and others of the same kind, with checksums, show that the
peer answers such packets at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.control.path_mtu.size_probe import DataProbe
from lispmob.control.probing.path import Path, State
from lispmob.protocol.effect import Count, Event, SendControl, UplinksRanked
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import DATA_PORT
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest

TRIES: Final = 3
PAUSE_S: Final = 0.2  # ours: between two of them
ANSWER_S: Final = 0.5  # ours: after the last
REST_S: Final = 60.0  # ours: after an answer, until the pair is asked again
SHORT_REST_S: Final = 5.0  # ours: after a question that proved nothing
RECHECK_S: Final = 600.0  # ours: a firewall may be replaced, and checksums cost speed
VOLLEY_S: Final = 1.0  # ours: two probes of a peer within this time are no routine
QUESTIONS_MAX: Final = 32  # ours

ChecksumEffect: TypeAlias = SendControl | Count | Event | UplinksRanked


class _Question(msgspec.Struct):
    locator: LocalLocator
    remote: IpAddress
    eid: EidPrefix
    began_at: float
    next_at: float
    nonces: list[int] = msgspec.field(default_factory=list)  # of probes without a checksum
    summed: list[int] = msgspec.field(default_factory=list)  # of the same with one, over IPv6
    is_understood: bool = False  # one of these was answered


class ZeroChecksums:
    """The verdicts, by local address. `path_of` looks a pair of locators up; `new_nonce` is unpredictable."""

    def __init__(self, path_of: Callable[[IpAddress, IpAddress], Path | None], *, new_nonce: Callable[[], int]) -> None:
        self._path_of = path_of
        self._new_nonce = new_nonce
        self._open: dict[tuple[IpAddress, IpAddress], _Question] = {}
        self._rests: dict[tuple[IpAddress, IpAddress], float] = {}
        self._probed_at: dict[IpAddress, float] = {}  # by peer
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

    def on_probed(self, remote: IpAddress, own: Iterable[LocalLocator], now: float) -> list[ChecksumEffect]:
        """The peer probes one of these. Two probes in a row: data of ours may not arrive there."""
        before = self._probed_at.get(remote, float("-inf"))
        if len(self._probed_at) >= QUESTIONS_MAX:
            self._probed_at.clear()
        self._probed_at[remote] = now
        return self.on_unanswered(remote, own, now) if now < before + VOLLEY_S else []

    def on_unanswered(self, remote: IpAddress, own: Iterable[LocalLocator], now: float) -> list[ChecksumEffect]:
        """Data to this locator is unanswered; it may have left by any of these."""
        effects: list[ChecksumEffect] = []
        for locator in own:
            pair = locator.address, remote
            path = self._path_of(*pair)
            if locator.address.version != remote.version or path is None or path.state is not State.UP:
                continue
            recheck_at = self._since.get(locator.address, float("-inf")) + RECHECK_S
            is_resting = now < max(self._rests.get(pair, 0.0), recheck_at)
            if is_resting or pair in self._open or len(self._open) >= QUESTIONS_MAX:
                continue
            self._open[pair] = _Question(locator, remote, path.eid, now, now)
            effects += self._ask(self._open[pair], now)
        return effects

    def on_map_reply(self, reply: MapReply, now: float) -> list[ChecksumEffect] | None:
        """None when it answers no probe of ours."""
        for pair, question in self._open.items():
            if reply.nonce in question.summed:
                question.is_understood = True
                return []
            if reply.nonce in question.nonces:
                del self._open[pair]
                self._rest(pair, REST_S, now)
                return self._set(pair[0], now, is_needed=False)
        return None

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
            if question.is_understood or self._is_answered(question):
                effects += self._set(pair[0], now, is_needed=True)
            else:  # the peer does not understand the question, or is about to be found dead
                self._rest(pair, REST_S if question.remote.version == 6 else SHORT_REST_S, now)
        return effects

    def _rest(self, pair: tuple[IpAddress, IpAddress], for_s: float, now: float) -> None:
        if len(self._rests) >= QUESTIONS_MAX:
            self._rests = {known: until for known, until in self._rests.items() if until > now}
        self._rests[pair] = now + for_s

    def _is_answered(self, question: _Question) -> bool:
        """Over IPv4: an ordinary RLOC-probe was, since the question began."""
        path = self._path_of(question.locator.address, question.remote)
        is_four = question.remote.version == 4
        return is_four and path is not None and (path.answered_at or float("-inf")) >= question.began_at

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
        bare = _probe(question, question.nonces[-1])
        if question.remote.version == 4:
            return [replace(bare, has_checksum=False), Count("tx_probe")]
        question.summed.append(self._new_nonce())
        return [replace(bare, has_checksum=False), _probe(question, question.summed[-1]), *[Count("tx_probe")] * 2]


def _probe(question: _Question, nonce: int) -> SendControl:
    """To the control port over IPv4, as data over IPv6."""
    own = question.locator
    if question.remote.version == 6:
        packet = DataProbe(question.eid, own.address, question.remote, DATA_PORT).packet(nonce, 0)
        return replace(packet, ifindex=own.ifindex, is_whole=False)
    request = MapRequest(nonce, None, (own.address,), (EidRecord.of(question.eid),), is_probe=True)
    return SendControl(request.encode(), question.remote, source=own.address, ifindex=own.ifindex)
