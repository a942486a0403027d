"""Typed access to the C datapath: its tables decide where packets go. No Python runs per packet."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.ask import DryRun
from lispmob.datapath.device.lanes import CopyingLane, Lane, Lanes, MarksWay, open_lanes
from lispmob.datapath.device.tun import Tun, open_tun
from lispmob.datapath.face.addresses import Addresses
from lispmob.datapath.face.asking import Asking
from lispmob.datapath.face.data_port import DataPort
from lispmob.datapath.face.liveness import Liveness
from lispmob.datapath.face.sessions import Sessions
from lispmob.datapath.face.table import Table
from lispmob.datapath.face.tiers import Tiers
from lispmob.datapath.marshal import Handle, check
from lispmob.datapath.model import (
    LOSSES,
    ControlPacket,
    Disposition,
    EngineConfig,
    ForwardingEntry,
    ForwardingLocator,
    Miss,
    MtuLearned,
    Punt,
    Silent,
    Stalled,
    TrafficResumed,
    Traversal,
    UnregisteredSource,
    Uplink,
    UplinkRefused,
)
from lispmob.errors import KernelRefused, LispError

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
    "TrafficResumed",
    "Traversal",
    "UnregisteredSource",
    "Uplink",
    "UplinkRefused",
]

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

_BATCH = 64


class Engine:
    """Moves packets between one TUN device and the uplinks. All methods are thread-safe, while packets move.

    Life: Engine(config), open(), start(), any number of updates, stop(). Its parts control what it does: `table`,
    `asking`, `addresses`, `sessions`, `liveness`, `data_port` and `tiers`; `dry_run` answers what would happen to a
    packet.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._tun_fd = -1
        self._lanes: Lanes | None = None
        self.lanes: tuple[Lane, ...] = ()  # of the device: none if marks are not used
        self.uplinks: tuple[Uplink, ...] = ()  # as last set by set_uplinks()
        self.marks_way = MarksWay("none", "no bits of marks are ours")
        self.ifindex = 0
        self._handle = Handle(config)
        self.table = Table(self._handle)
        self.asking = Asking(self._handle)
        self.addresses = Addresses(self._handle, config.eids)
        self.sessions = Sessions(self._handle)
        self.liveness = Liveness(self._handle)
        self.data_port = DataPort(self._handle)
        self.dry_run = DryRun(self._handle)
        self.tiers = Tiers(self._handle, config, lambda: self.ifindex)
        self._punts = ffi.new("struct lm_punt[]", _BATCH)
        self._names = _counter_names()

    def open(self) -> None:
        """Create the TUN device, up and without addresses, and the receiving sockets.

        Raises KernelRefused, and LispError if another process has the port.
        """
        tun = self._open_device()
        self.ifindex = tun.ifindex
        lib.lm_engine_offload(self._handle.c, tun.has_vnet_header, tun.takes_udp)
        error = lib.lm_engine_open(self._handle.c, tun.fd)
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
        """The TUN, with lanes if marks are used."""
        config = self.config
        if config.mark_mask:
            self._lanes, self.marks_way = open_lanes(
                config.tun_name, config.tun_mtu_bytes, config.mark_mask, offload=config.offload
            )
            self.lanes = self._lanes.lanes
            return self._lanes.tun
        tun = open_tun(config.tun_name, config.tun_mtu_bytes, offload=config.offload)
        self._tun_fd = tun.fd
        return tun

    def set_lanes(
        self,
        marks: Iterable[tuple[int, int]],
        *,
        copying: Iterable[CopyingLane] = (),
        drops_unusable: bool = False,
    ) -> tuple[Lane, ...]:
        """Packets with a mark leave by its uplink, from the next one on: (ifindex, mark) for each uplink.

        Those with the mark of one of `copying` leave by its first uplink and, if sealed, also by its second. A packet
        with another mark, or of an uplink that cannot send, is sent the default way, or dropped. In the TUN's network
        namespace only. Raises KernelRefused.
        """
        if self._lanes is None:
            return ()
        pairs = tuple(copying)
        marks = (*marks, *((pair.number, pair.mark) for pair in pairs))
        self.lanes = self._lanes.set_uplinks(marks)
        lanes = self._lanes.readable
        of_uplink = dict(marks)
        made = ffi.new(
            "struct lm_lane[]",
            [(lane.fd, lane.ifindex, of_uplink.get(lane.ifindex, 0), lane.queue, lane.into) for lane in lanes],
        )
        twice = ffi.new("struct lm_copying[]", [(pair.number, pair.first, pair.second) for pair in pairs])
        error = lib.lm_lane_set_all(self._handle.c, made, len(lanes), twice, len(pairs), drops_unusable)
        self._lanes.close_gone()
        if error:
            raise KernelRefused(f"{self.config.tun_name}: its queues cannot be watched: {os.strerror(-error)}")
        return self.lanes

    def start(self) -> None:
        """Start moving packets. Raises KernelRefused if threads cannot be created, ValueError before open()."""
        error = lib.lm_engine_start(self._handle.c)
        if error == -errno.EBADF:
            raise ValueError("the datapath is not open")
        if error:
            raise KernelRefused(f"datapath threads: {os.strerror(-error)}")

    def stop(self) -> None:
        """Stop moving packets, free everything, and remove the TUN device. Idempotent; no other call may follow."""
        self._handle.free()
        if self._lanes is not None:
            self._lanes.close()
            self._lanes, self.lanes = None, ()
        if self._tun_fd >= 0:
            os.close(self._tun_fd)
            self._tun_fd = -1

    def close(self) -> None:
        """The same as stop(): for contextlib.closing()."""
        self.stop()

    def set_uplinks(self, uplinks: Sequence[Uplink]) -> tuple[UplinkRefused, ...]:
        """Use these uplinks from now on, and no others; packets that waited for one are sent at once.

        Sends from the first address of each family; sockets of unchanged (interface, address) pairs stay open. What the
        kernel refuses (an address that has just gone) is left out and returned; the next call tries again.
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
        check(lib.lm_engine_set_uplinks(self._handle.c, specs, len(wanted)))
        self.uplinks = tuple(uplinks)
        return tuple(
            UplinkRefused(uplink.interface, address, -spec.error)
            for spec, (uplink, address) in zip(specs, wanted, strict=False)
            if spec.error
        )

    def rest(self) -> None:
        """Return memory of buffers to the kernel if hardly a packet has moved since the last call."""
        lib.lm_engine_rest(self._handle.c)

    def fileno(self) -> int:
        """Readable while there is something to drain."""
        return int(lib.lm_engine_wake_fd(self._handle.c))

    def has_reports(self) -> bool:
        """True while there is something to drain."""
        return bool(lib.lm_engine_has_reports(self._handle.c))

    def drain(self) -> list[Punt]:
        """Reports of the datapath that need a decision, oldest first, at most 64; readable while there are more."""
        count = lib.lm_engine_drain(self._handle.c, self._punts, _BATCH)
        return [marshal.punt(self._punts[i]) for i in range(count)]

    def counters(self) -> dict[str, int]:
        """All counters by name; they only grow."""
        values = ffi.new("uint64_t[]", len(self._names))
        lib.lm_engine_counters(self._handle.c, values)
        return dict(zip(self._names, values, strict=True))

    def drops(self, prefix: str = "") -> int:
        """Packets dropped here, for every reason whose counter has this prefix; `out_` are packets of this host."""
        return sum(value for name, value in self.counters().items() if name in LOSSES and name.startswith(prefix))


def _counter_names() -> tuple[str, ...]:
    names: list[str] = []
    while (name := lib.lm_counters_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)
