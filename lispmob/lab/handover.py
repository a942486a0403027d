"""An observed move: the packets of both directions, and the control messages around it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from lispmob.lab.packet_log import PacketLog

Field: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Message:
    """A control message at a host, at CLOCK_MONOTONIC seconds."""

    at: float
    host: str
    kind: str
    is_out: bool
    peer: str


@dataclass(frozen=True, slots=True)
class Way:
    """One direction of the probe stream, measured from the loss. Seconds; None: it never opened again."""

    lost: int
    gap_s: float | None
    silence_s: float


@dataclass(frozen=True, slots=True)
class Handover:
    """A move between `began_at` and `ended_at`, and the probes around it. `out`: probes from the host that moved."""

    name: str
    title: str
    began_at: float
    ended_at: float
    seen_until: float
    rate_hz: float
    out: PacketLog
    back: PacketLog
    messages: tuple[Message, ...] = ()
    is_break: bool = True  # False for a move that only adds an uplink, which is only in the overview

    def ways(self) -> tuple[Way, Way]:
        """The direction out, and the direction back."""
        # The batch of the move takes some time. Out: packets sent during that time say nothing about the new path.
        # Back: a packet that arrives after the loss has taken the new path. Both gaps count from the beginning of the
        # batch, so that a move may seem longer than it was, but never shorter.
        return self._way(self.out, self.ended_at), self._way(self.back, float("-inf"))

    @property
    def lost(self) -> int:
        return sum(way.lost for way in self.ways())

    @property
    def has_reopened(self) -> bool:
        """Both directions carried packets again, steadily."""
        return all(way.gap_s is not None for way in self.ways())

    def has_baseline(self) -> bool:
        """Packets arrived in both directions before the move; without that a gap has no meaning."""
        return all(
            any(packet.arrived_at is not None for packet in log.between(float("-inf"), self.began_at))
            for log in (self.out, self.back)
        )

    def fields(self) -> dict[str, Field]:
        """The fields of the report."""
        out, back = self.ways()
        return {
            "move": self.name,
            "title": self.title,
            "took_ms": _ms(self.ended_at - self.began_at),
            "rate_hz": self.rate_hz,
            "lost_out": out.lost,
            "lost_in": back.lost,
            "gap_out_ms": _ms(out.gap_s),
            "gap_in_ms": _ms(back.gap_s),
            "silence_out_ms": _ms(out.silence_s),
            "silence_in_ms": _ms(back.silence_s),
        }

    def steps(self) -> Iterator[tuple[float, Message]]:
        """The control messages, each with its time since the loss, seconds."""
        for message in self.messages:
            yield message.at - self.began_at, message

    def _way(self, log: PacketLog, sent_after: float) -> Way:
        reopened_at = log.reopened_at(sent_after, self.ended_at)
        return Way(
            log.lost(float("-inf"), self.seen_until),
            None if reopened_at is None else reopened_at - self.began_at,
            log.longest_silence(self.began_at, self.seen_until),
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
