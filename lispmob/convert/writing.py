"""Writes drafts as lispd.conf and hub.conf, with every remark above the key that it is about. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from lispmob.convert.draft import NodeDraft, Rank, Remote
from lispmob.convert.hub import HubDraft, LinkDraft
from lispmob.convert.report import Remark, Report
from lispmob.terminal.text import fold
from lispmob.wire.address import EidPrefix

WIDTH: Final = 120
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*|[0-9][0-9./]*|\d+[smhd]")
_WORDS: Final = frozenset({"yes", "no", "true", "false", "on", "off", "null"})


def scalar(text: str) -> str:
    """A value for YAML; quoted unless it is clearly a word, a number or an IPv4 prefix."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text)


class Page:
    """The lines of a configuration. `key` begins the place above which the remarks about that key are written."""

    def __init__(self, head: Iterable[str], report: Report) -> None:
        self._report = report
        self._lines = [*_comment(head), *self._remarks("")]
        self._said = {""}

    def key(self, name: str, lines: Iterable[str]) -> None:
        """Write a key of the file with its lines and remarks; nothing if there are none."""
        body = list(lines)
        remarks = self._remarks(name)
        self._said.add(name)
        if body or remarks:
            self._lines += ["", *remarks, *body]

    def text(self) -> str:
        """The whole file; remarks whose key was not written stand at its end."""
        rest = [remark for remark in self._report.remarks if remark.place not in self._said]
        lines = [line for remark in rest for line in _remark_lines(remark)]
        return "\n".join([*self._lines, *(["", *lines] if lines else [])]) + "\n"

    def _remarks(self, place: str) -> list[str]:
        return [line for remark in self._report.remarks if remark.place == place for line in _remark_lines(remark)]


def _comment(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in fold(line, WIDTH, first="# ", rest="# ")]


def _remark_lines(remark: Remark) -> list[str]:
    head = {"note": "", "mistake": "a mistake: ", "refused": "YOU HAVE TO ACT: "}[remark.kind]
    return fold(f"{head}{remark.text}", WIDTH, first=f"# line {remark.line}: ", rest="#   ")


def node_text(draft: NodeDraft, report: Report, head: Iterable[str]) -> str:
    """lispd.conf."""
    page = Page(head, report)
    page.key("eids", _eids(draft))
    page.key("map-servers", _servers(draft))
    page.key("map-resolvers", _list("map-resolvers", map(str, draft.resolvers)))
    page.key("uplinks", _uplinks(draft))
    page.key("routing", _routing(draft))
    page.key("proxy-etrs", _remotes("proxy-etrs", draft.proxy_etrs))
    page.key("proxy-itrs", _list("proxy-itrs", map(str, draft.proxy_itrs)))
    page.key("map-cache", _statics(draft))
    ttl = {} if draft.ttl_min in (None, 10) else {"ttl": f"{draft.ttl_min}m"}
    quoted = {name: json.dumps(value) for name, value in draft.register.items()}  # digits alone would be a number
    page.key("register", _settings("register", {**ttl, **quoted}))
    page.key("probing", _settings("probing", draft.probing))
    page.key("natt", [] if draft.natt_mode is None else [f"natt: {{mode: {scalar(draft.natt_mode)}}}"])
    page.key("log", [] if draft.log_level is None else [f"log: {{level: {draft.log_level}}}"])
    return page.text()


def _settings(name: str, values: Mapping[str, str]) -> list[str]:
    return [f"{name}: {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"] if values else []


def _eids(draft: NodeDraft) -> Iterator[str]:
    yield "eids:" if draft.eids else "eids: []"
    general = draft.general_ranks()
    for eid in draft.eids:
        differences = draft.differences(eid, general)
        if not differences:
            yield f"  - {_eid(eid)}"
            continue
        yield f"  - prefix: {scalar(str(eid.network))}"
        if eid.instance_id:
            yield f"    instance-id: {eid.instance_id}"
        yield "    uplinks:"
        for interface, rank in differences.items():
            yield f"      - {_rank(interface, rank)}"


def _eid(eid: EidPrefix) -> str:
    return scalar(str(eid))


def _rank(interface: str, rank: Rank, more: str = "") -> str:
    return f"{{name: {scalar(interface)}, priority: {rank.priority}, weight: {rank.weight}{more}}}"


