"""Paths that lose packets: what the status says of them, of which uplink or peer, and what to do."""

from __future__ import annotations

import pytest

from lispmob.problems.evidence import Evidence, LossEvidence
from lispmob.problems.lossy import problems
from lispmob.problems.problem import Problem, Severity, verdict
from lispmob.problems.rules import problems_of
from tests.problems.test_rules import STANDS, of

PEERS = [f"10.99.0.{number}/32" for number in range(2, 6)]


def path(peer: int = 0, interface: str = "wlan0", share: float = 0.31, over_s: float = 200.0) -> LossEvidence:
    return LossEvidence(interface, PEERS[peer], f"198.51.100.{peer + 2}", share, over_s)


def told(*lossy: LossEvidence, steady: tuple[str, ...] = (), prefers_loss: bool = False) -> list[Problem]:
    sending = ("wlan0", "wwan0")
    return list(problems(Evidence(lossy=lossy, steady=frozenset(steady), sending=sending, prefers_loss=prefers_loss)))


def test_a_lossy_path_to_the_only_peer_is_a_notice_with_the_uplink_the_share_and_the_time() -> None:
    (problem,) = found = of(STANDS, lossy=(path(),), sending=("wlan0",))

    assert (problem.key, problem.severity, verdict(found)) == ("lossy-path", Severity.NOTICE, "working")
    assert problem.what == "about 30 % of the packets by wlan0 to 10.99.0.2/32 are lost"
    assert "in the last 5 minutes" in problem.cause


def test_an_uplink_that_loses_packets_to_all_peers_is_named_once() -> None:
    (problem,) = told(path(0), path(1, share=0.2), path(2, share=0.25))

    assert (problem.subject, problem.what) == ("wlan0", "about 25 % of the packets by wlan0 are lost")
    assert "probes to 3 peers" in problem.cause


def test_peers_are_named_if_another_one_is_reached_by_the_uplink_without_loss() -> None:
    found = told(path(0), path(1), steady=("wlan0",))

    assert [problem.subject for problem in found] == [PEERS[0], PEERS[1]]


def test_a_peer_with_loss_by_every_uplink_is_named_once_with_all_of_them() -> None:
    (problem,) = told(path(), path(interface="wwan0"), steady=("wlan0", "wwan0"))

    assert problem.what == "about 30 % of the packets by wlan0 and wwan0 to 10.99.0.2/32 are lost"
    assert problem.remedy == "look for the loss near that peer"


def test_two_uplinks_that_lose_packets_are_two_problems() -> None:
    found = told(path(0), path(1), path(0, "wwan0", 0.5), path(1, "wwan0", 0.5))

    assert [problem.subject for problem in found] == ["wlan0", "wwan0"]


@pytest.mark.parametrize(
    ("prefers_loss", "words"),
    [(False, "multihoming: {prefer: loss}, which moves flows by itself"), (True, "only among uplinks of one priority")],
)
def test_the_remedy_names_the_key_that_moves_flows(prefers_loss: bool, words: str) -> None:
    (problem,) = told(path(), prefers_loss=prefers_loss)

    assert words in problem.remedy


def test_the_sentence_stays_while_the_figures_change_a_little() -> None:
    (first,), (second,) = told(path(share=0.31, over_s=130.0)), told(path(share=0.29, over_s=290.0))

    assert first == second


def test_without_loss_there_is_no_problem() -> None:
    assert problems_of(Evidence(families=frozenset({4}), registrations=(STANDS,), steady=frozenset({"wlan0"}))) == ()
