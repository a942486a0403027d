"""Who floods a socket, and the kernel's filter against him. Pure.

A socket that is not emptied for a whole moment gets more than we can look at, and the kernel drops what anybody sends.
Whoever sends most of what proves nothing is looked at in part then: the kernel passes one in 64 of his datagrams, drawn
by lot. He is still heard, so that it shows when he stops, and somebody whose address is forged is not cut off. As long
as the socket is emptied nobody is cut short, however much he sends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from struct import Struct
from typing import Final, TypeAlias

from lispmob.wire.address import IpAddress

WINDOW_S: Final = 0.1
ONE_IN: Final = 64
FLOOD_PER_S: Final = 2000  # ours: less is no flood, whatever else is wrong
FLOOD_SHARE: Final = 0.05
CALM_PER_S: Final = 1000
CALM_S: Final = 2.0  # ours: so long, before somebody is heard in full again
SAMPLED_MAX: Final = 8

Sender: TypeAlias = tuple[int, int]
"""The family, and the IPv4 address or the first 64 bits of the IPv6 address, as a number."""

# A filter program: struct sock_filter {code, jump if true, jump if false, value}. <linux/filter.h>
_INSTRUCTION: Final = Struct("=HBBI")
_LOAD_WORD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NETWORK_HEADER: Final = 0xFFF00000  # SKF_NET_OFF
_RANDOM: Final = 0xFFFFF038  # SKF_AD_OFF + SKF_AD_RANDOM
_ALL: Final = 0xFFFFFFFF
_SOURCE_AT: Final = {4: 12, 6: 8}


def sender_of(address: IpAddress) -> Sender:
    """Who one flood comes from: an address, or a /64, which anybody has all addresses of."""
    return (4, int(address)) if address.version == 4 else (6, int(address) >> 64)


class FloodWatch:
    """Of one socket: who is to be heard in part only."""

    def __init__(self) -> None:
        self.sampled: tuple[Sender, ...] = ()
        self._heard: Counter[Sender] = Counter()
        self._calm_since: dict[Sender, float] = {}
        self._began_at: float | None = None
        self._was_emptied = False

    def on_emptied(self) -> None:
        """The socket has nothing more."""
        self._was_emptied = True

    def on_datagram(self, sender: Sender, now: float) -> bool:
        """A datagram that proved nothing was taken from the socket; True when `sampled` is another one now."""
        if self._began_at is None:
            self._began_at = now
        self._heard[sender] += 1
        return self.on_time(now)

    def on_time(self, now: float) -> bool:
        """Time has passed, which is worth telling while somebody is sampled; True when `sampled` is another one now."""
        if self._began_at is None or now - self._began_at < WINDOW_S:
            return False
        before, elapsed_s = self.sampled, now - self._began_at
        rates = {one: self._weight(one) * heard / elapsed_s for one, heard in self._heard.items()}
        self._release(rates, now)
        if not self._was_emptied:
            least = max(FLOOD_PER_S, FLOOD_SHARE * sum(rates.values()))
            worst = sorted((one for one, per_s in rates.items() if per_s >= least), key=lambda one: -rates[one])
            self.sampled = tuple(dict.fromkeys((*self.sampled, *worst)))[:SAMPLED_MAX]
        self._heard.clear()
        self._began_at, self._was_emptied = now, False
        return self.sampled != before

    def _weight(self, sender: Sender) -> int:
        return ONE_IN if sender in self.sampled else 1

    def _release(self, rates: dict[Sender, float], now: float) -> None:
        calm = {sender for sender in self.sampled if rates.get(sender, 0.0) < CALM_PER_S}
        self._calm_since = {sender: self._calm_since.get(sender, now) for sender in calm}
        self.sampled = tuple(one for one in self.sampled if now - self._calm_since.get(one, now) < CALM_S)


def program(sampled: Iterable[Sender]) -> list[tuple[int, int, int, int]]:
    """The filter of a UDP socket: of these senders one datagram in 64. Each part falls through to the next one's."""
    code: list[tuple[int, int, int, int]] = []
    draw = [(_LOAD_WORD, 0, 0, _RANDOM), (_AND, 0, 0, ONE_IN - 1), (_JUMP_IF_EQUAL, 1, 0, 0), (_RETURN, 0, 0, 0)]
    for family, number in sampled:
        words = [number] if family == 4 else [number >> 32, number & _ALL]
        for place, word in enumerate(words):
            left = 2 * (len(words) - place - 1) + len(draw)
            code += [
                (_LOAD_WORD, 0, 0, _NETWORK_HEADER + _SOURCE_AT[family] + 4 * place),
                (_JUMP_IF_EQUAL, 0, left, word),
            ]
        code += draw
    return [*code, (_RETURN, 0, 0, _ALL)]


def assembled(code: Iterable[tuple[int, int, int, int]]) -> bytes:
    """The program as the kernel reads it."""
    return b"".join(_INSTRUCTION.pack(*each) for each in code)
