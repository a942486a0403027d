"""The typed face of the C datapath: what is installed here decides where packets go. No Python runs per packet."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from lispmob.datapath import _lispdp, marshal, sealing, tier
from lispmob.datapath.ask import Answer, Question, ask
from lispmob.datapath.device.lanes import CopyingLane, Lane, Lanes, MarksWay, open_lanes
from lispmob.datapath.device.tun import Tun, open_tun
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
    Near,
    PathMtu,
    Punt,
    SealedSession,
    SessionUse,
    Silent,
    SourceCheck,
    Stalled,
    Stranger,
    TrafficResumed,
    Traversal,
    Uplink,
    UplinkRefused,
)
from lispmob.errors import KernelRefused, LispError
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
    "Silent",
    "Stalled",
    "Stranger",
    "TrafficResumed",
    "Traversal",
    "Uplink",
    "UplinkRefused",
]

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

# struct lm_install: a hundred thousand entries are packed in a fraction of the time that setting their fields takes.
_INSTALL = struct.Struct("=IBB16s2xIBB?xI")
assert _INSTALL.size == ffi.sizeof("struct lm_install")

_BATCH = 64
_KEPT_MAX = 1024
_SENT_MAX = 1 << 16  # remotes: far more than anybody sends to


class Engine:
    """Packets between one TUN device and the uplinks. Methods may be called from any thread, while packets move.

    Life: Engine(config), open(), start(), any number of updates, stop().
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._tun_fd = -1
        self._lanes: Lanes | None = None
        self.marks_way = MarksWay("none", "no bits of marks are ours")
        self.eids: tuple[EidPrefix, ...] = ()
        self.ifindex = 0
        self._tier = tier.Tier()
        self._handle = lib.lm_engine_new(marshal.config(config))
        if self._handle == ffi.NULL:
            raise MemoryError("datapath")
        self._punts = ffi.new("struct lm_punt[]", _BATCH)
        self._names = _counter_names()
        self.set_eids(config.eids)

    def open(self) -> None:
        """Create the TUN device, up and without addresses, and the receiving sockets.

        Raises KernelRefused, and LispError when another process has the port.
        """
        tun = self._open_device()
        self.ifindex = tun.ifindex
        lib.lm_engine_offload(self._engine, tun.has_vnet_header, tun.takes_udp)
        error = lib.lm_engine_open(self._engine, tun.fd)
        if error:
            self.stop()
            port = self.config.data_port
            if error == -errno.EADDRINUSE:
                where = f"UDP port {port} on all addresses"
                raise LispError(
                    f"{where} is in use: another LISP program runs here; find it with: ss -lunp 'sport = :{port}'"
                )
            raise KernelRefused(f"UDP port {port}: {os.strerror(-error)}")

    def _open_device(self) -> Tun:
        """The TUN, with lanes where marks are to be told apart."""
        config = self.config
        if config.mark_mask:
            self._lanes, self.marks_way = open_lanes(
                config.tun_name, config.tun_mtu_bytes, config.mark_mask, offload=config.offload
            )
            return self._lanes.tun
        tun = open_tun(config.tun_name, config.tun_mtu_bytes, offload=config.offload)
        self._tun_fd = tun.fd
        return tun

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes of the device: none where marks are not told apart."""
        return self._lanes.lanes if self._lanes is not None else ()

    def set_lanes(
        self,
        marks: Iterable[tuple[int, int]],
        *,
        copying: Iterable[CopyingLane] = (),
        drops_unusable: bool = False,
    ) -> tuple[Lane, ...]:
        """Packets with a mark leave by its uplink, from the next one on: (ifindex, mark) for each uplink.

        Those with the mark of one of `copying` leave by its first uplink and, where they are sealed, by its second as
        well. A mark that names none of them, or one that cannot send, is sent the default way, or dropped. In the TUN's
        network namespace only. Raises KernelRefused.
        """
        if self._lanes is None:
            return ()
        pairs = tuple(copying)
        marks = (*marks, *((pair.number, pair.mark) for pair in pairs))
        self._lanes.set_uplinks(marks)
        lanes = self._lanes.readable
        of_uplink = dict(marks)
        made = ffi.new(
            "struct lm_lane[]",
            [(lane.fd, lane.ifindex, of_uplink.get(lane.ifindex, 0), lane.queue, lane.into) for lane in lanes],
        )
        twice = ffi.new("struct lm_copying[]", [(pair.number, pair.first, pair.second) for pair in pairs])
        error = lib.lm_lane_set_all(self._engine, made, len(lanes), twice, len(pairs), drops_unusable)
        self._lanes.close_gone()
        if error:
            raise KernelRefused(f"{self.config.tun_name}: its queues cannot be watched: {os.strerror(-error)}")
        return self._lanes.lanes

    def set_tier(self, wish: tier.TierWish, *, allows_tcx: bool = True) -> tier.Tier:
        """Move packets by this tier from now on, if it can be; at any time after open(), and no packet is lost."""
        config = self.config
        self._tier = tier.choose(
            self._engine, self.ifindex, config.mark_mask, wish, is_rtr=config.is_rtr, allows_tcx=allows_tcx
        )
        return self._tier

    @property
    def tier(self) -> tier.Tier:
        """What moves the packets now, and why."""
        return tier.look(self._engine, self._tier)

    def settle(self) -> None:
        """Wait until the tier in use receives on all current uplinks; until then the tun tier does for it.

        For those who measure. A node that moves does not wait: see ebpf/attach_thread.h.
        """
        lib.lm_reflect_settle(self._engine)

    def start(self) -> None:
        """Start moving packets. Raises KernelRefused when there are no threads to be had, ValueError before open()."""
        error = lib.lm_engine_start(self._engine)
        if error == -errno.EBADF:
            raise ValueError("the datapath is not open")
        if error:
            raise KernelRefused(f"datapath threads: {os.strerror(-error)}")

    def stop(self) -> None:
        """Stop moving packets, free everything, and remove the TUN device. Idempotent; nothing else may follow."""
        if self._handle is not None:
            lib.lm_engine_free(self._handle)
            self._handle = None
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None
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
            spec.interface = uplink.interface.encode()[: lib.IFNAMSIZ - 1]
            marshal.put_address(spec.address, address)
            spec.priority, spec.weight, spec.mtu = uplink.priority, uplink.weight, uplink.mtu_bytes
            spec.is_sender = address == next(a for a in uplink.addresses if a.version == address.version)
            marshal.put_traversal(spec, uplink.traversal.get(address, marshal.NO_NAT))
        _check(lib.lm_engine_set_uplinks(self._engine, specs, len(wanted)))
        return tuple(
            UplinkRefused(uplink.interface, address, -spec.error)
            for spec, (uplink, address) in zip(specs, wanted, strict=False)
            if spec.error
        )

    def set_eids(self, eids: Iterable[EidPrefix]) -> None:
        """Our own EID-Prefixes: the sources that may leave (role node) and the destinations that are delivered."""
        self.eids = tuple(eids)
        prefixes, count = marshal.prefixes(self.eids)
        _check(lib.lm_engine_set_eids(self._engine, prefixes, count))

    def set_guard(self, addresses: Iterable[IpAddress]) -> None:
        """Inner destinations that must never enter the tunnel: Map-Servers, Map-Resolvers, proxies, RLOCs."""
        prefixes, count = marshal.prefixes(EidPrefix.host(address) for address in addresses)
        _check(lib.lm_engine_set_guard(self._engine, prefixes, count))

    def set_near(self, near: Near) -> None:
        """These addresses are near us now; without it only the uplinks' own are known to be."""
        specs, count = marshal.near(near)
        _check(lib.lm_source_set_near(self._engine, specs, count))

    def check_sources(self, check: SourceCheck) -> None:
        """Judge inner sources so from the next packet on."""
        lib.lm_source_set_check(self._engine, marshal.SOURCE_CHECKS[check])

    def install(self, entry: ForwardingEntry) -> None:
        """Add or replace; packets that waited for it leave before this returns. At most 32 locators count."""
        prefix, _ = marshal.prefixes([entry.prefix])
        used = entry.locators[: lib.LM_LOCATORS_MAX]
        wish = ffi.new("struct lm_seal_wish *", (entry.peer, entry.must_seal))[0]
        locators, kind = marshal.locators(used), marshal.DISPOSITIONS[entry.disposition]
        _check(lib.lm_engine_install_sealed(self._engine, prefix, kind, locators, len(used), wish))

    def install_many(self, entries: Sequence[ForwardingEntry]) -> None:
        """The same as install() for each of them, much quicker; packets move in between."""
        places: dict[tuple[ForwardingLocator, ...], int] = {}  # where each locator set starts: few sets, many entries
        wanted: list[ForwardingLocator] = []
        packed = bytearray()
        for entry in entries:
            used = entry.locators[: lib.LM_LOCATORS_MAX]
            if (first := places.get(used)) is None:
                first = places[used] = len(wanted)
                wanted += used
            prefix = entry.prefix
            address = prefix.address
            head = prefix.instance_id, prefix.mask_len, address.version, address.packed
            kind = marshal.DISPOSITIONS[entry.disposition]
            packed += _INSTALL.pack(*head, first, len(used), kind, entry.must_seal, entry.peer)
        items = ffi.from_buffer("struct lm_install[]", packed)
        _check(lib.lm_engine_install_many(self._engine, items, len(entries), marshal.locators(wanted)))

    def remove(self, prefix: EidPrefix) -> bool:
        """Forget the entry of exactly this prefix; False when there was none."""
        wanted, _ = marshal.prefixes([prefix])
        return bool(lib.lm_engine_remove(self._engine, wanted))

    def drop_pending(self, prefix: EidPrefix) -> int:
        """Drop packets that wait for a mapping inside the prefix, and send ICMP unreachable. Returns how many."""
        wanted, _ = marshal.prefixes([prefix])
        return int(lib.lm_engine_drop_pending(self._engine, wanted))

    @property
    def can_seal(self) -> bool:
        """False: this build has no libcrypto, so that no session can be installed."""
        return sealing.can_seal()

    def install_session(self, session: SealedSession) -> None:
        """Use this key pair: at once when it is confirmed, else from the first packet on that it opens.

        What was current before stays for receiving, and packets that waited for a key of the peer leave. Raises
        ValueError when the local index is in use, SealingMissingError in a build without libcrypto.
        """
        sealing.install(self._engine, session)

    def set_sources(self, local_index: int, sources: Iterable[EidPrefix]) -> bool:
        """The peer of a session may send these inner sources from now on; False: there is no such session."""
        return sealing.set_sources(self._engine, local_index, sources)

    def rest(self) -> None:
        """Give memory of buffers back, if hardly a packet has moved since the last call. To be called now and then."""
        lib.lm_engine_rest(self._engine)

    def forget_session(self, local_index: int) -> bool:
        """Overwrite the keys of a session and use it no more; False when there was none."""
        return sealing.forget(self._engine, local_index)

    def forget_peer(self, peer: int) -> None:
        """The same for all sessions of a peer."""
        sealing.forget_peer(self._engine, peer)

    def set_clear_refused(self, prefixes: Iterable[EidPrefix]) -> None:
        """Drop what comes in clear from these inner sources from now on, and from no others."""
        _check(sealing.set_clear_refused(self._engine, prefixes))

    def sessions(self) -> list[SessionUse]:
        """All sessions, and what became of them so far."""
        return sealing.sessions(self._engine)

    def say(self, peer: int, payload: bytes) -> bool:
        """Send a control message to a peer, sealed, by the way that its packets take; False when it could not leave."""
        return sealing.say(self._engine, peer, payload)

    def send_keepalive(self, peer: int) -> bool:
        """Send an empty sealed packet to a peer, by the way that its packets take; False when none could leave."""
        return sealing.send_keepalive(self._engine, peer)

    def set_patience(
        self, locator: IpAddress, patience_s: float | None, one_sided_s: float = 0.0, head: IpAddress | None = None
    ) -> None:
        """Report Silent when packets to a locator in use go unanswered for so long; None: no more.

        `one_sided_s` counts instead when nothing has come from it for a while; never less than the other. A peer may
        answer from another locator: all that have the same `head`, one of them, are watched together, too.
        """
        address, first = marshal.one_address(locator), marshal.one_address(head)
        quick, slow = int((patience_s or 0.0) * 1e9), int(one_sided_s * 1e9)
        lib.lm_silence_set_patience(self._engine, address, quick, slow, first)

    def use_status_bits(self, *, heeds: bool, told: int | None) -> None:
        """Report changes of others' Locator-Status-Bits, or not; and tell these of ours in everything, or None."""
        lib.lm_status_bits_use(self._engine, heeds, told is not None, told or 0)

    def use_echo_nonce(self, echoes: bool) -> None:
        """Send back the nonces that others ask for, and tell when ours come back; or ignore all of it."""
        lib.lm_echo_nonce_use(self._engine, echoes)

    def ask_echo(self, locator: IpAddress, nonce: int | None) -> bool:
        """Have data to this locator ask for 24 bits until they come back (Echoed), or no more; False: not asked."""
        address = marshal.one_address(locator)
        return bool(lib.lm_echo_nonce_ask(self._engine, address, nonce is not None, nonce or 0))

    def data_socket(self, family: int) -> int:
        """The descriptor that data arrives at, for locators whose NAT lets in what comes from there; -1: none."""
        return int(lib.lm_data_port_socket(self._engine, family))

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
        own, remote = marshal.one_address(source), marshal.one_address(destination)
        chosen = marshal.DATA_PORTS[data_port]
        error = lib.lm_data_port_send_control(self._engine, own, ifindex, chosen, remote, port, payload, len(payload))
        return not error

    def fileno(self) -> int:
        """Readable while there is something to drain."""
        return int(lib.lm_engine_wake_fd(self._engine))

    def drain(self) -> list[Punt]:
        """What the datapath cannot decide alone, oldest first; at most 64, the descriptor stays readable for more."""
        count = lib.lm_engine_drain(self._engine, self._punts, _BATCH)
        return [marshal.punt(self._punts[i]) for i in range(count)]

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
            found += [marshal.prefix(batch[i]) for i in range(count)]
            if count < _BATCH:
                return found

    def heard(self) -> list[tuple[IpAddress, IpAddress]]:
        """Our RLOC and the outer source of what was delivered since the last call."""
        pairs = ffi.new("struct lm_heard[]", lib.LM_HEARD_MAX)
        count = lib.lm_engine_heard(self._engine, pairs)
        return [(marshal.address(pairs[i].local), marshal.address(pairs[i].source)) for i in range(count)]

    def ask(self, question: Question) -> Answer:
        """What would become of a packet of this flow; nothing is sent, counted or kept."""
        return ask(self._engine, question)

    def tell_large(self, tells: bool) -> None:
        """Report LargeSent from now on, for each remote every two seconds at most; or no more."""
        lib.lm_path_mtu_tell_large(self._engine, tells)

    def set_path_mtu(self, path: PathMtu) -> None:
        """Send no larger packets this way; until the uplinks are others, or no mapping names the remote."""
        local, remote = marshal.one_address(path.local), marshal.one_address(path.locator)
        lib.lm_path_mtu_set(self._engine, local, remote, path.port, path.mtu_bytes)

    def sent(self) -> dict[IpAddress, int]:
        """Inner packets that have left for each locator, or RTR, since a mapping names it."""
        found = ffi.new("struct lm_sent_to[]", _SENT_MAX)
        packets: dict[IpAddress, int] = {}
        for figure in (found[i] for i in range(lib.lm_engine_sent(self._engine, found, _SENT_MAX))):
            locator = marshal.address(figure.address)
            packets[locator] = packets.get(locator, 0) + int(figure.packets)
        return packets

    def path_mtus(self) -> dict[IpAddress, int]:
        """Outer path MTUs (octets) that are known, by locator: the smallest of our paths there."""
        found = ffi.new("struct lm_mtu[]", _KEPT_MAX)
        count = lib.lm_engine_mtus(self._engine, found, _KEPT_MAX)
        return marshal.smallest_mtus(found, count)


def _counter_names() -> tuple[str, ...]:
    names: list[str] = []
    while (name := lib.lm_counters_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def _check(error: int) -> None:
    if error:
        raise MemoryError("datapath")  # the only way in which an update can fail
