"""The typed face of the C datapath: what is installed here decides where packets go. No Python runs per packet."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from lispmob.datapath import _lispdp
from lispmob.datapath.model import (
    LOSSES,
    ControlPacket,
    DataPortName,
    Disposition,
    EngineConfig,
    ForwardingEntry,
    ForwardingLocator,
    Miss,
    MtuLearned,
    Punt,
    Stalled,
    Stranger,
    TrafficResumed,
    Traversal,
    Uplink,
    UplinkRefused,
)
from lispmob.datapath.tun import open_tun
from lispmob.errors import KernelRefused
from lispmob.wire.address import EidPrefix, IpAddress

__all__ = [
    "ControlPacket",
    "Disposition",
    "Engine",
    "EngineConfig",
    "ForwardingEntry",
    "ForwardingLocator",
    "Miss",
    "MtuLearned",
    "Punt",
    "Stalled",
    "Stranger",
    "TrafficResumed",
    "Traversal",
    "Uplink",
    "UplinkRefused",
]

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

_MISS, _CONTROL, _MTU, _RESUMED, _STALLED, _STRANGER = 1, 2, 3, 4, 5, 6  # enum lm_punt_kind
_DATA_PORTS = {"pool": 0, "fixed": 1, "ephemeral": 2}  # enum lm_data_port
_NO_NAT = Traversal()
_BATCH = 64
_KEPT_MAX = 1024
_INTERFACE_NAME_MAX = 15
_PRIORITY_NEVER = 255


class Engine:
    """Packets between one TUN device and the uplinks. Methods may be called from any thread, while packets move.

    Life: Engine(config), open(), start(), any number of updates, stop().
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._tun_fd = -1
        self.ifindex = 0
        self._handle = lib.lm_engine_new(_config(config))
        if self._handle == ffi.NULL:
            raise MemoryError("datapath")
        self._punts = ffi.new("struct lm_punt[]", _BATCH)
        self._names = _counter_names()
        self._has_uplinks = False
        self.set_eids(config.eids)

    def open(self) -> None:
        """Create the TUN device, up and without addresses, and the receiving sockets. Raises KernelRefused."""
        tun = open_tun(self.config.tun_name, self.config.tun_mtu_bytes)
        self._tun_fd, self.ifindex = tun.fd, tun.ifindex
        error = lib.lm_engine_open(self._engine, tun.fd)
        if error:
            self.stop()
            what = f"UDP port {self.config.data_port}: is another LISP router running? {os.strerror(-error)}"
            raise KernelRefused(what)

    def start(self) -> None:
        """Start moving packets. Raises KernelRefused when there are no threads to be had."""
        error = lib.lm_engine_start(self._engine)
        if error:
            raise KernelRefused(f"datapath threads: {os.strerror(-error)}")

    def stop(self) -> None:
        """Stop moving packets, free everything, and remove the TUN device. Idempotent; nothing else may follow."""
        if self._handle is not None:
            lib.lm_engine_free(self._handle)
            self._handle = None
        if self._tun_fd >= 0:
            os.close(self._tun_fd)
            self._tun_fd = -1

    def close(self) -> None:
        """The same as stop(): for contextlib.closing()."""
        self.stop()

    @property
    def _engine(self) -> Any:
        if self._handle is None:
            raise ValueError("the datapath has been stopped")
        return self._handle

    @property
    def has_uplinks(self) -> bool:
        """True when the last set_uplinks left something to send from."""
        return self._has_uplinks

    def mark_move(self) -> None:
        """The next set_uplinks is a move: TrafficResumed tells of the first packet of each direction after it."""
        lib.lm_engine_mark_move(self._engine)

    def set_uplinks(self, uplinks: Sequence[Uplink]) -> tuple[UplinkRefused, ...]:
        """Use these uplinks from now on, no others; packets that waited for one leave at once.

        Sends from the first address of each family; sockets of unchanged (interface, address) pairs stay open.
        What the kernel refuses (an address that has just gone) is left out and returned; the next call tries again.
        """
        wanted = [(uplink, address) for uplink in uplinks for address in uplink.addresses]
        specs = ffi.new("struct lm_uplink_spec[]", max(1, len(wanted)))
        for spec, (uplink, address) in zip(specs, wanted, strict=False):
            spec.ifindex = uplink.ifindex
            spec.interface = uplink.interface.encode()[:_INTERFACE_NAME_MAX]
            _put_address(spec.address, address)
            spec.priority, spec.weight, spec.mtu = uplink.priority, uplink.weight, uplink.mtu_bytes
            spec.is_sender = address == next(a for a in uplink.addresses if a.version == address.version)
            _put_traversal(spec, uplink.traversal.get(address, _NO_NAT))
        _check(lib.lm_engine_set_uplinks(self._engine, specs, len(wanted)))
        used = [spec for spec, _ in zip(specs, wanted, strict=False) if spec.is_sender and not spec.error]
        self._has_uplinks = any(spec.priority < _PRIORITY_NEVER for spec in used)
        return tuple(
            UplinkRefused(uplink.interface, address, -spec.error)
            for spec, (uplink, address) in zip(specs, wanted, strict=False)
            if spec.error
        )

    def set_eids(self, eids: Iterable[EidPrefix]) -> None:
        """Our own EID-Prefixes: the sources that may leave (role node) and the destinations that are delivered."""
        prefixes, count = _prefixes(eids)
        _check(lib.lm_engine_set_eids(self._engine, prefixes, count))

    def set_guard(self, addresses: Iterable[IpAddress]) -> None:
        """Inner destinations that must never enter the tunnel: Map-Servers, Map-Resolvers, proxies, RLOCs."""
        prefixes, count = _prefixes(EidPrefix.host(address) for address in addresses)
        _check(lib.lm_engine_set_guard(self._engine, prefixes, count))

    def install(self, entry: ForwardingEntry) -> None:
        """Add or replace; packets that waited for it leave before this returns. At most 32 locators count."""
        prefix, _ = _prefixes([entry.prefix])
        used = entry.locators[: lib.LM_LOCATORS_MAX]
        locators = ffi.new("struct lm_locator_spec[]", max(1, len(used)))
        for spec, locator in zip(locators, used, strict=False):
            _put_locator(spec, locator)
        _check(lib.lm_engine_install(self._engine, prefix, int(entry.disposition), locators, len(used)))

    def remove(self, prefix: EidPrefix) -> bool:
        """Forget the entry of exactly this prefix; False when there was none."""
        wanted, _ = _prefixes([prefix])
        return bool(lib.lm_engine_remove(self._engine, wanted))

    def drop_pending(self, prefix: EidPrefix) -> int:
        """Give up on packets that wait for a mapping inside the prefix: ICMP tells their sources. How many it were."""
        wanted, _ = _prefixes([prefix])
        return int(lib.lm_engine_drop_pending(self._engine, wanted))

    def data_socket(self, family: int) -> int:
        """The descriptor that data arrives at, for locators whose NAT lets in what comes from there; -1: none."""
        return int(lib.lm_engine_data_socket(self._engine, family))

    def send_control(
        self,
        payload: bytes,
        destination: IpAddress,
        port: int,
        source: IpAddress,
        *,
        ifindex: int = 0,
        data_port: DataPortName = "fixed",
    ) -> bool:
        """Send one datagram from the port that the data of `source` leaves from; False when it was refused."""
        own, remote = ffi.new("struct lm_addr *"), ffi.new("struct lm_addr *")
        _put_address(own, source)
        _put_address(remote, destination)
        chosen = _DATA_PORTS[data_port]
        error = lib.lm_engine_send_control(self._engine, own, ifindex, chosen, remote, port, payload, len(payload))
        return not error

    def fileno(self) -> int:
        """Readable while there is something to drain."""
        return int(lib.lm_engine_wake_fd(self._engine))

    def drain(self) -> list[Punt]:
        """What the datapath cannot decide alone, oldest first; at most 64, the descriptor stays readable for more."""
        count = lib.lm_engine_drain(self._engine, self._punts, _BATCH)
        return [_punt(self._punts[i]) for i in range(count)]

    def counters(self) -> dict[str, int]:
        """All counters by name; they only ever grow."""
        values = ffi.new("uint64_t[]", len(self._names))
        lib.lm_engine_counters(self._engine, values)
        return dict(zip(self._names, values, strict=True))

    def drops(self) -> int:
        """Packets lost here, whatever the reason."""
        return sum(value for name, value in self.counters().items() if name in LOSSES)

    def used(self) -> list[EidPrefix]:
        """Prefixes that packets were forwarded by since the last call."""
        cursor = ffi.new("uint32_t *")
        batch = ffi.new("struct lm_prefix[]", _BATCH)
        found: list[EidPrefix] = []
        while True:
            count = lib.lm_engine_used(self._engine, cursor, batch, _BATCH)
            found += [_prefix(batch[i]) for i in range(count)]
            if count < _BATCH:
                return found

    def heard(self) -> list[IpAddress]:
        """Outer sources of what was delivered since the last call."""
        sources = ffi.new("struct lm_addr[]", lib.LM_HEARD_MAX)
        count = lib.lm_engine_heard(self._engine, sources)
        return [_address(sources[i]) for i in range(count)]

    def path_mtus(self) -> dict[IpAddress, int]:
        """Outer path MTUs (octets) learned from the network, by locator."""
        learned = ffi.new("struct lm_mtu[]", _KEPT_MAX)
        count = lib.lm_engine_mtus(self._engine, learned, _KEPT_MAX)
        return {_address(learned[i].address): int(learned[i].mtu) for i in range(count)}


