"""The message about requests that the kernel refuses: the worst first, and how many more there are."""

from __future__ import annotations

from lispmob.mh.kernel.kernel_problems import Refusal, refusals
from lispmob.mh.plan import KernelState
from lispmob.problems.problem import Severity
from lispmob.wire.address import EidPrefix

BOTH = KernelState(tun="lmn0", eids=(EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("2001:db8::1/128")))
MINOR: Refusal = (4, False, "a route of no weight: refused")
VITAL: Refusal = (4, True, "rule 32765: refused")


def test_what_packets_need_is_named_before_what_they_do_not() -> None:
    (problem,) = refusals([MINOR, VITAL, MINOR], BOTH)

    assert problem.severity is Severity.DEGRADED
    assert f"{VITAL[2]} (and 2 more)" in problem.cause


def test_what_packets_do_not_need_is_a_notice() -> None:
    (problem,) = refusals([MINOR], BOTH)

    assert (problem.severity, MINOR[2] in problem.cause) == (Severity.NOTICE, True)


def test_what_all_packets_need_breaks_the_overlay() -> None:
    found = refusals([VITAL, (6, True, "no IPv6")], BOTH)

    assert [problem.severity for problem in found] == [Severity.BROKEN, Severity.BROKEN]
