"""Host names for ordinary programs: the DNS server in lispd, its announcement to resolvers, and the stored answers.

Nothing is loaded, and nothing listens, if lispd.conf names no domain. The kernel gives EIDs to our device; the server
listens on them beforehand. systemd-resolved gets the first one, because it sends there through our device alone. Other
resolvers use a loopback address: if lispd has crashed, the kernel refuses there at once, and a resolver continues with
the next server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lispmob.config.node import NodeFile
from lispmob.control.names import CACHE_LIMIT, KnownName
from lispmob.errors import LispError
from lispmob.lispd.flows.name_asking import NameAsking
from lispmob.names.resolved import LinkNames, Resolved
from lispmob.netlink.socket_owner import SocketOwners
from lispmob.node.node import Node
from lispmob.problems.problem import Problem, Severity, printable
from lispmob.protocol.effect import NameResolved
from lispmob.wire.address import IpAddress
from lispmob.wire.name_eid import may_be_name

if TYPE_CHECKING:
    from lispmob.names.server import NameServer

LOOPBACK: Final = IPv4Address("127.0.99.53")  # ours: 127.0.0.53 and .54 are systemd-resolved's
PLAIN_PORT: Final = 53
FILE: Final = "names.json"
FILE_OCTETS: Final = 1 << 20
KEEP_S: Final = 30.0  # ours: the delay from an answer to writing it, so that many are written at once

log = logging.getLogger("lispd")


class Naming:
    """Serves the domain of lispd.conf, if any."""

    def __init__(self, node: Node, asking: NameAsking) -> None:
        self._node, self._asking = node, asking
        self._file: NodeFile | None = None
        self._server: NameServer | None = None
        self._kept: dict[bytes, KnownName] = {}
        self._keep_timer: asyncio.TimerHandle | None = None
        self._owners = SocketOwners()
        self.resolved = Resolved()
        self.refusal: str | None = None
        self.is_plain = False

    @property
    def addresses(self) -> tuple[IpAddress, ...]:
        """The addresses that the server listens on."""
        return () if self._server is None else self._server.addresses

    @property
    def counters(self) -> Mapping[str, int]:
        """Counters of the server."""
        return {} if self._server is None else self._server.counters

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What prevents programs of this host from finding names."""
        domain = "" if self._file is None else self._file.names.domain
        if self.refusal is not None:
            what, remedy = f"lispd cannot answer DNS for {domain}", "correct that, then check with `lispctl names`"
            return (Problem("no-names", Severity.NOTICE, what, self.refusal, remedy, domain),)
        if self.resolved.refusal is not None and domain:
            what = f"systemd-resolved does not ask lispd for {domain}"
            remedy = (
                "install the polkit rule 50-lispmob-names.rules of the package, which allows it to the user lispmob"
            )
            return (Problem("no-resolver", Severity.NOTICE, what, printable(self.resolved.refusal), remedy, domain),)
        return ()

    async def resolve(self, name: bytes) -> NameResolved:
        """The mapping system's answer for a name; with or without a domain."""
        return await self._asking.resolve(name)

    async def start(self, file: NodeFile) -> None:
        """Start if there is a domain. A failure is reported, and the node runs without."""
        if file.names.domain and not self._kept:
            self._kept = load_names(file.state_dir / FILE, asyncio.get_running_loop().time())
            self._node.names.restore(self._kept)
        await self._serve(file)

    async def on_config(self, file: NodeFile) -> None:
        """The configuration was reloaded: the domain, the EIDs or the prefixes may have changed."""
        if self._file is None or _about(file) != _about(self._file):
            self._close_server()
            await self._serve(file)

    def on_resolved(self) -> None:
        """A name was resolved: store it, a little later."""
        if self._file is not None and self._file.names.domain and self._keep_timer is None:
            self._keep_timer = asyncio.get_running_loop().call_later(KEEP_S, self._keep)

    async def stop(self) -> None:
        """Undo the announcements, and stop."""
        await self.resolved.revert()
        if self._keep_timer is not None:
            self._keep_timer.cancel()
            self._keep()
        self._close_server()

    async def _serve(self, file: NodeFile) -> None:
        self._file, self.refusal = file, None
        eids = tuple(eid.address for eid in file.eids if eid.mask_len == eid.width and not eid.instance_id)
        if not file.names.domain:
            self.resolved.use(None)
            return
        if not eids:
            self._refuse("no EID of this node is a whole address, and the server listens at such a one")
            return
        try:
            from lispmob.names.server import NameServer
            from lispmob.names.zone import Zone, served_prefixes
        except ImportError as error:
            self._refuse(f"{error}: install dnspython (the extra 'names', or the package python3-dnspython)")
            return
        prefixes = served_prefixes(file.routing.overlay_prefixes, file.eids)
        own = frozenset(eids)
        zone = Zone(file.names.domain, prefixes)
        server = NameServer(
            zone,
            self._asking.resolve,
            lambda asker: asker in own or asker.is_loopback,
            is_known=lambda name: self._node.names.is_known(name, asyncio.get_running_loop().time()),
            owner=self._owners.uid,
        )
        try:
            await server.start((*eids, LOOPBACK), file.names.port)
        except LispError as error:
            self._refuse(str(error))
            return
        self._server = server
        await self._serve_plain(server, file)
        log.info("names: DNS for domain=%s at %s and %s port %d", file.names.domain, eids[0], LOOPBACK, file.names.port)
        reverse = tuple(b".".join(labels).decode("ascii") for labels in zone.reverse)
        index = socket.if_nametoindex(file.tun.name)
        self.resolved.use(LinkNames(index, eids[0], file.names.port, file.names.domain, reverse))

    async def _serve_plain(self, server: NameServer, file: NodeFile) -> None:
        """Also answer at port 53 of the loopback address: /etc/resolv.conf can name no other port."""
        self.is_plain = file.names.port == PLAIN_PORT
        if not self.is_plain:
            try:
                await server.listen_also(LOOPBACK, PLAIN_PORT)
                self.is_plain = True
            except LispError as error:  # not permitted, or a resolver listens at every address
                log.debug("names: %s", error)

    def _refuse(self, why: str) -> None:
        self.refusal = why
        self.resolved.use(None)
        log.error("no names for other programs: %s", why)

    def _close_server(self) -> None:
        self._owners.close()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _keep(self) -> None:
        self._keep_timer = None
        assert self._file is not None
        save_names(self._file.state_dir / FILE, self._node.names.known)


