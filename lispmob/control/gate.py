"""What of the control port is worth decoding: type, nonce and size are read off the octets, before anything else is.

Decoding a message costs up to some milliseconds, and anybody may send one. A reply or notification has to bear a nonce
that we gave out; a request is decoded as long as its sender, and all senders of his kind together, keep within a limit.
Those whom we know, peers and the mapping system, have limits apart from those of strangers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType

NONCES_KEPT: Final = 8192  # ours: twice what half a minute brings, at the limits of lookups and probes together
NONCE_S: Final = 30.0  # ours: no answer takes longer, retransmissions of what asks included
REQUEST_OCTETS: Final = 1400  # ours, without the padding of a size probe: the longest of a peer's has 32 ITR-RLOCs
STRANGER_INTERVAL_S: Final = 0.02  # ours: one who probes us has some addresses, and asks for each once a second
STRANGER_BURST: Final = 100
STRANGERS_INTERVAL_S: Final = 1 / 300  # ours: strangers in all; at half a millisecond each an eighth of the time
STRANGERS_BURST: Final = 300
KNOWN_INTERVAL_S: Final = 0.005  # ours: in doubt a peer sends volleys, for each pair of locators (path.py)
KNOWN_BURST: Final = 400

_ANSWERS: Final = frozenset({MessageType.MAP_REPLY, MessageType.MAP_NOTIFY, MessageType.INFO})
_QUESTIONS: Final = frozenset({MessageType.MAP_REQUEST, MessageType.ENCAPSULATED_CONTROL})
_NONCE: Final = slice(4, 12)
_PROBE: Final = 0x02  # of the first octet: P
_TYPE_AND_PROBE: Final = 0xF0 | _PROBE


class NonceBook:
    """Gives out unpredictable nonces, or notes those of another source, and knows the latest of them again.

    It knows a nonce for at least `NONCE_S` unless half of `limit` newer ones have come; after two turns it does not.
    """

    def __init__(self, new_nonce: Callable[[], int], limit: int = NONCES_KEPT) -> None:
        self._new_nonce = new_nonce
        self._half = max(1, limit // 2)
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turned_at = 0.0

    def __call__(self) -> int:
        nonce = self._new_nonce()
        if len(self._young) >= self._half:
            self._young, self._old = set(), self._young
        self._young.add(nonce.to_bytes(8, "big"))
        return nonce

    def turn(self, now: float) -> None:
        """Forget what is older than an answer can be. `now`: monotonic seconds. To be called now and then."""
        if now - self._turned_at >= NONCE_S:
            self._young, self._old, self._turned_at = set(), self._young, now

    def knows(self, octets: bytes) -> bool:
        """Whether these eight octets are one of them, in the order that it has on the wire or in the other one."""
        turned = octets[::-1]
        return octets in self._young or turned in self._young or octets in self._old or turned in self._old


class Knows(Protocol):
    """Whoever can tell whether an answer with this nonce would be one to him."""

    def knows(self, octets: bytes) -> bool:
        """Whether these eight octets may be the nonce of one."""
        ...


class Gate:
    """Refuses by the name of a counter, or lets in. `nonces`: what an answer may bear."""

    def __init__(self, *nonces: Knows) -> None:
        self._nonces = nonces
        self._strangers: KeyedBuckets[int] = KeyedBuckets(STRANGER_INTERVAL_S, STRANGER_BURST)
        self._all_strangers = TokenBucket(STRANGERS_INTERVAL_S, STRANGERS_BURST)
        self._known: KeyedBuckets[int] = KeyedBuckets(KNOWN_INTERVAL_S, KNOWN_BURST)

    def is_noise(self, payload: bytes) -> str | None:
        """The counter for what nobody may send us, and for answers to nothing: no address is needed to tell."""
        kind = payload[0] >> 4 if payload else 0
        if kind in _ANSWERS:
            is_expected = len(payload) < _NONCE.stop or any(book.knows(payload[_NONCE]) for book in self._nonces)
            return None if is_expected else "rx_nonce"
        return None if kind in _QUESTIONS or len(payload) < _NONCE.start else "rx_type"

    def refuses(
        self, payload: bytes, source: IpAddress, is_known: Callable[[IpAddress], bool], now: float
    ) -> str | None:
        """The counter for what is not to be decoded; None: it is."""
        noise = self.is_noise(payload)
        if noise is not None or not payload or payload[0] >> 4 not in _QUESTIONS:
            return noise
        if len(payload) > REQUEST_OCTETS and not _is_padded_probe(payload):
            return "rx_size"
        if is_known(source):
            return None if self._known.take(owner_of(source), now) else "rx_rate"
        if self._all_strangers.available_at(now) > now or not self._strangers.take(owner_of(source), now):
            return "rx_rate"
        self._all_strangers.take(now)
        return None


def _is_padded_probe(payload: bytes) -> bool:
    """True for an RLOC-probe that zeros make as long as a packet of data: it asks about the path MTU."""
    is_probe = payload[0] & _TYPE_AND_PROBE == MessageType.MAP_REQUEST << 4 | _PROBE
    return is_probe and len(payload.rstrip(b"\0")) <= REQUEST_OCTETS
