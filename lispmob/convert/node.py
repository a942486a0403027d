"""Converts settings of LISPmob and Open Overlay Router, since 2010, for a mobile node or an xTR to a NodeDraft. Pure.

Defaults are those of Open Overlay Router: key-type 1, no proxy-reply, priority 1, weight 100, ttl 10 minutes.
"""

from __future__ import annotations

import dataclasses
import re
from ipaddress import ip_network
from typing import Final

from lispmob.config.yaml_tree import show
from lispmob.convert.draft import UNUSED, NodeDraft, Rank, Remote, Server
from lispmob.convert.keys import KeyFiles, algorithm_of
from lispmob.convert.reading import BlockReader, unique
from lispmob.convert.report import InterfaceOf, Report, Resolve
from lispmob.convert.tree import Block
from lispmob.wire.address import EidPrefix, IpAddress

MAX_TTL_MIN: Final = 1440  # the limit in lispd.conf
MOST_TRIES: Final = 10

NO_COUNTERPART: Final = {
    "map-request-retries": "lispd decides by itself how often it asks again",
    "log-file": "lispd logs to standard error, which is the journal where systemd runs it",
    "ipv6-scope": "lispd takes every address that the kernel calls global, unique local ones (fc00::/7) among them",
    "ddt-client": "lispd asks Map-Resolvers, and does not walk the delegation tree (DDT) itself",
    "ddt-root-node": "lispd asks Map-Resolvers, and does not walk the delegation tree (DDT) itself",
    "ddt-root-addresses": "lispd asks Map-Resolvers, and does not walk the delegation tree (DDT) itself",
    "verify": "lispd always checks that it is registered: a Map-Notify has to come back",
    "eid-interface": "lispd gives the EIDs to a device of its own, lmn0",
    "override-dns": "which DNS server is asked is for the system to say",
    "override-dns-primary": "which DNS server is asked is for the system to say",
    "override-dns-secondary": "which DNS server is asked is for the system to say",
    "explicit-locator-path": "paths by several hops (ELP) are understood in mappings of others, and not announced",
    "simplemux": "packets are not multiplexed",
    "control-port": "LISP's ports are always the same",
    "replication-list": "multicast has no LISP here",
    "multicast-info": "multicast has no LISP here",
    "instance-id": "an Instance-ID belongs to an EID here: eids: [{prefix: ..., instance-id: ...}]",
}


