"""Reads docs/policies.md: its examples, and the packets in the table below each of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "policies.md"
WITHOUT_LISP: Final = " without LISP"
_PACKETS: Final = re.compile(
    r"(?:without (?P<without>[\w, ]+): )?(?:(?P<flows>\d+) flows of )?udp (?P<port>\d+)"
    r"(?: with DSCP (?P<dscp>\d+)| of user (?P<user>\d+)| with mark (?P<mark>\d+)| in cgroup (?P<cgroup>\S+)"
    r"| forwarded from (?P<origin>\S+)| (?P<command>of the command)| (?P<sealed>sealed))?"
)


@dataclass(frozen=True)
class Packets:
    """One line of a table: what is sent, and the share (of 1) that each uplink carries; none: nothing leaves.

    "eth0 and wlan0": each of them carries all.
    """

    text: str
    port: int
    shares: dict[str, float]
    without: tuple[str, ...] = ()
    flows: int = 1
    dscp: int = 0
    user: int | None = None
    mark: int = 0
    cgroup: str | None = None
    origin: str | None = None
    is_of_command: bool = False
    is_native: bool = False
    is_sealed: bool = False


@dataclass
class Example:
    """A heading, the block below it, and its packets."""

    title: str
    language: str = ""
    block: str = ""
    packets: list[Packets] = field(default_factory=list)


def examples() -> list[Example]:
    """The examples of the page, in order; a block without a table below it is not one."""
    found: list[Example] = []
    lines = iter(PAGE.read_text().splitlines())
    for line in lines:
        if line.startswith("#"):
            found.append(Example(line.strip("# ")))
        elif line.startswith("```") and found and not found[-1].block:
            found[-1].language = line.strip("`")
            found[-1].block = "\n".join([*iter(lambda: next(lines), "```"), ""])
        elif line.startswith("| ") and not line.startswith("| packets"):
            text, result = (cell.strip() for cell in line.strip("|").split("|"))
            found[-1].packets.append(_packets(text, result))
    return [example for example in found if example.packets]


def _packets(text: str, result: str) -> Packets:
    read = _PACKETS.fullmatch(text)
    assert read is not None, text
    number = {name: int(value) for name, value in read.groupdict().items() if value is not None and value.isdecimal()}
    return Packets(
        text,
        number["port"],
        _shares(result),
        without=tuple((read["without"] or "").replace(",", " ").split()),
        flows=number.get("flows", 1),
        dscp=number.get("dscp", 0),
        user=number.get("user"),
        mark=number.get("mark", 0),
        cgroup=read["cgroup"],
        origin=read["origin"],
        is_of_command=read["command"] is not None,
        is_native=result.endswith(WITHOUT_LISP),
        is_sealed=read["sealed"] is not None,
    )


def _shares(text: str) -> dict[str, float]:
    if text == "nothing":
        return {}
    shares = {}
    for part in text.replace(" and ", ", ").split(", "):
        read = re.fullmatch(r"(\w+)(?: (\d+) %)?", part.removesuffix(WITHOUT_LISP))
        assert read is not None, text
        shares[read[1]] = int(read[2] or 100) / 100
    return shares
