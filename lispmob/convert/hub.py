"""Converts the file of an Open Overlay Router that is a Map-Server or an RTR to hub.conf. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.convert.keys import KeyFiles, algorithm_of
from lispmob.convert.node import NO_COUNTERPART as OF_NODES
from lispmob.convert.reading import BlockReader
from lispmob.convert.report import Report, Resolve
from lispmob.convert.tree import Block
from lispmob.wire.address import EidPrefix, IpAddress

OF_HUBS: Final = {
    **OF_NODES,
    "map-request-retries": "lisphub passes questions on once; who asks repeats them",
    "log-file": "lisphub logs to standard error, which is the journal where systemd runs it",
    "control-iface": "lisphub listens on all addresses; to choose some: listen: [ADDRESS]",
    "ms-static-registered-site": "lisphub has no static registrations: run lispd on that machine, or let it register",
    "ddt-ms-peers": "the delegation tree (DDT) is not spoken; name other Map-Servers in map-servers",
    "ddt-ms-peers-complete": "the delegation tree (DDT) is not spoken; name other Map-Servers in map-servers",
    "rloc-probing": "lisphub learns from registrations which nodes are there",
    "ipv6-scope": "lisphub takes what its nodes register",
    "merge": "what several nodes register for one EID is merged when the nodes say who they are (xTR-ID)",
    "rtr-data-iface": "which interfaces carry packets is said by proxy: {interfaces: [NAME]}",
    "rtr-database-mapping": "an RTR of ours announces nothing of its own",
    "ttl": "for how long its RTRs are good is for the node to find out",
}


class SiteDraft(msgspec.Struct, frozen=True):
    """A future site: EIDs with the same key and the same policy."""

    key_file: str
    algorithm: str
    accepts_more_specifics: bool
    is_always_proxied: bool


class LinkDraft(msgspec.Struct, frozen=True):
    """The other end of a link between a Map-Server and an RTR."""

    address: IpAddress
    key_file: str


class HubDraft(msgspec.Struct):
    """The contents of the future hub.conf. `known`: the EIDs of all sites."""

    sites: dict[SiteDraft, list[EidPrefix]] = msgspec.field(default_factory=dict)
    known: set[EidPrefix] = msgspec.field(default_factory=set)
    rtrs: list[LinkDraft] = msgspec.field(default_factory=list)
    is_rtr: bool = False
    map_servers: list[LinkDraft] = msgspec.field(default_factory=list)
    interfaces: list[str] = msgspec.field(default_factory=list)
    log_level: str | None = None


def read_hub(root: Block, report: Report, keys: KeyFiles, resolve: Resolve) -> HubDraft:
    """Read the file of a Map-Server or an RTR; remarks go into the report."""
    top, draft = BlockReader(root, report), HubDraft()
    draft.is_rtr = (top.text("operating-mode") or "").upper() == "RTR"
    for block in top.blocks("lisp-site"):
        _site(BlockReader(block, report, "sites"), draft, keys)
    _rtrs(top, draft, keys, resolve)
    if draft.is_rtr:
        _rtr(top, draft, keys, resolve)
    encapsulation = top.text("encapsulation") or "LISP"
    if encapsulation.upper() != "LISP":
        report.note(top.line_of("encapsulation"), "encapsulation: lisphub speaks LISP's own alone (RFC 9300)")
    debug = top.text("debug") or ""
    if debug.lower() in ("on", "yes", "true") or (debug.isdecimal() and int(debug) >= 2):
        draft.log_level = "debug"
    top.leave(OF_HUBS)
    return draft


def _site(reader: BlockReader, draft: HubDraft, keys: KeyFiles) -> None:
    eid = reader.prefix("eid-prefix", instance_id=reader.instance_id("iid"))
    key_type, key = reader.number("key-type", low=0, high=2), reader.text("key")
    accepts, proxied = reader.boolean("accept-more-specifics") or False, reader.boolean("proxy-reply") or False
    reader.leave(OF_HUBS)
    if eid is None:
        return
    if eid in draft.known:
        reader.report.mistake(reader.line, f"lisp-site: {eid} is listed twice; the first one counts", "sites")
        return
    draft.known.add(eid)
    path = keys.file_for("site", (str(eid),), key, key_type, reader.line_of("key"), "sites")
    draft.sites.setdefault(SiteDraft(path, algorithm_of(key_type), accepts, proxied), []).append(eid)


def _rtrs(top: BlockReader, draft: HubDraft, keys: KeyFiles, resolve: Resolve) -> None:
    """The RTRs of the advertised set, in its order."""
    nodes = {}
    for block in top.blocks("ms-rtr-node"):
        reader = BlockReader(block, top.report, "rtrs")
        name, address = reader.text("name"), reader.address("address", resolve=resolve)
        key, line = reader.text("key"), reader.line_of("key")
        reader.leave(OF_HUBS)
        if address is not None:
            nodes[name or str(address)] = (address, key, line)
    sets: dict[str | None, tuple[str, ...]] = {}
    for block in top.blocks("ms-rtrs-set"):
        reader = BlockReader(block, top.report, "rtrs")
        members = reader.setting("rtrs")
        sets[reader.text("name")] = members.values if members is not None else ()
        reader.leave(OF_HUBS)
    chosen = top.setting("ms-advertised-rtrs-set")
    if chosen is None:
        if nodes:
            top.report.note(top.line, "ms-rtr-node: no set of RTRs is advertised, so none is handed out", "rtrs")
        return
    if chosen.text not in sets:
        top.report.mistake(chosen.line, "ms-advertised-rtrs-set: there is no ms-rtrs-set of this name", "rtrs")
    for name in dict.fromkeys(sets.get(chosen.text, ())):
        if name not in nodes:
            top.report.mistake(chosen.line, "rtrs: there is no ms-rtr-node of this name", "rtrs")
            continue
        address, key, line = nodes[name]
        draft.rtrs.append(LinkDraft(address, keys.file_for("rtr", (str(address),), key, 1, line, "rtrs")))


def _rtr(top: BlockReader, draft: HubDraft, keys: KeyFiles, resolve: Resolve) -> None:
    for block in top.blocks("rtr-ifaces"):
        outer = BlockReader(block, top.report, "proxy")
        for inner in outer.blocks("rtr-iface"):
            reader = BlockReader(inner, top.report, "proxy")
            if (name := reader.interface("iface")) is not None and name not in draft.interfaces:
                draft.interfaces.append(name)
            reader.leave(dict.fromkeys(("ip-version", "priority", "weight"), "the kernel's routes decide how it sends"))
        outer.leave(OF_HUBS)
    for block in top.blocks("rtr-ms-node"):
        reader = BlockReader(block, top.report, "rtr")
        address, key = reader.address("address", resolve=resolve), reader.text("key")
        version = (reader.text("draft-version") or "OLD").upper()
        reader.leave(OF_HUBS)
        if version != "NEW":
            what = "lisphub was tried with Map-Servers of draft -04 or newer (NEW); this one may not understand it"
            top.report.note(reader.line_of("draft-version"), f"draft-version: {what}", "rtr")
        if address is not None:
            path = keys.file_for("map-server", (str(address),), key, 1, reader.line_of("key"), "rtr")
            draft.map_servers.append(LinkDraft(address, path))
    if top.setting("map-resolver") is not None:
        what = (
            "say which EIDs it is asked for: map-servers: [{address: ADDRESS, eids: [PREFIX]}], proxy: {eids: [PREFIX]}"
        )
        top.report.note(top.line_of("map-resolver"), f"map-resolver: {what}", "map-servers")
