"""Detects who floods a socket, and chooses the kernel's filter against them. Pure.

A socket that stays full for a while gets more than can be processed, and the kernel drops datagrams of all senders. The
sender of most unauthenticated datagrams is then sampled: the kernel passes one in 64 of them, at random. The rest shows
when the flood ends, and a host whose address is forged is not cut off. As long as the socket is emptied, possibly
useful datagrams are not sampled. A slow or busy machine reads little of a flood, so datagrams that the kernel dropped
count as if they had come from the most frequent senders.

Noise, recognised by its first octets, has a lower limit, because it takes time from everything else: if one sender
exceeds it, the same share is passed, of that type of message alone. So a forger of unsolicited answers in a peer's name
does not block that peer's registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from struct import Struct
from typing import Final, TypeAlias, TypeVar

from lispmob.wire.address import IpAddress

K = TypeVar("K", bound=Hashable)

WINDOW_S: Final = 0.1
ONE_IN: Final = 64
FLOOD_PER_S: Final = 2000  # ours: less is no flood, whatever else is wrong
FLOOD_SHARE: Final = 0.05
CROWD_PER_S: Final = 500  # ours: of the busiest sender, where the kernel has to drop datagrams
OFTEN: Final = 10  # ours: datagrams in one window; fewer may be chance
CALM_PER_S: Final = 1000
CALM_S: Final = 2.0  # ours: how long a sender must be calm before all of its datagrams are passed again
NOISE_PER_S: Final = 5000  # ours: a look at the first octets takes 8 microseconds, so 4 % of a processor
SAMPLED_MAX: Final = 8
TYPES_MAX: Final = 2  # ours: a sender of more types of noise is sampled in all types

Sender: TypeAlias = tuple[int, int]
"""The family, and the IPv4 address or the first 64 bits of the IPv6 address, as a number."""

Part: TypeAlias = tuple[Sender, int]
"""A sender, and a type of control message or ANY_TYPE."""
ANY_TYPE: Final = -1

# A filter program: struct sock_filter {code, jump if true, jump if false, value}. <linux/filter.h>
_INSTRUCTION: Final = Struct("=HBBI")
_LOAD_WORD, _LOAD_OCTET, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x06
_NETWORK_HEADER: Final = 0xFFF00000  # SKF_NET_OFF
_RANDOM: Final = 0xFFFFF038  # SKF_AD_OFF + SKF_AD_RANDOM
_ALL: Final = 0xFFFFFFFF
_SOURCE_AT: Final = {4: 12, 6: 8}
_TYPE_AT: Final = 8  # after the UDP header, where a filter of a UDP socket begins to count
_TYPE_BITS: Final = 0xF0


def sender_of(address: IpAddress) -> Sender:
    """The key of a flood: an address, or a /64, whose owner has all of its addresses."""
    return (4, int(address)) if address.version == 4 else (6, int(address) >> 64)


def type_of(payload: bytes) -> int:
    """The type of a control message, as the filter sees it (RFC 9301, 5.1)."""
    return payload[0] >> 4 if payload else ANY_TYPE


class FloodWatch:
    """For one socket: the senders to be sampled. `lost` gives how many datagrams the kernel has dropped there."""

    def __init__(self, lost: Callable[[], int] = lambda: 0) -> None:
        self._lost, self._lost_before = lost, 0
        self._proved = 0
        self.sampled: tuple[Part, ...] = ()
        self._heard: Counter[Part] = Counter()  # noise by its type, all else under ANY_TYPE
        self._calm_since: dict[Part, float] = {}
        self._began_at: float | None = None
        self._was_emptied = False

    def on_emptied(self) -> None:
        """The socket has nothing more."""
        self._was_emptied = True

    def on_proved(self) -> None:
        """A datagram was taken from the socket that proved who sent it."""
        self._proved += 1

    def on_datagram(self, sender: Sender, now: float, noise: int = ANY_TYPE) -> bool:
        """A datagram that proved nothing was taken from the socket; True when `sampled` is another one now.

        `noise`: the type of a message that can mean nothing.
        """
        if self._began_at is None:
            self._began_at, self._lost_before = now, self._lost()
        self._heard[sender, noise] += 1
        return self.on_time(now)

    def on_time(self, now: float) -> bool:
        """Time has passed; to be called while a sender is sampled. True when `sampled` has changed."""
        if self._began_at is None or now - self._began_at < WINDOW_S:
            return False
        before, elapsed_s = self.sampled, now - self._began_at
        missed = self._missed()
        rates = {
            part: self._weight(part) * heard * (missed if heard >= OFTEN else 1.0) / elapsed_s
            for part, heard in self._heard.items()
        }
        totals: dict[Sender, float] = {}
        for (sender, _), per_s in rates.items():
            totals[sender] = totals.get(sender, 0.0) + per_s
        self._release({**rates, **{(sender, ANY_TYPE): per_s for sender, per_s in totals.items()}}, now)
        floods = [] if self._was_emptied else self._flooding(totals, self._crowd_per_s(missed, elapsed_s))
        worst = floods + self._noisy(rates)
        known = dict.fromkeys((*self.sampled, *worst))
        self.sampled = tuple(kind for kind in known if kind[1] == ANY_TYPE or (kind[0], ANY_TYPE) not in known)[
            :SAMPLED_MAX
        ]
        self._heard.clear()
        self._began_at, self._was_emptied, self._proved = now, False, 0
        return self.sampled != before

    def _missed(self) -> float:
        """How many arrived for each that was read; 1 while a sender is sampled, since the filter drops too."""
        lost = self._lost()
        missed, self._lost_before = lost - self._lost_before, lost
        heard = self._proved + self._heard.total()
        return 1.0 if self.sampled or self._was_emptied or not heard else (heard + missed) / heard

    def _crowd_per_s(self, missed: float, elapsed_s: float) -> float:
        """What one sender needs to crowd the others out of a socket where the kernel drops; infinite without drops."""
        all_per_s = missed * (self._proved + self._heard.total()) / elapsed_s
        return max(CROWD_PER_S, all_per_s / 2) if missed > 1.0 else float("inf")

    def _flooding(self, totals: dict[Sender, float], crowd_per_s: float) -> list[Part]:
        """Who fills a socket that is never empty, the worst first."""
        least = min(max(FLOOD_PER_S, FLOOD_SHARE * sum(totals.values())), crowd_per_s)
        return [(sender, ANY_TYPE) for sender in _worst_first(totals) if totals[sender] >= least]

    def _noisy(self, rates: dict[Part, float]) -> list[Part]:
        """The senders whose noise takes too much time, the worst first."""
        noise: dict[Sender, dict[Part, float]] = {}
        for part, per_s in rates.items():
            if part[1] != ANY_TYPE:
                noise.setdefault(part[0], {})[part] = per_s
        totals = {sender: sum(parts.values()) for sender, parts in noise.items()}
        found: list[Part] = []
        for sender in _worst_first(totals):
            if totals[sender] >= NOISE_PER_S:
                parts = _worst_first(noise[sender])
                found += parts if len(parts) <= TYPES_MAX else [(sender, ANY_TYPE)]
        return found

    def _weight(self, part: Part) -> int:
        return ONE_IN if part in self.sampled or (part[0], ANY_TYPE) in self.sampled else 1

    def _release(self, rates: dict[Part, float], now: float) -> None:
        calm = {part for part in self.sampled if rates.get(part, 0.0) < CALM_PER_S}
        self._calm_since = {part: self._calm_since.get(part, now) for part in calm}
        self.sampled = tuple(part for part in self.sampled if now - self._calm_since.get(part, now) < CALM_S)


def _worst_first(rates: Mapping[K, float]) -> list[K]:
    return sorted(rates, key=lambda one: -rates[one])


def program(sampled: Iterable[Part]) -> list[tuple[int, int, int, int]]:
    """The filter of a UDP socket: of these parts one datagram in 64. Each part falls through to the next one's."""
    code: list[tuple[int, int, int, int]] = []
    draw = [(_LOAD_WORD, 0, 0, _RANDOM), (_AND, 0, 0, ONE_IN - 1), (_JUMP_IF_EQUAL, 1, 0, 0), (_RETURN, 0, 0, 0)]
    for (family, number), kind in sampled:
        words = [number] if family == 4 else [number >> 32, number & _ALL]
        rest = list(draw)
        if kind != ANY_TYPE:
            its_type = [(_LOAD_OCTET, 0, 0, _TYPE_AT), (_AND, 0, 0, _TYPE_BITS)]
            rest = [*its_type, (_JUMP_IF_EQUAL, 0, len(draw), kind << 4), *draw]
        for place, word in enumerate(words):
            left = 2 * (len(words) - place - 1) + len(rest)
            code += [
                (_LOAD_WORD, 0, 0, _NETWORK_HEADER + _SOURCE_AT[family] + 4 * place),
                (_JUMP_IF_EQUAL, 0, left, word),
            ]
        code += rest
    return [*code, (_RETURN, 0, 0, _ALL)]


def assembled(code: Iterable[tuple[int, int, int, int]]) -> bytes:
    """The program as the kernel reads it."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)
