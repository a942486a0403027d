"""Runs lookups in advance, so that the first real one does not run cold code.

The first run of Python code takes about six times as long as later ones, and libcrypto takes a millisecond to find an
algorithm. Together that delayed a first packet by 2 ms. So once the first Map-Register has been sent, an internal node
looks a few EIDs up, and answers itself. Its addresses are documentation addresses (RFC 5737); no packet leaves the
process, and no state is kept. What it would install goes through the forwarding table of the real datapath, and is gone
at once; no site uses its Instance-ID (ours).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from itertools import count
from typing import Any, Final

from lispmob.control.itr_security import LispSecTools
from lispmob.control.node_config import NodeConfig
from lispmob.control.probing.path import ProbeConfig
from lispmob.datapath import marshal
from lispmob.datapath._lispdp import ffi, lib
from lispmob.datapath.engine import Engine
from lispmob.lispd.assembly import forwarding_entry
from lispmob.lispd.punts import hand_over
from lispmob.node.node import Node, NodeEffect
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import InstallMapping, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import EidPrefix
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.reader import Reader
from lispmob.wire.record import Locator, MappingRecord

LOOKUPS: Final = 8  # ours: after so many runs Python has specialised its code
_PAUSE_S: Final = 60.0  # on that node's clock: no limit on Map-Requests is met

_EID: Final = IPv4Address("192.0.2.1")
_STRANGERS: Final = IPv4Address("198.51.100.0")
_RLOC, _RESOLVER, _REMOTE = (IPv4Address(f"203.0.113.{host}") for host in (1, 2, 3))
_INSTANCE_ID: Final = 0xFFFFFE  # ours: no site has it
_SECRET: Final = ResolverSecret(bytes(32), 0)


def warm_up(tools: LispSecTools | None) -> list[InstallMapping]:
    """Look up LOOKUPS EIDs with an internal node, each with LISP-SEC and without if `tools` has it.

    Returns the forwarding entries that this would install.
    """
    lisp_sec = None if tools is None else LispSecTools(tools.wrap, tools.new_otk)  # without the memory
    node = Node(_config(), new_nonce=count(1).__next__, jitter=lambda: 0.5, lisp_sec=lisp_sec)
    node.on_locators([LocalLocator(_RLOC, 1, "")], 0.0)
    entries: list[InstallMapping] = []
    for number in range(1, LOOKUPS + 1):
        now = number * _PAUSE_S
        node.on_timer(now)
        miss = marshal.punt(_missed(_STRANGERS + number))
        for answer in _answers(hand_over(miss, node, now), lisp_sec):
            effects = node.on_datagram(Datagram(answer, _RESOLVER, CONTROL_PORT, _RLOC), now)
            entries += [effect for effect in effects if isinstance(effect, InstallMapping)]
        node.wake_at()
    return entries


def rehearse_entries(engine: Engine, entries: Iterable[InstallMapping]) -> None:
    """Install these forwarding entries, and remove each at once. They are of an Instance-ID that no site uses."""
    for entry in entries:
        engine.table.install(forwarding_entry(entry))
        engine.table.remove(entry.prefix)


def _missed(destination: IPv4Address) -> Any:
    """A report of the datapath: a packet to `destination` matched no forwarding entry."""
    report = ffi.new("struct lm_punt *", {"kind": lib.LM_PUNT_MISS, "instance_id": _INSTANCE_ID})
    marshal.put_address(report.source, _EID)
    marshal.put_address(report.destination, destination)
    return report


def _config() -> NodeConfig:
    return NodeConfig(
        eids=(EidPrefix.host(_EID, _INSTANCE_ID),),
        map_resolvers=(_RESOLVER,),
        resolver_secrets=((_RESOLVER, _SECRET),),
        lisp_sec="prefer",
        probing=ProbeConfig(),
    )


def _answers(effects: Iterable[NodeEffect], tools: LispSecTools | None) -> Iterator[bytes]:
    """A Map-Resolver's answers to these Map-Requests."""
    for effect in effects:
        if not isinstance(effect, SendControl):
            continue
        asking = EncapsulatedControl.decode(effect.payload)
        request = MapRequest.decode(asking.message)
        asked = request.records[0]
        record = MappingRecord(asked.eid, asked.mask_len, (Locator(_REMOTE, 1, 100),))
        reply = MapReply(request.nonce, (record,))
        if asking.authentication is None or tools is None:
            yield reply.encode()
            continue
        security = EcmSecurity.take(Reader(asking.authentication))
        otk = lisp_sec_auth.unwrapped_otk(tools.wrap, request.nonce, _SECRET.octets, security)
        assert otk is not None, "wrapped with the same secret a moment ago"
        kdf, hmac = lisp_sec_auth.HKDF_SHA_256, lisp_sec_auth.HMAC_SHA_256_128
        vouched = EidAuthentication(kdf, hmac, (AuthorizedEid(asked.eid, asked.mask_len),))
        signed = lisp_sec_auth.sign_eids(vouched, otk)
        yield lisp_sec_auth.sign_reply(reply, signed.encode(), hmac, lisp_sec_auth.ms_otk(otk, kdf))
