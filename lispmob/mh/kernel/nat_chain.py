"""Source translation: packets with an EID as source that must leave natively get another, those of the overlay none.

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
from lispmob.mh.kernel.source_chain import SourceChain, accepting
from lispmob.problems.problem import Problem, Severity, printable
from lispmob.wire.address import IpNetwork

CHAIN: Final = "LISPMOB-NAT"
KEPT: Final = "LISPMOB-SOURCE"
"""Without nft, what `source_chain.py` does."""
TABLE: Final = "nat"
_JUMP: Final = f"-A POSTROUTING -j {CHAIN}"
_FIRST_JUMP: Final = f"-A POSTROUTING -j {KEPT}"


class NatChain:
    """The chains of both families; each is independent."""

    def __init__(self, programs: Iterable[PacketFilter] = PROGRAMS) -> None:
        given = tuple(programs)
        self._keepers = {
            family: ChainKeeper(TABLE, [packet_filter for packet_filter in given if packet_filter.family == family])
            for family in FAMILIES
        }
        self._sources = {family: SourceChain(family) for family in FAMILIES}
        self._in_place: set[int] = set()

    async def apply(
        self,
        eids: Collection[IpNetwork],
        tun: str,
        prefix: str | None = None,
        *,
        kept: Collection[IpNetwork] = (),
        is_repair: bool = False,
        severity: Severity = Severity.DEGRADED,
    ) -> tuple[Problem, ...]:
        """Translate packets of `eids` that leave by anything but `tun`; returns refusals, with this severity.

        `prefix`: of the names of further TUNs. `kept`: EIDs that no other program may translate at the TUNs.
        """
        problems: list[Problem] = []
        devices = [tun, f"{prefix}+"] if prefix else [tun]
        for family in FAMILIES:
            keeping = [eid for eid in kept if eid.version == family]
            translated = chain_lines([eid for eid in eids if eid.version == family], tun, prefix)
            accepted: list[str] = []
            try:
                if await self._sources[family].apply(keeping, devices, is_repair=is_repair):
                    accepted = [f"-A {KEPT} {line}" for device in devices for line in accepting(keeping, device)]
            except KernelRefused as refused:
                problems.append(_replaced(family, refused))
            try:
                await self._keep(family, translated, accepted, is_repair=is_repair)
            except KernelRefused as refused:
                problems += [_refusal(family, refused, severity)] if translated else []
                problems += [_replaced(family, refused)] if accepted else []
        return tuple(problems)

    async def _keep(self, family: int, translated: list[str], accepted: list[str], *, is_repair: bool) -> None:
        """Make our chains in the table hold these rules. Raises KernelRefused."""
        parts = [(CHAIN, translated), (KEPT, accepted)]
        text = ChainText(
            chains=tuple(chain for chain, rules in parts if rules),
            rules=(*translated, *accepted),
            jumps=(_JUMP,) if translated else (),
            ahead=(_FIRST_JUMP,) if accepted else (),
        )
        keeper = self._keepers[family]
        if text.rules:
            await keeper.apply(_always(text), is_repair=is_repair)
            self._in_place.add(family)
        elif family in self._in_place:
            await keeper.clean_up()
            self._in_place.discard(family)

    async def clean_up(self) -> None:
        """Remove the chains and all jumps to them. Raises KernelRefused at the end."""
        refusals: list[str] = []
        self._in_place.clear()
        removals = [keeper.clean_up for keeper in self._keepers.values()]
        removals += [source.clean_up for source in self._sources.values()]
        for remove in removals:
            try:
                await remove()
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


def _replaced(family: int, refused: KernelRefused) -> Problem:
    return Problem(
        "translated-source",
        Severity.NOTICE,
        f"another program's NAT may replace the source of IPv{family} packets for the overlay",
        f"it has a chain for source translation, and ours before it is refused: {printable(str(refused))}",
        "install nftables, or add `! -o lmn0` to rules that translate all packets; lispd tries again by itself",
        f"IPv{family}",
    )
