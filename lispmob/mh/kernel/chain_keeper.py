"""Keeps our chains of one table and family in the kernel, by whichever program works, without extensions that it lacks.

The programs are tried in order. If one refuses the chains, each extension in them is tested. Missing ones are left out,
and tested again later. If one is locked, it is waited for, and no other is tried: otherwise the chains would exist
twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from lispmob.errors import KernelRefused
from lispmob.mh.chain_text import NOTHING, ChainText
from lispmob.mh.kernel.packet_filter import PacketFilter
from lispmob.mh.kernel.xtables import ToolBusy, ToolMissing

log = logging.getLogger(__name__)

Make = Callable[[frozenset[str]], ChainText]
"""The chains without the named extensions."""


class Kept(msgspec.Struct, frozen=True):
    """The state of the chains, and the program that made them. `missing`: extensions that they need and it lacks."""

    by: str
    text: ChainText
    missing: frozenset[str] = NOTHING


class ChainKeeper:
    """Our chains of one table of one family."""

    def __init__(self, table: str, programs: Sequence[PacketFilter]) -> None:
        self._table = table
        self._programs = tuple(programs)
        self._holder: PacketFilter | None = None
        self._text: ChainText | None = None
        self._missing: dict[str, frozenset[str]] = {}

    async def apply(self, make: Make, *, is_repair: bool = False, is_renewal: bool = False) -> Kept:
        """Install the chains if they are missing; existing ones are checked only for `is_repair`.

        `is_renewal` writes them again even if they are the same. Raises KernelRefused with the messages of all
        programs; the former chains stay then. ToolBusy: a retry may work.
        """
        refusals: list[str] = []
        for program in self._programs:
            try:
                kept = await self._by(program, make, is_repair=is_repair, is_renewal=is_renewal)
            except ToolBusy:
                raise
            except ToolMissing as refused:
                refusals.append(str(refused))
            except KernelRefused as refused:
                refusals.append(str(refused))
            else:
                former, self._holder, self._text = self._holder, program, kept.text
                if former not in (None, program):
                    await self._remove_quietly(former)
                return kept
        raise KernelRefused("; ".join(refusals))

    def forget(self) -> None:
        """The chains were removed by another program."""
        self._holder = self._text = None

    async def clean_up(self) -> None:
        """Remove the chains, whichever program made them. Raises KernelRefused at the end."""
        self.forget()
        refusals: list[str] = []
        for program in self._programs:
            try:
                await program.remove(self._table)
            except ToolMissing:
                continue
            except KernelRefused as refused:
                refusals.append(str(refused))
        if refusals:
            raise KernelRefused("; ".join(refusals))

    async def _by(self, program: PacketFilter, make: Make, *, is_repair: bool, is_renewal: bool) -> Kept:
        missing = await self._still_missing(program, is_repair=is_repair)
        text = make(program.lacks | missing)
        is_there = program is self._holder and text == self._text and not is_renewal
        if is_there and (not is_repair or await program.stands(self._table, text)):
            return self._kept(program, make, text, missing)
        try:
            await program.put(self._table, text)
        except (ToolBusy, ToolMissing):
            raise
        except KernelRefused as refused:
            lacking = await self._lacking(program, text.extensions)
            if not lacking:
                raise
            log.debug("extensions are missing tool=%s which=%s why=%s", program.name, lacking, refused)
            missing |= lacking
            text = make(program.lacks | missing)
            await program.put(self._table, text)
        self._missing[program.name] = missing
        return self._kept(program, make, text, missing)

    def _kept(self, program: PacketFilter, make: Make, text: ChainText, missing: frozenset[str]) -> Kept:
        unmet = (program.lacks | missing) & make(NOTHING).extensions if text.lost or missing else NOTHING
        return Kept(program.name, text, unmet)

    async def _still_missing(self, program: PacketFilter, *, is_repair: bool) -> frozenset[str]:
        """The extensions that the program lacked the last time; tested again for a repair."""
        known = self._missing.get(program.name, NOTHING)
        return await self._lacking(program, known) if known and is_repair else known

    async def _lacking(self, program: PacketFilter, extensions: frozenset[str]) -> frozenset[str]:
        return frozenset(
            [extension for extension in sorted(extensions) if not await program.takes(self._table, extension)]
        )

    async def _remove_quietly(self, program: PacketFilter | None) -> None:
        try:
            if program is not None:
                await program.remove(self._table)
        except KernelRefused as refused:
            log.debug("chains may stand twice: %s", refused)
