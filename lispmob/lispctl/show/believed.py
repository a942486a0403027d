"""lispctl believed: asks which mapping of ours other systems have, and compares it with the true one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, duration, fold, locators, milliseconds, paint

WRONG = 8


def add_arguments(parser: ArgumentParser) -> None:
    """No arguments; the help lists the exit code."""
    parser.epilog = "Exit code 8: a Map-Resolver or a correspondent has another mapping of ours, or does not answer."


def run(client: Client, arguments: Namespace) -> int:
    """Print the mappings others have; returns 8 when one is wrong."""
    found = client.call("believed")
    show(found, arguments, believed_lines)
    is_wrong = any(resolver["differences"] or resolver["answer"] == "silent" for resolver in found["mapping_system"])
    is_late = any(correspondent["verdict"] == "late" for correspondent in found["correspondents"])
    return WRONG if is_wrong or is_late else 0


def believed_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [paint("The mapping system", "bold")]
    lines += [line for resolver in found["mapping_system"] for line in _asked(resolver)] or [
        "  there is no Map-Resolver to ask"
    ]
    lines += ["", paint("Correspondents, by where their data comes in", "bold")]
    lines += [line for correspondent in found["correspondents"] for line in _seen(correspondent)] or [
        "  no locator of others is in use"
    ]
    return lines


def _asked(one: dict[str, Any]) -> list[str]:
    who = f"{clean(one['map_resolver'])} about {clean(one['eid'])}"
    if one["differences"]:
        said = "; ".join(map(clean, one["differences"]))
        return [paint(line, "bad") for line in fold(f"{who}: wrong: {said}", first="  ", rest="    ")]
    told = {
        "record": f"right: {', '.join(map(clean, locators(one['says'])))}",
        "negative": "right: nothing",
        "forwards": f"it has us answer ourselves, at {clean(one['forwarded_to'])}",
        "silent": "no answer",
        "cannot-ask": "cannot be asked: no uplink of its family works without an RTR",
    }[one["answer"]]
    after = "" if one["rtt_ms"] is None else f" (after {milliseconds(one['rtt_ms'])})"
    colour = "bad" if one["answer"] == "silent" else "good"
    return [paint(line, colour) for line in fold(f"{who}: {told}{after}", first="  ", rest="    ")]


def _seen(one: dict[str, Any]) -> list[str]:
    who = f"{clean(one['rloc'])} ({clean(one['eid'])})"
    if one["verdict"] == "not-heard":
        return fold(f"{who}: nothing within the last minute", first="  ", rest="    ")
    text = f"{who}: sends to {clean(one['sends_to'])}, {duration(one['ago_s'])} ago"
    if one["verdict"] == "late":
        text += f"; better now: {', '.join(map(clean, one['better']))}"
    colour = "good" if one["verdict"] == "right" else "warn"
    return [paint(line, colour) for line in fold(text, first="  ", rest="    ")]


COMMAND = Command("believed", "compare the mappings that others have of us with our own", run, add_arguments)
