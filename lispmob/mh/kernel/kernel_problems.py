"""The kernel's refusals as problems with cause and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from lispmob.mh.mark_uses import MarkUse
from lispmob.mh.plan import KernelState
from lispmob.mh.rule import Rule
from lispmob.problems.problem import Problem, Severity, printable

Refusal: TypeAlias = tuple[int, bool, str]
"""Family (0: both), whether packets of the EIDs need it, and what was refused and why."""

_SYSCTLS: Final = Path("/proc/sys/net/ipv6/conf")


def refusals(found: Iterable[Refusal], desired: KernelState) -> tuple[Problem, ...]:
    """One problem for each family with refusals."""
    by_family: dict[int, list[Refusal]] = {}
    for refusal in found:
        by_family.setdefault(refusal[0], []).append(refusal)
    spoken = {eid.family for eid in desired.eids}
    lost = {family for family, refused in by_family.items() if any(is_vital for _, is_vital, _ in refused)}
    is_all = bool(lost) and (0 in lost or lost >= spoken)
    return tuple(
        _refused(family, refused, _severity(family in lost, is_all=is_all), desired)
        for family, refused in sorted(by_family.items())
    )


def foreign_rule(rule: Rule, desired: KernelState) -> Problem:
    """Another program's rule before ours, with no room before it."""
    return Problem(
        "foreign-rule",
        Severity.BROKEN if len({eid.family for eid in desired.eids}) == 1 else Severity.DEGRADED,
        f"a routing rule takes IPv{rule.family} packets before they enter the overlay",
        f"`ip{' -6' if rule.family == 6 else ''} rule` has {rule}, and lispd finds no room in front of it",
        "give that rule a higher number, or choose the place of lispd's rules with `routing: {rule-priority: ...}`",
        f"IPv{rule.family} rule {rule}",
    )


def mark_in_use(uses: Sequence[MarkUse], mask: int) -> tuple[Problem, ...]:
    """Other programs' rules about bits of our marks: each side misreads the other's marks.

    All are routing rules, or all are rules of a packet filter.
    """
    if not uses:
        return ()
    use, more = uses[0], f" (and {len(uses) - 1} more)" if len(uses) > 1 else ""
    kind = "routing rule" if use.is_rule else "packet filter rule"
    return (
        Problem(
            "mark-in-use",
            Severity.NOTICE,
            f"steering by marks and a {kind} of another program use the same bits of the mark",
            f"lispd's marks are the bits {mask:#x}, and {printable(use.where)}{more}",
            "restart lispd, which then takes free bits, or choose some with `steering: {mask: ...}`",
            "" if use.is_rule else "packet filter",
        ),
    )


def _severity(is_lost: bool, *, is_all: bool) -> Severity:
    if not is_lost:
        return Severity.NOTICE
    return Severity.BROKEN if is_all else Severity.DEGRADED


def _refused(family: int, refused: list[Refusal], severity: Severity, desired: KernelState) -> Problem:
    first = next((text for _, is_vital, text in refused if is_vital), refused[0][2])
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    cause = printable(first) + more
    again = "lispd tries again every few seconds"
    if family == 6 and _is_ipv6_off(desired.tun):
        name = f"net.ipv6.conf.{desired.tun}.disable_ipv6"
        cause, again = f"IPv6 is switched off on {desired.tun} ({name} = 1)", f"to use it: sysctl {name}=0; {again}"
    eids = ", ".join(str(eid) for eid in desired.eids if family in (0, eid.family))
    what = f"{eids or 'this node'} is not completely configured in the kernel" if severity > Severity.NOTICE else _SMALL
    return Problem("kernel-refused", severity, what, cause, again, f"IPv{family}" if family else "")


_SMALL: Final = "the kernel lacks some settings that make moves smooth"


def _is_ipv6_off(device: str) -> bool:
    try:
        return (_SYSCTLS / device / "disable_ipv6").read_text().strip() == "1"
    except OSError:
        return not _SYSCTLS.exists()
