"""The C engine that all parts of its interface share, and its structs as Python values."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from lispmob.datapath import _lispdp
from lispmob.datapath.dialects import DialectKey, DialectName, DialectUse
from lispmob.datapath.model import (
    AeadName,
    Announced,
    ClearHeard,
    ControlPacket,
    DataPortName,
    Disposition,
    Echoed,
    EngineConfig,
    ForwardingLocator,
    HeardAgain,
    LargeSent,
    Miss,
    MtuLearned,
    MtuSourceName,
    Near,
    PeerAhead,
    PeerBehind,
    Punt,
    Refuted,
    SealConfirmed,
    SealedFrom,
    SealedSession,
    SealWanted,
    SessionSlot,
    SessionUse,
    Silent,
    SourceCheck,
    SourceDoubted,
    Stalled,
    StatusBits,
    Traffic,
    TrafficResumed,
    Traversal,
    UnregisteredSource,
)
from lispmob.wire.address import EidPrefix, IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

# The compiler gives the numbers of C.
PRIORITY_NEVER: Final[int] = lib.LM_PRIORITY_NEVER
DISPOSITIONS: Final = {disposition: int(getattr(lib, disposition.value)) for disposition in Disposition}
AEADS: Final[dict[AeadName, int]] = {
    "aes-128-gcm": lib.LM_AEAD_AES_128_GCM,
    "chacha20-poly1305": lib.LM_AEAD_CHACHA20_POLY1305,
}
SOURCE_CHECKS: Final[dict[SourceCheck, int]] = {
    "off": lib.LM_CHECK_OFF,
    "loose": lib.LM_CHECK_LOOSE,
    "strict": lib.LM_CHECK_STRICT,
}
DATA_PORTS: Final[dict[DataPortName, int]] = {
    "pool": lib.LM_PORT_POOL,
    "fixed": lib.LM_PORT_FIXED,
    "ephemeral": lib.LM_PORT_EPHEMERAL,
}
DIALECTS: Final[dict[DialectName, int]] = {
    "rfc8061": lib.LM_DIALECT_RFC8061,
    "lispers-net-2": lib.LM_DIALECT_LISPERS_2,
    "lispers-net-5": lib.LM_DIALECT_LISPERS_5,
}
_DIALECT_NAMES: Final = {number: name for name, number in DIALECTS.items()}
_SLOTS: Final[dict[int, SessionSlot]] = {
    lib.LM_SLOT_PREVIOUS: "previous",
    lib.LM_SLOT_CURRENT: "current",
    lib.LM_SLOT_NEXT: "next",
    lib.LM_SLOT_OLDER: "older",
    lib.LM_SLOT_EARLIER: "earlier",
}
_MTU_SOURCES: Final[dict[int, MtuSourceName]] = {
    lib.LM_MTU_ICMP: "icmp",
    lib.LM_MTU_UNPROVEN: "unproven",
    lib.LM_MTU_INTERFACE: "interface",
}
_NEVER_NS: Final = (1 << 64) - 1
NO_NAT = Traversal()


class Handle:
    """A struct lm_engine, until it is freed."""

    def __init__(self, config: EngineConfig) -> None:
        self._c = lib.lm_engine_new(_config(config))
        if self._c == ffi.NULL:
            raise MemoryError("datapath")

    @property
    def c(self) -> Any:
        """The pointer. ValueError after the datapath was stopped."""
        if self._c is None:
            raise ValueError("the datapath has been stopped")
        return self._c

    def free(self) -> None:
        """Stop its threads and free it. Idempotent."""
        if self._c is not None:
            lib.lm_engine_free(self._c)
            self._c = None


def check(error: int) -> None:
    """Raise MemoryError unless the C side returned 0: an update can fail in no other way."""
    if error:
        raise MemoryError("datapath")


def _config(config: EngineConfig) -> Any:
    """A struct lm_config, with a new key."""
    c = ffi.new("struct lm_config *")
    c.key0, c.key1 = secrets.randbits(64), secrets.randbits(64)
    c.is_rtr = config.is_rtr
    c.is_proxy = config.role == "proxy"
    c.source_check = SOURCE_CHECKS[config.source_check]
    c.copy_dscp, c.udp_checksum = config.copy_dscp, config.udp_checksum
    c.pins_threads = config.pin_threads
    c.data_port, c.source_port_pool, c.mark = config.data_port, config.source_port_pool, config.mark
    c.proxy_instance_id = config.proxy_instance_id
    c.pending_per_entry, c.pending_total = config.pending_per_entry, config.pending_total
    c.pending_age_ns = int(config.pending_age_s * 1e9)
    return c


def put_address(into: Any, address: IpAddress) -> None:
    """Set a struct lm_addr."""
    into.family = address.version
    ffi.buffer(into.octets)[:] = address.packed.ljust(16, b"\0")


def one_address(address: IpAddress | None) -> Any:
    """A new struct lm_addr; None: no address."""
    made = ffi.new("struct lm_addr *")
    if address is not None:
        put_address(made, address)
    return made


def traffic(one: Any) -> Traffic:
    """A struct lm_traffic_with."""
    return Traffic(int(one.sent), int(one.sent_octets), int(one.received), int(one.received_octets))


def smallest_mtus(found: Any, count: int) -> dict[IpAddress, int]:
    """The smallest MTU of each locator in an array of struct lm_mtu, in octets."""
    smallest: dict[IpAddress, int] = {}
    for figure in (found[i] for i in range(count)):
        locator = address(figure.address)
        smallest[locator] = min(int(figure.mtu), smallest.get(locator, int(figure.mtu)))
    return smallest


def put_locator(into: Any, locator: ForwardingLocator) -> None:
    """Set a struct lm_locator_spec."""
    put_address(into.address, locator.address)
    into.port, into.priority, into.weight = locator.port, locator.priority, locator.weight
    into.is_relay, into.is_on_trial = locator.is_relay, locator.is_on_trial
    if locator.source is not None:
        put_address(into.source, locator.source)
        into.fd = locator.socket


def put_traversal(spec: Any, traversal: Traversal) -> None:
    """Set what a NAT in between requires of a struct lm_uplink_spec."""
    if not traversal.is_usable:
        spec.priority = PRIORITY_NEVER
    spec.data_port = DATA_PORTS[traversal.data_port]
    spec.admits_others, spec.passes_zero = traversal.admits_others, traversal.passes_zero
    spec.needs_sums = traversal.needs_sums
    spec.relay_count = min(len(traversal.relays), lib.LM_RELAYS_MAX)
    for relay, locator in zip(spec.relays, traversal.relays, strict=False):
        put_locator(relay, locator)


def address(c: Any) -> IpAddress:
    """The value of a struct lm_addr."""
    octets = bytes(ffi.buffer(c.octets))
    return IPv4Address(octets[:4]) if c.family == 4 else IPv6Address(octets)


def locators(locators: Sequence[ForwardingLocator]) -> Any:
    """An array of struct lm_locator_spec."""
    made = ffi.new("struct lm_locator_spec[]", max(1, len(locators)))
    for spec, locator in zip(made, locators, strict=False):
        put_locator(spec, locator)
    return made


def prefixes(prefixes: Iterable[EidPrefix]) -> tuple[Any, int]:
    """An array of struct lm_prefix, and its length."""
    wanted = list(prefixes)
    made = ffi.new("struct lm_prefix[]", max(1, len(wanted)))
    for c, prefix in zip(made, wanted, strict=False):
        c.instance_id, c.length = prefix.instance_id, prefix.mask_len
        put_address(c.address, prefix.address)
    return made, len(wanted)


def near(near: Near) -> tuple[Any, int]:
    """An array of struct lm_near_spec, and its length; an address of several kinds has the most restricted one."""
    kinds = dict.fromkeys((EidPrefix.host(proxy) for proxy in near.proxies), lib.LM_NEAR_PROXY)
    kinds.update(dict.fromkeys(near.links, lib.LM_NEAR_LINK))
    kinds.update(dict.fromkeys((EidPrefix.host(address) for address in near.own), lib.LM_NEAR_OWN))
    made = ffi.new("struct lm_near_spec[]", max(1, len(kinds)))
    for c, (prefix, kind) in zip(made, kinds.items(), strict=False):
        c.prefix.instance_id, c.prefix.length, c.kind = 0, prefix.mask_len, kind
        put_address(c.prefix.address, prefix.address)
    return made, len(kinds)


def session(wanted: SealedSession) -> tuple[Any, Any]:
    """A struct lm_session_spec, and the array that it points to."""
    sources, count = prefixes(wanted.sources)
    spec = ffi.new("struct lm_session_spec *")
    spec.peer, spec.local_index, spec.remote_index = wanted.peer, wanted.local_index, wanted.remote_index
    spec.instance_id, spec.aead, spec.is_confirmed = wanted.instance_id, AEADS[wanted.aead], wanted.is_confirmed
    ffi.buffer(spec.send_key)[:], ffi.buffer(spec.receive_key)[:] = wanted.send_key, wanted.receive_key
    spec.source_count, spec.sources = count, sources
    return spec, sources


def dialect_key(wanted: DialectKey) -> Any:
    """A struct lm_dialect_spec."""
    spec = ffi.new("struct lm_dialect_spec *")
    put_address(spec.address, wanted.address)
    spec.dialect, spec.key_id, spec.seals = DIALECTS[wanted.dialect], wanted.key_id, wanted.seals
    ffi.buffer(spec.key)[:], ffi.buffer(spec.integrity)[:] = wanted.key, wanted.integrity
    spec.start_high, spec.start_low = wanted.start >> 64, wanted.start & (1 << 64) - 1
    return spec


def dialect_use(c: Any) -> DialectUse:
    """What a struct lm_dialect_use says."""
    return DialectUse(_DIALECT_NAMES.get(c.dialect_out), _DIALECT_NAMES.get(c.dialect_in), c.sent, c.opened)


def session_use(c: Any) -> SessionUse:
    """The value of a struct lm_session_use."""
    return SessionUse(
        peer=c.peer,
        local_index=c.local_index,
        slot=_SLOTS[c.slot],
        sent_packets=c.sent,
        opened_packets=c.opened,
        age_s=c.age_ns / 1e9,
        last_opened_s=None if c.idle_ns == _NEVER_NS else c.idle_ns / 1e9,
    )


def prefix(c: Any) -> EidPrefix:
    """The value of a struct lm_prefix."""
    return EidPrefix.make(address(c.address), c.length, c.instance_id)


def punt(c: Any) -> Punt:
    """The value of a struct lm_punt."""
    return PUNTS[c.kind](c)


def _control(c: Any) -> Punt:
    return ControlPacket(
        payload=bytes(ffi.buffer(c.payload, c.length)),
        source=address(c.source),
        source_port=c.source_port,
        destination=address(c.destination),
        destination_port=c.destination_port,
        outer_source=address(c.outer_source),
        outer_source_port=c.outer_source_port,
        outer_destination=address(c.outer_destination),
        ifindex=c.ifindex,
        is_at_control_port=c.is_at_control_port,
    )


def _mtu(c: Any) -> Punt:
    source = _MTU_SOURCES[c.mtu_source]
    return MtuLearned(address(c.destination), c.mtu, address(c.source), c.destination_port, source)


def _resumed(c: Any) -> Punt:
    return TrafficResumed(c.is_outbound, c.at_ns / 1e9, c.before_ns / 1e9 if c.before_ns else None)


def _unregistered(c: Any) -> Punt:
    return UnregisteredSource(
        address(c.source),
        address(c.destination),
        c.instance_id,
        address(c.outer_source),
        c.outer_source_port,
        address(c.outer_destination),
        c.is_registered,
        c.is_at_control_port,
    )


def _status(c: Any) -> Punt:
    return StatusBits(address(c.source), c.instance_id, address(c.outer_source), c.status, c.status_width)


def _sealed_from(c: Any) -> Punt:
    return SealedFrom(c.peer, address(c.outer_source), c.outer_source_port, address(c.outer_destination))


# Every kind of enum lm_punt_kind; the comments there list the members that each one sets.
def _announced(c: Any) -> Punt:
    return Announced(c.peer, address(c.source), c.instance_id, bytes(ffi.buffer(c.payload, c.length)))


PUNTS: Final[dict[int, Callable[[Any], Punt]]] = {
    lib.LM_PUNT_MISS: lambda c: Miss(address(c.source), address(c.destination), c.instance_id, int(c.nonce)),
    lib.LM_PUNT_CONTROL: _control,
    lib.LM_PUNT_MTU: _mtu,
    lib.LM_PUNT_RESUMED: _resumed,
    lib.LM_PUNT_SILENT: lambda c: Silent(address(c.destination), c.is_flowing, c.is_alone),
    lib.LM_PUNT_STALLED: lambda c: Stalled(address(c.source), c.ifindex),
    lib.LM_PUNT_UNREGISTERED: _unregistered,
    lib.LM_PUNT_HEARD: lambda c: HeardAgain(address(c.source), address(c.destination)),
    lib.LM_PUNT_STATUS: _status,
    lib.LM_PUNT_ECHOED: lambda c: Echoed(address(c.destination), address(c.source)),
    lib.LM_PUNT_REFUTED: lambda c: Refuted(address(c.source), c.instance_id),
    lib.LM_PUNT_LARGE: lambda c: LargeSent(address(c.destination), address(c.source), c.destination_port),
    lib.LM_PUNT_SOURCE: lambda c: SourceDoubted(address(c.source), c.instance_id, address(c.outer_source)),
    lib.LM_PUNT_CLEAR_HEARD: lambda c: ClearHeard(c.peer),
    lib.LM_PUNT_SEAL_WANTED: lambda c: SealWanted(c.peer),
    lib.LM_PUNT_SEAL_CONFIRMED: lambda c: SealConfirmed(c.peer, c.local_index),
    lib.LM_PUNT_SEALED_FROM: _sealed_from,
    lib.LM_PUNT_ANNOUNCED: _announced,
    lib.LM_PUNT_PEER_BEHIND: lambda c: PeerBehind(c.peer),
    lib.LM_PUNT_PEER_AHEAD: lambda c: PeerAhead(c.peer, address(c.source), c.instance_id),
}
