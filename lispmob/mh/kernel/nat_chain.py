"""Source translation for packets with an EID as source that must leave natively: one chain per family.

A flow that began inside the overlay keeps its addresses, as connection tracking requires; new flows are translated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh.chain_text import ChainText
from lispmob.mh.kernel.chain import FAMILIES, PROGRAMS
from lispmob.mh.kernel.chain_keeper import ChainKeeper, Make
from lispmob.mh.kernel.packet_filter import PacketFilter
from lispmob.problems.problem import Problem, Severity, printable
from lispmob.wire.address import IpNetwork

CHAIN: Final = "LISPMOB-NAT"
TABLE: Final = "nat"
_JUMP: Final = f"-A POSTROUTING -j {CHAIN}"


class NatChain:
    """The chains of both families; each is independent."""

    def __init__(self, programs: Iterable[PacketFilter] = PROGRAMS) -> None:
        given = tuple(programs)
        self._keepers = {
            family: ChainKeeper(TABLE, [packet_filter for packet_filter in given if packet_filter.family == family])
            for family in FAMILIES
        }
        self._in_place: set[int] = set()

    async def apply(
        self,
        eids: Collection[IpNetwork],
        tun: str,
        prefix: str | None = None,
        *,
        is_repair: bool = False,
        severity: Severity = Severity.DEGRADED,
    ) -> tuple[Problem, ...]:
        """Translate packets of these EIDs that leave by anything but `tun`; returns refusals, with this severity.

        `prefix`: of the names of further TUNs.
        """
        problems: list[Problem] = []
        for family, keeper in self._keepers.items():
            lines = chain_lines([eid for eid in eids if eid.version == family], tun, prefix)
            text = ChainText((CHAIN,), tuple(lines), (_JUMP,))
            try:
                if lines:
                    await keeper.apply(_always(text), is_repair=is_repair)
                    self._in_place.add(family)
                elif family in self._in_place:
                    await keeper.clean_up()
                    self._in_place.discard(family)
            except KernelRefused as refused:
                problems.append(_refusal(family, refused, severity))
        return tuple(problems)

    async def clean_up(self) -> None:
        """Remove the chains and all jumps to them. Raises KernelRefused at the end."""
        refusals: list[str] = []
        self._in_place.clear()
        for keeper in self._keepers.values():
            try:
                await keeper.clean_up()
            except KernelRefused as refused:
                refusals.append(str(refused))
        if refusals:
            raise KernelRefused("; ".join(refusals))


def chain_lines(eids: Iterable[IpNetwork], tun: str, prefix: str | None = None) -> list[str]:
    """The chain's rules in the form of iptables-save, in a stable order. `prefix`: of the names of further TUNs."""
    ordered = sorted(map(str, eids))
    # A host's packets to its own EID by `lo` stay on the host: translated, the answer would go to another address.
    own = [f"-A {CHAIN} -o lo -j RETURN"] if ordered else []
    others = [f"-A {CHAIN} -o {prefix}+ -j RETURN"] if ordered and prefix else []
    return [*own, *others, *(f"-A {CHAIN} -s {eid} ! -o {tun} -j MASQUERADE" for eid in ordered)]


def _always(text: ChainText) -> Make:
    """The chain uses no extension that could be left out."""
    return lambda _missing: text


def _refusal(family: int, refused: KernelRefused, severity: Severity) -> Problem:
    return Problem(
        "no-translation",
        severity,
        f"IPv{family} destinations outside LISP cannot be reached from an EID",
        f"without source translation no host there can answer to an EID: {printable(str(refused))}",
        "install iptables or nftables, or set `routing: {fallback: proxy}` (or drop); lispd tries again by itself",
        f"IPv{family}",
    )
