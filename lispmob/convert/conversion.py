"""Converts an old file: detects its format and our kind of file, and collects all remarks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from lispmob.convert.confuse import parse_confuse
from lispmob.convert.hub import read_hub
from lispmob.convert.keys import KeyFile, KeyFiles
from lispmob.convert.lispers import parse_lispers
from lispmob.convert.lispers_node import LispersReading
from lispmob.convert.node import NodeReading
from lispmob.convert.report import InterfaceOf, Remark, Report, Resolve
from lispmob.convert.tree import MAX_MISTAKES, MAX_OCTETS, Block, OldFile
from lispmob.convert.uci import parse_uci
from lispmob.convert.writing import hub_text, node_text
from lispmob.errors import ConfigError

LISPD: Final = "lispd.conf"
HUB: Final = "hub.conf"

_LISPERS: Final = re.compile(r"^lisp[ \t]+[\w-]+[ \t]*\{", re.MULTILINE)
_UCI: Final = re.compile(r"^[ \t]*(package|config)[ \t]+\S", re.MULTILINE)
_YAML: Final = re.compile(r"^[a-z][a-z-]*:([ \t]|$)", re.MULTILINE)
_ASSIGNED: Final = re.compile(r"^[ \t]*[A-Za-z][\w-]*[ \t]*[={]", re.MULTILINE)
WHOSE: Final = {"confuse": "LISPmob or Open Overlay Router", "uci": "OpenWrt (UCI)", "lispers.net": "lispers.net"}


class Converted(msgspec.Struct, frozen=True):
    """The text of one of our files (`kind`: its usual name), the key files that it names, and the remarks."""

    kind: str
    text: str
    key_files: tuple[KeyFile, ...]
    remarks: tuple[Remark, ...]

    @property
    def is_complete(self) -> bool:
        """True when nothing was refused and everything could be read."""
        return all(remark.kind == "note" for remark in self.remarks)


def parse_old(raw: bytes, name: str) -> OldFile:
    """Read an old file of any format. Raises ConfigError for anything else."""
    if len(raw) > MAX_OCTETS:
        raise ConfigError(f"{name}: the file has more than {MAX_OCTETS} octets")
    text = raw.decode("utf-8-sig", "replace")  # comments in old files have all kinds of encodings
    if "\0" in text:
        raise ConfigError(f"{name}: this is no text")
    if is_ours(raw):
        raise ConfigError(
            f"{name}: this is a lispmob file already; `lispctl config check {name}` says what is wrong with it"
        )
    if _LISPERS.search(text):
        return parse_lispers(text)
    return parse_uci(text) if _UCI.search(text) else parse_confuse(text)


def is_ours(raw: bytes) -> bool:
    """True for lispd.conf and hub.conf: they have keys with colons, and no line that looks like an old format."""
    text = raw.decode("utf-8-sig", "replace")
    return _YAML.search(text) is not None and _ASSIGNED.search(text) is None


def convert(
    raw: bytes,
    name: str,
    *,
    resolve: Resolve,
    interface_of: InterfaceOf,
    key_stem: str | None = None,
    key_files: Mapping[str, str],
) -> Converted:
    """Convert the octets of the file `name`. `key_stem`, `key_files`: as in KeyFiles; without a stem no key is written.

    Raises ConfigError for a file without anything that can be converted.
    """
    old = parse_old(raw, name)
    report = Report()
    for mistake in old.mistakes:
        report.mistake(mistake.line, mistake.text)
    kind = HUB if _mode(old, name) in ("MS", "RTR") else LISPD
    stem = key_stem or kind.partition(".")[0]
    keys = KeyFiles(stem, key_files, report, may_write=key_stem is not None)
    shown = name if name.isprintable() else ascii(name)
    head = (
        f"{kind}, made from {shown} ({WHOSE[old.language]}) by `lispctl config convert`.",
        "Comments that begin with a line number are about that line of the old file.",
        "",
    )
    if kind == HUB:
        text = hub_text(read_hub(old.root, report, keys, resolve), report, head)
    else:
        reading = LispersReading if old.language == "lispers.net" else NodeReading
        draft = reading(old.root, report, keys, resolve, interface_of).read()
        if not draft.eids:
            raise _nothing(name, "no EID can be found in it (database-mapping)", report)
        if not draft.servers and not draft.statics and not report.about("refused"):
            raise _nothing(name, "no Map-Server can be found in it (map-server)", report)
        text = node_text(draft, report, head)
    return Converted(kind, text, tuple(keys.files), tuple(report.remarks))


def _nothing(name: str, why: str, report: Report) -> ConfigError:
    """The error for a file that cannot be converted, with the remarks about the lines that may be the cause."""
    lines = [f"{name}:{remark.line}: {remark.text}" for remark in report.about("mistake", "refused")[:MAX_MISTAKES]]
    return ConfigError("\n".join([*lines, f"{name}: {why}"]))


def _mode(old: OldFile, name: str) -> str:
    """The operating mode. Raises ConfigError for a mode that we do not have, and for an empty file."""
    if not old.root.items:
        raise ConfigError(f"{name}: nothing in it can be read as a configuration")
    mode = _last(old.root, "operating-mode").upper()
    if mode.startswith("DDT"):
        raise ConfigError(f"{name}: operating-mode {mode}: neither lispd nor lisphub is a node of the delegation tree")
    return mode


def _last(block: Block, name: str) -> str:
    return next((setting.text for setting in reversed(list(block.settings(name)))), "")
