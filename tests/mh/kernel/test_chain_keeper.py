"""Which program keeps the chains, when some of them cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lispmob.errors import KernelRefused
from lispmob.mh.chain_text import ChainText
from lispmob.mh.kernel.chain_keeper import ChainKeeper
from lispmob.mh.kernel.xtables import Tool, ToolBusy, ToolMissing
from tests.mh.kernel.test_nft import Fake

TEXT = ChainText(("LISPMOB-X",), ("-A LISPMOB-X -j RETURN",), ())


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [("", 0o644, "EACCES"), ("#!/nonexistent", 0o755, "not found"), ("\0\1", 0o755, "ENOEXEC")],
)
def test_a_program_that_cannot_be_executed_is_one_that_is_missing(
    tmp_path: Path, content: str, mode: int, why: str
) -> None:
    program = tmp_path / "iptables-save"
    program.write_text(content)
    program.chmod(mode)

    with pytest.raises(ToolMissing, match=why):
        asyncio.run(Tool(str(tmp_path / "iptables"), 4).save("nat"))


def keep(keeper: ChainKeeper, *, is_repair: bool = False) -> str:
    return asyncio.run(keeper.apply(lambda _missing: TEXT, is_repair=is_repair)).by


@pytest.mark.parametrize("refusal", [ToolMissing("not found"), KernelRefused("no such table")])
def test_the_next_program_does_it_when_the_first_cannot(refusal: Exception) -> None:
    first, second = Fake("first", refusal), Fake("second")

    assert keep(ChainKeeper("mangle", (first, second))) == "second"
    assert "mangle" in second.holds


def test_a_locked_program_is_waited_for_and_no_other_is_tried() -> None:
    first, second = Fake("first", ToolBusy("locked")), Fake("second")

    with pytest.raises(ToolBusy):
        keep(ChainKeeper("mangle", (first, second)))

    assert second.holds == {}


def test_what_is_refused_by_all_names_what_each_of_them_said() -> None:
    keeper = ChainKeeper("mangle", (Fake("a", ToolMissing("a: not found")), Fake("b", KernelRefused("b: no nat"))))

    with pytest.raises(KernelRefused, match="a: not found; b: no nat"):
        keep(keeper)


def test_the_chains_never_stand_twice_when_the_first_program_comes_back() -> None:
    first, second = Fake("first", ToolMissing("not found")), Fake("second")
    keeper = ChainKeeper("mangle", (first, second))
    keep(keeper)

    first.refusal = None

    assert keep(keeper) == "first"
    assert (set(first.holds), set(second.holds)) == ({"mangle"}, set())


def test_what_stands_is_looked_at_for_a_repair_only() -> None:
    only = Fake("only")
    keeper = ChainKeeper("mangle", (only,))
    keep(keeper)
    only.holds.clear()

    keep(keeper)
    assert only.holds == {}
    keep(keeper, is_repair=True)
    assert only.holds == {"mangle": TEXT}