def _families(rank: Rank) -> str:
    """The ranks of the families, if they differ."""
    return "".join(f", ipv{family}: {{priority: {p}, weight: {w}}}" for family, p, w in rank.families)


def _servers(draft: NodeDraft) -> Iterator[str]:
    yield "map-servers:" if draft.servers else "map-servers: []"
    for server in draft.servers:
        yield f"  - address: {scalar(str(server.address))}  # line {server.line}"
        yield f"    key-file: {scalar(server.key_file)}"
        yield f"    algorithm: {server.algorithm}"
        yield f"    proxy-reply: {'yes' if server.proxy_reply else 'no'}"


def _list(name: str, values: Iterable[str]) -> list[str]:
    lines = [f"  - {scalar(value)}" for value in values]
    return [f"{name}:", *lines] if lines else []


def _uplinks(draft: NodeDraft) -> list[str]:
    ranks = draft.general_ranks()
    if not ranks:
        return []
    lines = [f"  - {_rank(interface, rank, _families(rank))}" for interface, rank in ranks.items()]
    if draft.uses_only_named:
        lines.append('  - {name: "*", use: no}  # as before: no interface that is not named')
    return ["uplinks:", *lines]


def _routing(draft: NodeDraft) -> list[str]:
    proxied = any(remote.rank.priority < 255 for remote in draft.proxy_etrs)
    if draft.overlay_prefixes:
        prefixes = ", ".join(scalar(str(prefix)) for prefix in dict.fromkeys(draft.overlay_prefixes))
        return ["routing:", "  mode: split", f"  overlay-prefixes: [{prefixes}]"]
    return [
        "# As before, everything enters the overlay. To send only the EIDs of others there: mode: split, and",
        "# overlay-prefixes: [PREFIX], where they live.",
        "routing:",
        "  mode: full",
        f"  fallback: {'proxy' if proxied else 'native'}  # what has no mapping",
    ]


def _remotes(name: str, remotes: Iterable[Remote], indent: str = "") -> list[str]:
    lines = []
    for remote in remotes:
        rank = f"priority: {remote.rank.priority}, weight: {remote.rank.weight}"
        lines.append(f"{indent}  - {{address: {scalar(str(remote.address))}, {rank}}}")
    return [f"{indent}{name}:", *lines] if lines else []


def _statics(draft: NodeDraft) -> list[str]:
    lines = []
    for eid, remotes in draft.statics.items():
        lines += [f"    - prefix: {_eid(eid)}", *_remotes("locators", remotes, " " * 6)]
    return ["map-cache:", "  static:", *lines] if lines else []


def hub_text(draft: HubDraft, report: Report, head: Iterable[str]) -> str:
    """hub.conf."""
    page = Page(head, report)
    page.key("sites", _sites(draft))
    page.key("rtrs", _links("rtrs", draft.rtrs))
    interfaces = ", ".join(map(scalar, draft.interfaces))
    page.key("proxy", [f"proxy: {{interfaces: [{interfaces}]}}"] if interfaces else [])
    page.key("rtr", ["rtr:", "  enabled: yes", *_links("map-servers", draft.map_servers, "  ")] if draft.is_rtr else [])
    page.key("map-servers", [])
    page.key("log", [] if draft.log_level is None else [f"log: {{level: {draft.log_level}}}"])
    return page.text()


def _sites(draft: HubDraft) -> Iterator[str]:
    yield "sites:" if draft.sites else "sites: []"
    for number, (site, eids) in enumerate(draft.sites.items(), 1):
        yield f"  - name: site-{number}"
        yield f"    eids: [{', '.join(map(_eid, eids))}]"
        yield f"    key-file: {scalar(site.key_file)}"
        yield f"    algorithms: [{site.algorithm}]"
        if site.accepts_more_specifics:
            yield "    accept-more-specifics: yes"
        if site.is_always_proxied:
            yield "    proxy-reply: always"
        yield "    strict-nonces: auto  # Open Overlay Router's nodes do not count; yes, when all of them are lispd"


def _links(name: str, links: Iterable[LinkDraft], indent: str = "") -> list[str]:
    lines = []
    for link in links:
        lines.append(f"{indent}  - address: {scalar(str(link.address))}")
        lines.append(f"{indent}    key-file: {scalar(link.key_file)}")
        lines.append(f"{indent}    algorithm: hmac-sha-1-96")
    return [f"{indent}{name}:", *lines] if lines else []
