from __future__ import annotations

from pathlib import Path

from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.service import reloading

BASE = "eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: a}]\n"


def read(text: str) -> NodeFile:
    return read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path())


def test_an_unchanged_file_changes_nothing() -> None:
    assert reloading.compare(read(BASE), read(BASE)) == ([], [])


def test_what_changed_is_named_as_in_the_file_and_what_waits_for_a_restart_too() -> None:
    new = read(BASE + "routing: {mode: full}\ntun: {name: lmn7}\nstate-dir: elsewhere\n")

    assert reloading.compare(read(BASE), new) == (["routing", "tun", "state-dir"], ["tun", "state-dir"])


def test_what_waits_for_a_restart_stays_as_it_was() -> None:
    merged = reloading.merge(read(BASE), read(BASE + "routing: {mode: full}\ntun: {name: lmn7}\n"))

    assert (merged.routing.mode, merged.tun.name) == ("full", "lmn0")