def _config(config: EngineConfig) -> Any:
    c = ffi.new("struct lm_config *")
    c.key0, c.key1 = secrets.randbits(64), secrets.randbits(64)
    c.is_rtr = config.is_rtr
    c.is_proxy = config.role == "proxy"
    c.copy_dscp, c.udp_checksum = config.copy_dscp, config.udp_checksum
    c.data_port, c.source_port_pool, c.mark = config.data_port, config.source_port_pool, config.mark
    c.proxy_instance_id = config.proxy_instance_id
    c.pending_per_entry, c.pending_total = config.pending_per_entry, config.pending_total
    c.pending_age_ns = int(config.pending_age_s * 1e9)
    return c


def _counter_names() -> tuple[str, ...]:
    names: list[str] = []
    while (name := lib.lm_counter_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def _check(error: int) -> None:
    if error:
        raise MemoryError("datapath")  # the only way in which an update can fail


def _put_address(into: Any, address: IpAddress) -> None:
    into.family = address.version
    ffi.buffer(into.octets)[:] = address.packed.ljust(16, b"\0")


def _put_locator(into: Any, locator: ForwardingLocator) -> None:
    _put_address(into.address, locator.address)
    into.port, into.priority, into.weight = locator.port, locator.priority, locator.weight
    if locator.source is not None:
        _put_address(into.source, locator.source)
        into.fd = locator.socket


def _put_traversal(spec: Any, traversal: Traversal) -> None:
    if not traversal.is_usable:
        spec.priority = _PRIORITY_NEVER
    spec.data_port = _DATA_PORTS[traversal.data_port]
    spec.relay_count = min(len(traversal.relays), lib.LM_RELAYS_MAX)
    for relay, locator in zip(spec.relays, traversal.relays, strict=False):
        _put_locator(relay, locator)


def _address(c: Any) -> IpAddress:
    octets = bytes(ffi.buffer(c.octets))
    return IPv4Address(octets[:4]) if c.family == 4 else IPv6Address(octets)


def _prefixes(prefixes: Iterable[EidPrefix]) -> tuple[Any, int]:
    wanted = list(prefixes)
    made = ffi.new("struct lm_prefix[]", max(1, len(wanted)))
    for c, prefix in zip(made, wanted, strict=False):
        c.instance_id, c.length = prefix.instance_id, prefix.mask_len
        _put_address(c.address, prefix.address)
    return made, len(wanted)


def _prefix(c: Any) -> EidPrefix:
    return EidPrefix.make(_address(c.address), c.length, c.instance_id)


def _punt(c: Any) -> Punt:
    if c.kind == _MISS:
        return Miss(_address(c.source), _address(c.destination), c.instance_id)
    if c.kind == _MTU:
        return MtuLearned(_address(c.destination), c.mtu)
    if c.kind == _RESUMED:
        return TrafficResumed(c.is_outbound, c.at_ns / 1e9, c.before_ns / 1e9 if c.before_ns else None)
    if c.kind == _STALLED:
        return Stalled(_address(c.source), c.ifindex)
    if c.kind == _STRANGER:
        return Stranger(
            _address(c.source),
            _address(c.destination),
            c.instance_id,
            _address(c.outer_source),
            c.outer_source_port,
            _address(c.outer_destination),
            c.is_registered,
        )
    assert c.kind == _CONTROL, c.kind
    return ControlPacket(
        payload=bytes(ffi.buffer(c.payload, c.length)),
        source=_address(c.source),
        source_port=c.source_port,
        destination=_address(c.destination),
        destination_port=c.destination_port,
        outer_source=_address(c.outer_source),
        outer_source_port=c.outer_source_port,
        outer_destination=_address(c.outer_destination),
        ifindex=c.ifindex,
    )
