"""What is read besides messages: configurations, recordings, a shared registry's values, and keys of two dialects.

Each target reads any octets, and raises nothing but MalformedMessage.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from struct import pack
from typing import Any, Final, cast
from zlib import crc32

from lispmob.control.sealing.dialect_keys import DIALECTS
from lispmob.control.sealing.dialects import Dialects
from lispmob.convert.checking import check_file
from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import MalformedMessage
from lispmob.hub.ddt.signatures import is_signed, keys_in
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.names import Names
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.hub.store import stored_rows, stored_subscriptions
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.shared_names import MARK, SharedNames
from lispmob.iface_monitor.router_options import pref64_in
from lispmob.netlink.message import HEADER, RTM_NEWNDUSEROPT, Raw
from lispmob.protocol.effect import InstallMapping, UsableLocator
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.recording.values import NotAValue, from_json
from lispmob.wire.address import DistinguishedName, EidPrefix
from lispmob.wire.map_referral import MapReferral
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.name_eid import may_be_asked, name_mask_len
from lispmob.wire.record import Locator, MappingRecord

HERE, THERE = ip_address("198.51.100.1"), ip_address("203.0.113.5")
OWN: Final = LocatorSet.of(1, [LocalLocator(HERE, 1)])
EID, PEER = EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("10.2.0.7/32")
MAPPING: Final = InstallMapping(PEER, "ENCAPSULATE", (UsableLocator(THERE, 1, 100),))
RECORD: Final = MappingRecord.of(EID, (Locator(HERE),), ttl_min=10)
SITES: Final = SiteTable([Site("home", (EidPrefix(ip_network("10.2.0.0/16")),), (), names=("nas", "*.nas"))])
LATEST: Final = 1e9
_ADVERTISEMENT: Final = 134


@contextlib.contextmanager
def _refusing(*errors: type[Exception]) -> Iterator[None]:
    """Have a refusal that these readers promise count as one of a decoder."""
    try:
        yield
    except errors as error:
        raise MalformedMessage("refused", str(error)) from None


def _configuration(octets: bytes) -> None:
    """A file of ours, or one of three other programs: mistakes are found, and raise nothing."""
    found = check_file(Path("lispd.conf"), octets)
    assert all(finding.text.isprintable() for finding in found.findings), found
    if found.has_mistakes:
        raise MalformedMessage("refused", found.findings[0].text)


def _recording(octets: bytes) -> None:
    with _refusing(ValueError, RecursionError, NotAValue):
        from_json(json.loads(octets))


def _registry_value(octets: bytes) -> None:
    """The parts of a registration that another hub has written; each can be used."""
    with _refusing(ValueError):
        for part in keys.parts_of(octets, 1.0):
            packed_part.unpack(part)
            packed_part.addresses(part)


def _registry_change(octets: bytes) -> None:
    """A message on a channel of the servers."""
    with _refusing(ValueError):
        keys.read_change(octets)


def _registry_answer(octets: bytes) -> None:
    """What a script of the servers returns."""
    with _refusing(ValueError):
        keys.read_answer(octets)


def _registry_name(octets: bytes) -> None:
    """A Map-Register of a name that another hub passes on."""
    with _refusing(ValueError):
        SharedNames(cast(Any, None), 1, lambda *_: None).on_message(MARK + octets)


def _state_row(octets: bytes) -> None:
    """A row of the state file whose CRC is right."""
    with _refusing(ValueError):
        stored_rows.split(octets + crc32(octets).to_bytes(4), 1.0, LATEST)


def _subscription(octets: bytes) -> None:
    with _refusing(ValueError):
        stored_subscriptions.unpack(stored_rows.key_of(EID), bytes(16), octets, 1.0, LATEST)


def _dialects(ciphers: NoiseCiphers | None) -> Callable[[bytes], None]:
    """Keys of RFC 8061 and lispers.net, in a question and in the answer to ours."""

    def read(octets: bytes) -> None:
        message = decode_control(octets)
        if ciphers is None or not isinstance(message, MapRequest | MapReply):
            return
        nonce = message.nonce
        machine = Dialects(DIALECTS, ciphers=ciphers, draw=lambda size: bytes([7]) * size, new_nonce=lambda: nonce)
        if isinstance(message, MapRequest):
            machine.on_asked(message, HERE, (RECORD,), 0.0)
            return
        machine.on_used(MAPPING, EID, OWN, 0.0)
        machine.on_map_reply(message, OWN, 0.1)

    return read


def _signatures(octets: bytes) -> None:
    """The keys of a referral, and what its signatures are over."""
    for record in MapReferral.decode(octets).records:
        is_signed(record, keys_in(record.locators), lambda *_: False, LATEST)


def _site_name(octets: bytes) -> None:
    """A question about a name, as any host may send it."""
    name = octets[:255]
    if may_be_asked(name, name_mask_len(name)):
        MapReply(1, (Names(SITES).answer(DistinguishedName(name)),)).encode()


def _router_advertisement(octets: bytes) -> None:
    """Options that any host on a link may send, as the kernel passes them on."""
    body = pack("=BxHiBB6x", 10, len(octets) & 0xFFFF, 2, _ADVERTISEMENT, 0) + octets
    pref64_in(Raw(RTM_NEWNDUSEROPT, 0, bytes(HEADER.size) + body))


def more_targets(ciphers: NoiseCiphers | None) -> dict[str, Callable[[bytes], None]]:
    """By name. `ciphers`: None in a build without libcrypto."""
    return {
        "configuration": _configuration,
        "recording": _recording,
        "registry-value": _registry_value,
        "registry-change": _registry_change,
        "registry-answer": _registry_answer,
        "registry-name": _registry_name,
        "state-row": _state_row,
        "subscription": _subscription,
        "dialects": _dialects(ciphers),
        "signatures": _signatures,
        "site-name": _site_name,
        "router-advertisement": _router_advertisement,
    }