def _about(file: NodeFile) -> object:
    return file.names, file.eids, file.routing.overlay_prefixes, file.tun.name


def load_names(path: Path, now: float) -> dict[bytes, KnownName]:
    """The names from before the restart, all to be looked up again; empty if the file is damaged."""
    try:
        octets = path.read_bytes()
        if len(octets) > FILE_OCTETS:
            raise ValueError(f"more than {FILE_OCTETS} octets")
        kept = json.loads(octets)
        found = {
            name.encode("ascii"): KnownName(
                tuple(map(ip_address, one["eids"])),
                "known before the restart",
                now,
                tuple(known.encode("ascii") for known in one["names"]),
            )
            for name, one in list(kept.items())[:CACHE_LIMIT]
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning("cannot read %s (%s): names are asked for again", path, error)
        return {}
    return {name: one for name, one in found.items() if may_be_name(name) and one.is_found}


def save_names(path: Path, known: Mapping[bytes, KnownName]) -> None:
    """Store the answers for the next start. A failure costs that start some lookups."""
    kept = {
        name.decode("ascii"): {"eids": list(map(str, one.eids)), "names": [name.decode("ascii") for name in one.names]}
        for name, one in known.items()
        if one.is_found
    }
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(json.dumps(kept), "ascii")
        os.replace(fresh, path)
    except OSError as error:
        log.warning("cannot keep names in %s (%s)", path, error.strerror)
