"""Converts a lisp.config of lispers.net for a mobile node to a NodeDraft. Pure.

Its Map-Servers use HMAC-SHA-256 unless authentication-type is sha1.
"""

from __future__ import annotations

from typing import Final

from lispmob.convert.draft import NodeDraft, Rank, Remote, Server
from lispmob.convert.keys import ALGORITHMS, KeyFiles
from lispmob.convert.reading import BlockReader
from lispmob.convert.report import InterfaceOf, Report, Resolve
from lispmob.convert.tree import Block
from lispmob.wire.address import EidPrefix

_KEY_TYPES: Final = {"sha1": 1, "sha2": 2}

NO_COUNTERPART: Final = {
    "debug": "lispd has one level for all that it logs: log: {level: debug}",
    "user-account": "lispd has no web page; who may change things is the group of the control socket",
    "interface": "lispd finds its interfaces itself; rules about them are in uplinks",
    "data-plane-security": "what programs send is not encrypted by lispd",
    "data-plane-logging": "no packet is logged; lispctl counters counts them",
    "flow-logging": "no packet is logged; lispctl counters counts them",
    "frame-logging": "no packet is logged; lispctl counters counts them",
    "encryption-key": "Map-Registers are authenticated, and not encrypted",
    "send-map-request": "whatever has no mapping is asked for",
    "want-map-notify": "a Map-Notify is always asked for",
    "ms-name": "Map-Servers have no names",
    "mr-name": "Map-Resolvers have no names",
    "json": "geographic and other JSON is understood in mappings of others, and not announced",
    "group-mapping": "multicast has no LISP here",
}


class LispersReading:
    """A conversion; `read` returns the draft."""

    def __init__(
        self, root: Block, report: Report, keys: KeyFiles, resolve: Resolve, interface_of: InterfaceOf
    ) -> None:
        self._top = BlockReader(root, report)
        self._report = report
        self._keys = keys
        self._resolve = resolve
        self._interface_of = interface_of
        self._draft = NodeDraft(uses_only_named=False)

    def read(self) -> NodeDraft:
        """Read everything; remarks go into the report."""
        for block in self._top.blocks("enable"):
            self._enable(block)
        for block in self._top.blocks("map-resolver"):
            reader = BlockReader(block, self._report, "map-resolvers")
            self._draft.resolvers += [one for one, _ in reader.addresses("address", "dns-name", resolve=self._resolve)]
            reader.leave(NO_COUNTERPART)
        for block in self._top.blocks("map-server"):
            self._server(BlockReader(block, self._report, "map-servers"))
        for block in self._top.blocks("database-mapping"):
            self._mapping(BlockReader(block, self._report, "eids"))
        for block in self._top.blocks("map-cache"):
            self._static(BlockReader(block, self._report, "map-cache"))
        for block in self._top.blocks("xtr-parameters"):
            self._parameters(BlockReader(block, self._report, "probing"))
        self._top.leave(NO_COUNTERPART)
        return self._draft

    def _enable(self, block: Block) -> None:
        reader = BlockReader(block, self._report)
        for part in ("itr", "etr", "rtr", "map-server", "map-resolver", "ddt-node"):
            is_on = reader.boolean(part)
            if is_on and part not in ("itr", "etr"):
                line = reader.line_of(part)
                self._report.note(
                    line, f"enable: {part}: only the mobile node is taken over; that is lisphub's, see hub.conf"
                )
        reader.leave({})

    def _server(self, reader: BlockReader) -> None:
        named = reader.text("dns-name")
        address = reader.address("address", resolve=self._resolve)
        if address is None:
            address = reader.address("dns-name", resolve=self._resolve)
        kind, key = reader.text("authentication-type"), reader.text("authentication-key")
        key_type = _KEY_TYPES.get((kind or "sha2").lower())
        is_proxied = reader.boolean("proxy-reply") or False
        reader.leave(NO_COUNTERPART)
        if key_type is None:
            line = reader.line_of("authentication-type")
            self._report.mistake(
                line, "map-server: authentication-type: sha1 or sha2 is known; sha2 is taken", "map-servers"
            )
        if address is None:
            if reader.setting("address", "dns-name") is None:
                self._report.refuse(reader.line, "map-server: it has no address, and is left out", "map-servers")
            return
        if any(server.address == address for server in self._draft.servers):
            self._report.mistake(
                reader.line, f"map-server: {address} is listed twice; the first one counts", "map-servers"
            )
            return
        ends = (str(address),) if named is None else (named, str(address))
        line = reader.line_of("authentication-key")
        path = self._keys.file_for("map-server", ends, key, key_type or 2, line, "map-servers")
        self._draft.servers.append(Server(address, path, ALGORITHMS[key_type or 2], is_proxied, reader.line))

    def _prefixes(self, reader: BlockReader) -> list[EidPrefix]:
        found = []
        for block in reader.blocks("prefix"):
            inner = BlockReader(block, self._report, reader.place)
            eid = inner.prefix("eid-prefix", instance_id=inner.instance_id("instance-id"))
            inner.leave(NO_COUNTERPART)
            found += [eid] if eid is not None else []
        return found

    def _mapping(self, reader: BlockReader) -> None:
        eids = self._prefixes(reader)
        for eid in eids:
            self._draft.eids.setdefault(eid, {})
        for block in reader.blocks("rloc"):
            inner = BlockReader(block, self._report, "uplinks")
            name, rank = inner.interface("interface"), _rank(inner)
            address = inner.address("address", resolve=self._resolve)
            inner.leave(NO_COUNTERPART)
            if name is None and address is not None:
                name = self._interface_of(address)
                if name is None:
                    text = (
                        f"rloc: address: no interface of this host has {address}; lispd goes by interfaces: name yours"
                    )
                    self._report.note(block.line, text, "uplinks")
            if name is not None:
                for eid in eids:
                    self._draft.add_rank(eid, name, rank)
        reader.leave(NO_COUNTERPART)

    def _static(self, reader: BlockReader) -> None:
        prefixes = self._prefixes(reader)
        remotes = []
        for block in reader.blocks("rloc"):
            inner = BlockReader(block, self._report, "map-cache")
            if (address := inner.address("address", resolve=self._resolve)) is not None:
                remotes.append(Remote(address, _rank(inner)))
            inner.leave(NO_COUNTERPART)
        reader.leave(NO_COUNTERPART)
        for prefix in prefixes:
            if remotes and prefix.mask_len == 0:  # for destinations without a mapping: a proxy-ETR
                self._draft.proxy_etrs += [remote for remote in remotes if remote not in self._draft.proxy_etrs]
            elif remotes:
                self._draft.statics.setdefault(prefix, []).extend(remotes)

    def _parameters(self, reader: BlockReader) -> None:
        probing, echoing = reader.boolean("rloc-probing"), reader.boolean("nonce-echoing")
        if probing is False:
            self._draft.probing["enabled"] = "no"
        if echoing:
            self._draft.probing["echo-nonce"] = "yes"
        traversal = reader.boolean("nat-traversal")
        if traversal is not None:
            self._draft.natt_mode = "lispers-net" if traversal else "off"
        if traversal:
            text = "nat-traversal: this dialect proves nothing, so your RTRs have to be named: natt: {rtrs: [ADDRESS]}"
            self._report.note(reader.line_of("nat-traversal"), text, "natt")
        reader.leave(NO_COUNTERPART)


def _rank(reader: BlockReader) -> Rank:
    priority = reader.number("priority", low=0, high=255)
    weight = reader.number("weight", low=0, high=255)
    return Rank(1 if priority is None else priority, 100 if weight is None else weight)
