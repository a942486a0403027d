"""Source translation for packets that carry an EID but must leave natively: one iptables chain of ours, per family.

A flow that began inside the overlay keeps its addresses, as connection tracking demands; new flows are translated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh.xtables import Tool
from lispmob.wire.address import IpNetwork

log = logging.getLogger(__name__)

CHAIN: Final = "LISPMOB-NAT"
_JUMP: Final = f"-A POSTROUTING -j {CHAIN}"
TABLE: Final = "nat"
_TOOLS: Final = {4: Tool("iptables", 4), 6: Tool("ip6tables", 6)}


def chain_lines(eids: Iterable[IpNetwork], tun: str, prefix: str | None = None) -> list[str]:
    """The chain's rules in the form of iptables-save, in a stable order. `prefix`: of the names of further TUNs."""
    ordered = sorted(map(str, eids))
    # What a host sends to its own EID by `lo` leaves nowhere: translated, its answer would go to another address.
    own = [f"-A {CHAIN} -o lo -j RETURN"] if ordered else []
    others = [f"-A {CHAIN} -o {prefix}+ -j RETURN"] if ordered and prefix else []
    return [*own, *others, *(f"-A {CHAIN} -s {eid} ! -o {tun} -j MASQUERADE" for eid in ordered)]


async def apply_chain(family: int, eids: Iterable[IpNetwork], tun: str, prefix: str | None = None) -> None:
    """Make the chain hold exactly these EIDs of one family; without any, remove it. Raises KernelRefused."""
    wanted = chain_lines(eids, tun, prefix)
    if not wanted:
        await remove_chain(family)
        return
    present = await _saved(family)
    if _ours(present) == [*wanted, _JUMP]:
        return
    unhook = [_JUMP.replace("-A", "-D", 1)] * present.count(_JUMP)
    await _restore(family, [f":{CHAIN} - [0:0]", *unhook, _JUMP, *wanted])


async def remove_chain(family: int) -> None:
    """Remove the chain and every jump to it. Raises KernelRefused when that fails.

    Where the tool is missing, or the kernel knows no translation for this family, there is nothing to remove.
    """
    try:
        present = await _saved(family)
    except (FileNotFoundError, KernelRefused) as error:
        log.debug("no chain to remove family=%d why=%s", family, error)
        return
    if not _ours(present):
        return
    unhook = [_JUMP.replace("-A", "-D", 1)] * present.count(_JUMP)
    await _restore(family, [f":{CHAIN} - [0:0]", *unhook, f"-X {CHAIN}"])


def _ours(lines: list[str]) -> list[str]:
    """Our rules, then the jumps to them; a chain without rules still counts as something."""
    rules = [line for line in lines if line.startswith(f"-A {CHAIN} ")]
    jumps = [line for line in lines if line == _JUMP]
    return [*rules, *jumps] or [line for line in lines if line.startswith(f":{CHAIN} ")]


async def _saved(family: int) -> list[str]:
    return await _TOOLS[family].save(TABLE)


async def _restore(family: int, lines: list[str]) -> None:
    await _TOOLS[family].restore(TABLE, lines)