class NodeReading:
    """A conversion; `read` returns the draft."""

    def __init__(
        self, root: Block, report: Report, keys: KeyFiles, resolve: Resolve, interface_of: InterfaceOf
    ) -> None:
        self._top = BlockReader(root, report)
        self._report = report
        self._keys = keys
        self._resolve = resolve
        self._interface_of = interface_of
        self._draft = NodeDraft()

    def read(self) -> NodeDraft:
        """Read everything; remarks go into the report."""
        self._mode()
        self._mappings()
        self._servers()
        self._proxies()
        self._statics()
        self._probing()
        self._nat()
        self._overlay()
        self._logging()
        self._top.leave(NO_COUNTERPART)
        return self._draft

    def _mode(self) -> None:
        mode = (self._top.text("operating-mode") or "").lower()
        is_router = self._top.boolean("router-mode")
        if mode.startswith("xtr") or is_router:
            line = self._top.line_of("operating-mode", "router-mode")
            what = "hosts behind it reach the overlay when it forwards (sysctl net.ipv4.ip_forward=1)"
            self._report.note(line, f"it was a router (xTR): {what}", "routing")
        encapsulation = self._top.text("encapsulation") or "LISP"
        if encapsulation.upper() != "LISP":
            what = "lispd speaks LISP's own encapsulation (RFC 9300), and so must those whom it talks with"
            self._report.note(self._top.line_of("encapsulation"), f"encapsulation: {show(encapsulation)}: {what}")

    # --- EIDs and interfaces ---

    def _mappings(self) -> None:
        ttls: set[int] = set()
        for block in self._top.blocks("database-mapping"):
            reader = BlockReader(block, self._report, "eids")
            eid = reader.prefix("eid-prefix", instance_id=reader.instance_id("iid", "instance-id"))
            if (ttl := reader.number("ttl", low=0, high=1 << 31)) is not None:
                ttls.add(ttl)
            if eid is not None:
                self._draft.eids.setdefault(eid, {})
                self._locators(eid, reader)
            reader.leave(NO_COUNTERPART)
        if ttls:
            self._ttl(ttls)
        self._old_eids()
        self._old_interfaces()

    def _ttl(self, ttls: set[int]) -> None:
        chosen = min(max(min(ttls), 1), MAX_TTL_MIN)
        self._draft.ttl_min = chosen
        if len(ttls) > 1:
            listed = ", ".join(f"{ttl}" for ttl in sorted(ttls))
            self._report.note(
                self._top.line, f"ttl: there were {listed} minutes; one holds for all EIDs here", "register"
            )

    def _locators(self, eid: EidPrefix, reader: BlockReader) -> None:
        by_interface: dict[str, dict[int, tuple[Rank, int]]] = {}
        for block in reader.blocks("rloc-iface"):
            inner = BlockReader(block, self._report, "uplinks")
            if (name := inner.interface("interface")) is not None:
                family = inner.number("ip-version", low=4, high=6) or 4
                by_interface.setdefault(name, {})[family] = (_rank(inner), block.line)
            inner.leave(NO_COUNTERPART)
        for block in reader.blocks("rloc-address"):
            self._fixed_address(block, by_interface)
        if (name := reader.interface("interface", "rloc")) is not None:
            by_interface.setdefault(name, {}).update(_ranks_by_family(reader))
        elif not by_interface:
            _ranks_by_family(reader)  # files of 2010 have a rank without an interface
        for name, ranks in by_interface.items():
            self._draft.add_rank(eid, name, self._one_rank(name, ranks))

    def _fixed_address(self, block: Block, by_interface: dict[str, dict[int, tuple[Rank, int]]]) -> None:
        """Convert a locator given as an address to the interface that has it: lispd's settings name interfaces."""
        reader = BlockReader(block, self._report, "uplinks")
        address, rank = reader.address("address", resolve=self._resolve), _rank(reader)
        reader.leave(NO_COUNTERPART)
        if address is None:
            return
        name = self._interface_of(address)
        if name is None:
            self._draft.uses_only_named = False
            what = "no interface of this host has it, so every interface is used; name yours"
            self._report.note(block.line, f"rloc-address: {address}: lispd goes by interfaces, and {what}", "uplinks")
            return
        self._report.note(
            block.line, f"rloc-address: {address}: it is {name}'s; lispd follows its addresses", "uplinks"
        )
        by_interface.setdefault(name, {})[address.version] = (rank, block.line)

    def _one_rank(self, name: str, ranks: dict[int, tuple[Rank, int]]) -> Rank:
        """The rank of an interface, with the ranks of its families if these differ."""
        used = {family: rank for family, (rank, _) in ranks.items() if rank.priority >= 0}
        line = next(iter(ranks.values()))[1]
        if not used:
            self._report.note(line, f"{name}: neither family was used there; it is announced, and unused", "uplinks")
            return Rank(UNUSED, 0)
        best = min(used.values(), key=lambda rank: rank.priority)
        if len(used) < 2:
            text = f"{name}: only its IPv{next(iter(used))} was used; the other family is announced, and unused"
            self._report.note(line, text, "uplinks")
        if len(used) == 2 and len(set(used.values())) == 1:
            return best
        of_family = ((family, used.get(family, Rank(UNUSED, 0))) for family in (4, 6))
        families = tuple((family, rank.priority, rank.weight) for family, rank in of_family)
        return dataclasses.replace(best, families=families)

    def _old_eids(self) -> None:
        """eid-address-ipv4, eid-address-ipv6: the host's addresses, which most files repeat in the mappings."""
        for name in ("eid-address-ipv4", "eid-address-ipv6"):
            if self._top.setting(name) is None:
                continue
            found = self._top.prefix(name)
            if found is not None and not any(eid.covers(found) for eid in self._draft.eids):
                self._draft.eids[found] = {}

    def _old_interfaces(self) -> None:
        for block in self._top.blocks("interface"):
            reader = BlockReader(block, self._report, "uplinks")
            name = reader.interface("name")
            priority = reader.number("device-priority", low=0, high=255)
            reader.boolean("detect-nat")  # lispd detects NATs itself, on every uplink
            reader.leave(NO_COUNTERPART)
            if name is not None:
                self._draft.interfaces[name] = Rank(1 if priority is None else priority)

    # --- the mapping system ---

    def _servers(self) -> None:
        for block in self._top.blocks("map-server"):
            reader = BlockReader(block, self._report, "map-servers")
            self._server(reader)
            reader.leave(NO_COUNTERPART)
        self._draft.resolvers = unique(self._top.addresses("map-resolver", resolve=self._resolve))

    def _server(self, reader: BlockReader) -> None:
        named, address = reader.text("address"), reader.address("address", resolve=self._resolve)
        key_type, key = reader.number("key-type", low=0, high=2), reader.text("key")
        is_proxied = reader.boolean("proxy-reply") or False
        if address is None:
            if named is None:
                self._report.refuse(reader.line, "map-server: it has no address, and is left out", "map-servers")
            return
        if any(server.address == address for server in self._draft.servers):
            self._report.mistake(
                reader.line, f"map-server: {address} is listed twice; the first one counts", "map-servers"
            )
            return
        ends = (str(address),) if named in (None, str(address)) else (named or "", str(address))
        line = reader.line_of("key")
        path = self._keys.file_for("map-server", ends, key, key_type, line, "map-servers")
        algorithm = algorithm_of(key_type)
        self._draft.servers.append(Server(address, path, algorithm, is_proxied, reader.line))

    def _proxies(self) -> None:
        etrs = self._draft.proxy_etrs
        for address, _ in self._top.addresses("petr-address", "proxy-etr", resolve=self._resolve):
            etrs.append(Remote(address, Rank()))
        for block in self._top.blocks("proxy-etr", "proxy-etr-ipv4", "proxy-etr-ipv6"):
            reader = BlockReader(block, self._report, "proxy-etrs")
            found, rank = reader.address("address", resolve=self._resolve), _rank(reader)
            reader.leave(NO_COUNTERPART)
            if found is not None and all(etr.address != found for etr in etrs):
                etrs.append(_remote(found, rank))
            elif found is not None:
                text = f"{block.name}: {found} serves EIDs of both families here, and is listed once"
                self._report.note(block.line, text, "proxy-etrs")
        if self._top.boolean("use-ms-as-petr"):
            etrs += [Remote(server.address, Rank()) for server in self._draft.servers]
        self._draft.proxy_itrs = unique(self._top.addresses("proxy-itrs", resolve=self._resolve))

    def _statics(self) -> None:
        for block in self._top.blocks("static-map-cache"):
            reader = BlockReader(block, self._report, "map-cache")
            eid = reader.prefix("eid-prefix", instance_id=reader.instance_id("iid", "instance-id"))
            remotes = []
            if (address := reader.address("rloc", "address", resolve=self._resolve)) is not None:
                remotes.append(_remote(address, _rank(reader)))
            for inner in (BlockReader(entry, self._report, "map-cache") for entry in reader.blocks("rloc-address")):
                found, rank = inner.address("address", resolve=self._resolve), _rank(inner)
                inner.leave(NO_COUNTERPART)
                if found is not None:
                    remotes.append(_remote(found, rank))
            reader.leave(NO_COUNTERPART)
            if eid is not None:
                self._draft.statics.setdefault(eid, []).extend(remotes)

    # --- the rest ---

    def _probing(self) -> None:
        interval = self._top.number("rloc-probe-interval", "rloc-probing-interval", low=0, high=86400)
        for block in self._top.blocks("rloc-probing"):
            reader = BlockReader(block, self._report, "probing")
            interval = reader.number("rloc-probe-interval", low=0, high=86400)
            retries = reader.number("rloc-probe-retries", low=0, high=1000)
            pause = reader.number("rloc-probe-retries-interval", low=0, high=86400)
            reader.leave(NO_COUNTERPART)
            if retries is not None and interval:
                self._draft.probing["tries"] = str(min(retries + 1, MOST_TRIES))
            if pause and interval:
                self._draft.probing["timeout"] = f"{min(pause, 30)}s"
        if interval == 0:
            self._draft.probing = {"enabled": "no"}
        elif interval is not None:
            self._draft.probing["interval"] = f"{min(interval, 3600)}s"

    def _nat(self) -> None:
        found = [self._top.boolean("nat-traversal-support"), self._top.boolean("use-nat-tunneling")]
        for block in self._top.blocks("nat-traversal"):
            reader = BlockReader(block, self._report, "natt")
            found += [reader.boolean("nat-aware"), reader.boolean("nat-traversal-support")]
            self._ids(reader)
            reader.leave(NO_COUNTERPART)
        said = [locator for locator in found if locator is not None]
        if said:
            # Its NAT traversal is the dialect that we call e19. off: we never send an Info-Request, on which a
            # Map-Server of Open Overlay Router without RTRs crashes.
            self._draft.natt_mode = "e19" if any(said) else "off"

    def _ids(self, reader: BlockReader) -> None:
        """LISPmob's site_ID and xTR_ID, in hexadecimal digits."""
        for name, digits in (("site-id", 16), ("xtr-id", 32)):
            setting = reader.setting(name)
            if setting is None:
                continue
            if re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", setting.text):
                self._draft.register[name] = setting.text
            else:
                self._report.mistake(
                    setting.line, f"{name}: not {digits} hexadecimal digits; it is left out", "register"
                )

    def _overlay(self) -> None:
        """Open Overlay Router's allowed-dst-eids: the only destinations whose packets went into the overlay."""
        for setting in self._top.settings("allowed-dst-eids"):
            for value in setting.values:
                try:
                    self._draft.overlay_prefixes.append(ip_network(value, strict=False))
                except ValueError:
                    text = f"{setting.name}: {show(value)} is not a prefix; it is left out"
                    self._report.mistake(setting.line, text, "routing")

    def _logging(self) -> None:
        text = self._top.text("debug")
        if text is None:
            return
        if text.lower() in ("on", "yes", "true") or (text.isdecimal() and int(text) >= 2):
            self._draft.log_level = "debug"


def _rank(reader: BlockReader) -> Rank:
    priority = reader.number("priority", low=-1, high=255)
    weight = reader.number("weight", low=0, high=255)
    return Rank(1 if priority is None else priority, 100 if weight is None else weight)


def _remote(address: IpAddress, rank: Rank) -> Remote:
    """A locator of another site; LISPmob's priority -1 means "not used"."""
    return Remote(address, rank if rank.priority >= 0 else Rank(UNUSED, 0))


def _ranks_by_family(reader: BlockReader) -> dict[int, tuple[Rank, int]]:
    """The ranks of each family of an interface: one for both, or LISPmob 0.3's priority_v4 and so on."""
    both = _rank(reader)
    ranks = {}
    for family in (4, 6):
        priority = reader.number(f"priority-v{family}", low=-1, high=255)
        weight = reader.number(f"weight-v{family}", low=0, high=255)
        rank = Rank(both.priority if priority is None else priority, both.weight if weight is None else weight)
        ranks[family] = (rank, reader.line)
    return ranks
