"""Which datagrams of the control port are decoded. Only type, nonce and size are read here.

Decoding a message takes up to some milliseconds, and any host may send one. A reply or notification must carry a nonce
that we sent. A request is decoded within a limit for its sender, and another one for all senders of its kind. Peers and
the mapping system have limits apart from those of strangers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType

NONCES_KEPT: Final = 8192  # ours: twice what half a minute brings, at the rates of lookups and probes together
NONCE_S: Final = 30.0  # ours: no answer takes longer, retransmissions of the question included
REQUEST_OCTETS: Final = 1400  # ours, without the padding of a size probe: the longest of a peer's has 32 ITR-RLOCs
STRANGER_INTERVAL_S: Final = 0.02  # ours: a node that probes us has a few addresses, and asks each once a second
STRANGER_BURST: Final = 100
STRANGERS_INTERVAL_S: Final = 1 / 300  # ours: all strangers together; at half a millisecond each, an eighth of the time
STRANGERS_BURST: Final = 300
KNOWN_INTERVAL_S: Final = 0.005  # ours: a peer in doubt sends volleys, for each pair of locators (path.py)
KNOWN_BURST: Final = 400

_ANSWERS: Final = frozenset({MessageType.MAP_REPLY, MessageType.MAP_NOTIFY, MessageType.INFO})
_QUESTIONS: Final = frozenset({MessageType.MAP_REQUEST, MessageType.ENCAPSULATED_CONTROL})
_NONCE: Final = slice(4, 12)
_PROBE: Final = 0x02  # of the first octet: P
_TYPE_AND_PROBE: Final = 0xF0 | _PROBE


class NonceBook:
    """Generates unpredictable nonces, or records those of another generator, and recognises the latest of them.

    It knows a nonce for at least `NONCE_S` unless half of `limit` newer ones have come, and forgets it after two turns.
    """

    def __init__(self, new_nonce: Callable[[], int], limit: int = NONCES_KEPT) -> None:
        self._new_nonce = new_nonce
        self._half = max(1, limit // 2)
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turned_at = 0.0

    def __call__(self) -> int:
        nonce = self._new_nonce()
        self.expect(nonce)
        return nonce

    def draw(self) -> int:
        """A nonce that no answer may carry before `expect`."""
        return self._new_nonce()

    def expect(self, nonce: int) -> None:
        """An answer may carry this nonce from now on."""
        if len(self._young) >= self._half:
            self._young, self._old = set(), self._young
        self._young.add(nonce.to_bytes(8, "big"))

    def turn(self, now: float) -> None:
        """Forget the nonces that no answer can bear any more. `now`: monotonic seconds; call it now and then."""
        if now - self._turned_at >= NONCE_S:
            self._young, self._old, self._turned_at = set(), self._young, now

    def knows(self, octets: bytes) -> bool:
        """Whether these eight octets are such a nonce, in wire order or reversed."""
        turned = octets[::-1]
        return octets in self._young or turned in self._young or octets in self._old or turned in self._old


class Knows(Protocol):
    """Recognises the nonces that its requests carried."""

    def knows(self, octets: bytes) -> bool:
        """Whether these eight octets may be such a nonce."""
        ...


class Gate:
    """Refuses a datagram by the name of a counter, or admits it. `nonces`: those that an answer may carry."""

    def __init__(self, *nonces: Knows) -> None:
        self._nonces = nonces
        self._strangers: KeyedBuckets[int] = KeyedBuckets(STRANGER_INTERVAL_S, STRANGER_BURST)
        self._all_strangers = TokenBucket(STRANGERS_INTERVAL_S, STRANGERS_BURST)
        self._known: KeyedBuckets[int] = KeyedBuckets(KNOWN_INTERVAL_S, KNOWN_BURST)

    def is_noise(self, payload: bytes) -> str | None:
        """The counter for messages that no host may send us, and for unsolicited answers; needs no address."""
        kind = payload[0] >> 4 if payload else 0
        if kind in _ANSWERS:
            is_expected = len(payload) < _NONCE.stop or any(book.knows(payload[_NONCE]) for book in self._nonces)
            return None if is_expected else "rx_nonce"
        return None if kind in _QUESTIONS or len(payload) < _NONCE.start else "rx_type"

    def refuses(
        self, payload: bytes, source: IpAddress, is_known: Callable[[IpAddress], bool], now: float
    ) -> str | None:
        """The counter for a datagram that must not be decoded; None to decode it."""
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
    """True for an RLOC-probe padded with zeros to the length of a data packet: it tests the path MTU."""
    is_probe = payload[0] & _TYPE_AND_PROBE == MessageType.MAP_REQUEST << 4 | _PROBE
    return is_probe and len(payload.rstrip(b"\0")) <= REQUEST_OCTETS
