"""What `lisp-echo client` prints about a session: as text, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lispmob.terminal.text import clean, fold, milliseconds, paint, plural
from lispmob.tools.echo_tally import BUCKETS_MS, Gaps, Result, Tally
from lispmob.tools.echo_uplink import Timeline

JSON_VERSION: Final = 1
BAR: Final = 40  # columns
RUNS_SHOWN: Final = 10


class UplinkShare(msgspec.Struct, frozen=True):
    """The packets that were sent by an uplink; `uplink` may also be a text that says that it is unknown."""

    uplink: str
    sent: int
    lost: int


class Session(msgspec.Struct, frozen=True):
    """A session with everything to print. `uplinks_unknown`: why the uplinks are not known, or ""."""

    peer: str
    port: int
    transport: str
    source: str
    result: Result
    uplinks: tuple[UplinkShare, ...]
    changes: tuple[tuple[int, str], ...]
    uplinks_unknown: str
    problems: tuple[str, ...]


def uplink_shares(tally: Tally, timeline: Timeline) -> tuple[tuple[UplinkShare, ...], tuple[tuple[int, str], ...]]:
    """The packets of each uplink, and (number of the first packet, uplink) for every change."""
    sent: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    changes: list[tuple[int, str]] = []
    for number in range(tally.sent):
        uplink = timeline.uplink_at(tally.sent_at(number))
        sent[uplink] += 1
        lost[uplink] += tally.is_lost(number)
        if not changes or changes[-1][1] != uplink:
            changes.append((number, uplink))
    return tuple(UplinkShare(uplink, count, lost[uplink]) for uplink, count in sent.items()), tuple(changes)


def buckets(gaps: Gaps) -> list[tuple[str, int]]:
    """The histogram with the name of each bucket."""
    names = [f"up to {bound} ms" if bound < 1000 else f"up to {bound // 1000} s" for bound in BUCKETS_MS]
    return list(zip([*names, f"over {BUCKETS_MS[-1] // 1000} s"], gaps.histogram, strict=True))


def as_json(session: Session) -> dict[str, Any]:
    """A session as a JSON value. Times are in milliseconds; null: not known."""
    result = session.result
    trips = result.round_trips
    return {
        "v": JSON_VERSION,
        "peer": session.peer,
        "port": session.port,
        "transport": session.transport,
        "source": session.source,
        "sent": result.sent,
        "answered": result.answered,
        "lost": result.lost,
        "lost_there": result.lost_there,
        "lost_back": result.lost_back,
        "refused": result.refused,
        "duplicates": result.duplicates,
        "out_of_order": result.out_of_order,
        "strangers": result.strangers,
        "rtt_ms": None
        if trips is None
        else {
            "min": _ms(trips.least_s),
            "median": _ms(trips.median_s),
            "p95": _ms(trips.p95_s),
            "max": _ms(trips.most_s),
        },
        "gaps": {"there": _gaps(result.gaps_there), "back": _gaps(result.gaps_back)},
        "lost_runs": [{"first": run.first, "count": run.count, "ms": _ms(run.duration_s)} for run in result.runs],
        "uplinks": [{"uplink": uplink.uplink, "sent": uplink.sent, "lost": uplink.lost} for uplink in session.uplinks]
        or None,
        "uplink_changes": [{"from": number, "uplink": uplink} for number, uplink in session.changes],
        "uplinks_unknown": session.uplinks_unknown or None,
        "problems": list(session.problems),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _gaps(gaps: Gaps) -> dict[str, Any]:
    return {
        "longest_ms": _ms(gaps.longest_s),
        "longest_after": None if gaps.longest_after < 0 else gaps.longest_after,
        "histogram": [
            {"up_to_ms": bound, "count": count}
            for bound, count in zip([*BUCKETS_MS, None], gaps.histogram, strict=True)
        ],
    }


def lines(session: Session) -> list[str]:
    """A session as text."""
    result = session.result
    how = "good" if result.sent and not result.lost else "bad"
    told = f"{result.sent} sent, {result.answered} answered, {result.lost} lost{_where(result)}"
    found = [f"{session.peer} port {session.port} over {session.transport} from {session.source}", paint(told, how)]
    refused = f"; {result.refused} refused by this host itself" if result.refused else ""
    strangers = f"; {plural(result.strangers, 'message')} of others" if result.strangers else ""
    found.append(f"order       {result.out_of_order} out of order, {result.duplicates} twice{refused}{strangers}")
    if (trips := result.round_trips) is not None:
        found.append(
            f"round trip  least {milliseconds(trips.least_s * 1000)}, median {milliseconds(trips.median_s * 1000)},"
            f" p95 {milliseconds(trips.p95_s * 1000)}, most {milliseconds(trips.most_s * 1000)}"
        )
    for run in result.runs[:RUNS_SHOWN]:
        last = f" to #{run.first + run.count - 1}" if run.count > 1 else ""
        found.append(f"lost        #{run.first}{last}, within {milliseconds(run.duration_s * 1000)}")
    found += _histogram(result)
    found += _uplinks(session)
    return [*found, *(line for text in session.problems for line in fold(clean(text), first="problem     "))]


def _where(result: Result) -> str:
    if not result.answered:
        return ""
    unknown = result.lost - result.lost_there - result.lost_back
    parts = (
        (result.lost_there, "on the way there"),
        (result.lost_back, "on the way back"),
        (unknown, "after the last answer"),
    )
    told = [f"{count} {where}" for count, where in parts if count]
    return f" ({', '.join(told)})" if told else ""


def _histogram(result: Result) -> list[str]:
    if result.answered < 2:
        return []
    found = ["gaps between arrivals, there and back"]
    there, back = buckets(result.gaps_there), buckets(result.gaps_back)
    most = max(1, *result.gaps_there.histogram, *result.gaps_back.histogram)
    for (name, one), (_, other) in zip(there, back, strict=True):
        if one or other:
            bar = "#" * round(other / most * BAR)
            found.append(f"  {name:<12}{one:>7}{other:>7}  {bar}".rstrip())
    for name, gaps in (("there", result.gaps_there), ("back", result.gaps_back)):
        if gaps.longest_after >= 0:
            found.append(f"  longest {name} {milliseconds(gaps.longest_s * 1000)}, after #{gaps.longest_after}")
    return found


def _uplinks(session: Session) -> list[str]:
    if session.uplinks_unknown:
        return fold(f"not known: {clean(session.uplinks_unknown)}", first="uplink      ")
    found = [
        f"uplink      {clean(uplink.uplink)}: {uplink.sent} sent, {uplink.lost} lost" for uplink in session.uplinks
    ]
    if len(session.changes) > 1:
        told: Sequence[str] = [f"{clean(uplink)} from #{number}" for number, uplink in session.changes[:RUNS_SHOWN]]
        found += fold(", ".join(told), first="            ")
    return found
