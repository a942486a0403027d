"""Paths that work and lose packets: named by the uplink if all of its peers are concerned, otherwise by the peer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from lispmob.problems.evidence import Evidence, LossEvidence
from lispmob.problems.problem import Problem, Severity

STEP: Final = 5  # ours, in percent: the share changes with every probe, and the sentence need not
MINUTES: Final = (1, 2, 5, 10, 15)  # ours, for the same reason
UPLINK_PEERS_MIN: Final = 2  # ours: a single one may have lost packets itself


def problems(evidence: Evidence) -> Iterator[Problem]:
    """One for each uplink that loses packets to all peers, and one for each other peer."""
    by_uplink: dict[str, list[LossEvidence]] = {}
    for path in evidence.lossy:
        by_uplink.setdefault(path.interface, []).append(path)
    by_peer: dict[str, list[LossEvidence]] = {}
    for uplink, paths in by_uplink.items():
        peers = {path.eid for path in paths}
        if uplink not in evidence.steady and len(peers) >= UPLINK_PEERS_MIN:
            cause = (
                f"probes to {len(peers)} peers, {_over(paths)}; a limit on packets per second shows itself like this"
            )
            what = f"about {_percent(paths)} % of the packets by {uplink} are lost"
            yield Problem("lossy-path", Severity.NOTICE, what, cause, _remedy((uplink,), evidence), uplink)
            continue
        for path in paths:
            by_peer.setdefault(path.eid, []).append(path)
    for eid, paths in by_peer.items():
        uplinks = tuple(dict.fromkeys(path.interface for path in paths))
        remotes = ", ".join(dict.fromkeys(path.remote for path in paths))
        what = f"about {_percent(paths)} % of the packets by {' and '.join(uplinks)} to {eid} are lost"
        cause = f"probes to {remotes}, {_over(paths)}; a limit on packets per second shows itself like this"
        yield Problem("lossy-path", Severity.NOTICE, what, cause, _remedy(uplinks, evidence), eid)


def _remedy(uplinks: tuple[str, ...], evidence: Evidence) -> str:
    """What moves the flows, or could."""
    others = [name for name in evidence.sending if name not in uplinks]
    if not others:
        return "use another network, or add an uplink" if len(uplinks) == 1 else "look for the loss near that peer"
    if evidence.prefers_loss:
        return "multihoming: {prefer: loss} moves flows only among uplinks of one priority; see: lispctl uplinks"
    other = " or ".join(others)
    by_itself = f"give {other} the same priority and set multihoming: {{prefer: loss}}, which moves flows by itself"
    return f"{by_itself}; or give {other} the better priority"


def _percent(paths: Iterable[LossEvidence]) -> int:
    shares = [path.share for path in paths]
    return max(STEP, round(100 * sum(shares) / len(shares) / STEP) * STEP)


def _over(paths: Iterable[LossEvidence]) -> str:
    """The time that the figure is about."""
    longest_s = max(path.over_s for path in paths)
    minutes = next((minutes for minutes in MINUTES if longest_s <= 60 * minutes), MINUTES[-1])
    return f"in the last {'minute' if minutes == 1 else f'{minutes} minutes'}"
