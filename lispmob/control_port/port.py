"""The control port on real sockets: UDP 4342 for IPv4 and IPv6, for the node and for the hub.

Every datagram comes with the address and interface it arrived at, and is sent with the requested source address and
interface (IP_PKTINFO, IPV6_PKTINFO), so that one socket per family serves addresses that come and go. The kernel has
verified UDP checksums; a zero one over IPv4 is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

import msgspec

from lispmob.control_port.flood_watch import (
    ANY_TYPE,
    CALM_S,
    ONE_IN,
    FloodWatch,
    Part,
    assembled,
    program,
    sender_of,
    type_of,
)
from lispmob.control_port.icmp_errors import Unreachable, enable, read_errors
from lispmob.control_port.packet_info import IP_PKTINFO, put_packet_info, take_packet_info
from lispmob.control_port.steering import steer
from lispmob.errors import LispError
from lispmob.protocol.effect import CONTROL_PORT, SendControl
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.address import IpAddress

log = logging.getLogger(__name__)

ANY: Final = (IPv4Address(0), IPv6Address(0))
DATAGRAM_LIMIT: Final = 65535
DRAIN_LIMIT: Final = 64  # ours: datagrams per loop turn and socket, so that a flood leaves the loop time for the rest
WARNED_S: Final = 60.0
ADDRESSES_KEPT: Final = 16384  # ours: of the latest senders; making one costs as much as receiving
SENDERS_LIMIT: Final = 256
DRAIN_S: Final = 0.005  # ours: the most time in one turn, on all sockets together
ANCILLARY_OCTETS: Final = 128
RECEIVE_BUFFER_OCTETS: Final = 4 << 20  # ours: room for a burst of registers, or of noise, while the loop is busy

# Linux, <linux/in.h>: not in every supported Python's socket module
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_PROBE: Final = 3  # sets DF, and ignores the path MTUs that the kernel remembers
_IP_PMTUDISC_OMIT: Final = 5  # sets no DF, and ignores them too
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_MTU: Final = 24
_V6_MTU_MIN: Final = 1280  # RFC 8200, 5
_SO_MARK: Final = 36
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_SO_ATTACH_FILTER: Final = 26
_SO_NO_CHECK: Final = 11
_UDP_NO_CHECK6_TX: Final = 101
_NO_CHECKSUM: Final = {4: (socket.SOL_SOCKET, _SO_NO_CHECK), 6: (socket.IPPROTO_UDP, _UDP_NO_CHECK6_TX)}

_PROGRAM: Final = Struct("@HP")  # struct sock_fprog. <linux/filter.h>
_MEMINFO: Final = Struct("@9I")
_MEMINFO_DROPS: Final = 8

# Errors of sendmsg about the present network: the datagram is lost, as any other may be.
_NOT_WORTH_A_LINE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO,
     errno.ECONNREFUSED, errno.EAGAIN, errno.ENOBUFS, errno.EINVAL, errno.EPERM, errno.EMSGSIZE}
)  # fmt: skip


class Received(msgspec.Struct, frozen=True):
    """One datagram; `destination` and `ifindex` are those of its arrival. `other_port`: the port that it came to if
    that is another than the usual one, else 0.
    """

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    ifindex: int
    other_port: int = 0


class ControlPort:
    """Listens on `addresses` (default: all of the machine) and hands every datagram to `on_datagram`.

    It returns True for one that was proved to be from a known sender; `control_port/flood_watch.py` says what the
    others may cost.
    `mark` is the fwmark of what is sent; 0 sets none. `carries_data`: the datapath sends from these sockets, too, which
    wants its packets whole; control messages may be cut, on the way as well. A forged "fragmentation needed" means
    nothing to either. `on_unreachable` hears what ICMP, or this host's own firewall, answers to what was sent.
    `on_sent` hears what was sent.
    `is_noise` looks at the octets before anything else is made of them: what it says True about goes no further.
    `processes` share the port, of which the first one steers (`steering.py`); the others open theirs later.
    Messages may leave from other ports, too, and be answered there (`send`, `keep_other_ports`).
    `shares_with_datapath`: each address gets a second socket, for the datapath, which receives data sent to this port.
    Counters: sent, received, noise, send-failed, truncated; `dropped` are those that the kernel dropped.
    """

    def __init__(
        self,
        on_datagram: Callable[[Received], bool | None],
        *,
        addresses: Sequence[IpAddress] = ANY,
        port: int = CONTROL_PORT,
        mark: int = 0,
        on_unreachable: Callable[[Unreachable], None] | None = None,
        carries_data: bool = False,
        is_noise: Callable[[bytes], bool] | None = None,
        on_sent: Callable[[SendControl], None] | None = None,
        processes: int = 1,
        is_first: bool = True,
        shares_with_datapath: bool = False,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._on_unreachable = on_unreachable
        self._is_noise = is_noise
        self._on_sent = on_sent
        self._on_datagram = on_datagram
        self._addresses = tuple(addresses)
        self._port = port
        self._mark = mark
        self._carries_data = carries_data
        self._processes, self._is_first = processes, is_first
        self._shares_with_datapath = shares_with_datapath
        self._sockets: list[tuple[IpAddress, socket.socket]] = []
        self._data_sockets: list[socket.socket] = []
        self._others: dict[tuple[int, int], socket.socket] = {}  # by port and family
        self._senders: dict[tuple[int, IpAddress | None], socket.socket | None] = {}  # by family and wanted source
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watches: dict[int, FloodWatch] = {}  # by descriptor
        self._warnings = TokenBucket(WARNED_S)

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel dropped, because there was no room for them or their checksum was wrong."""
        return sum(_drops(one) for _, one in self._sockets)

    @property
    def families(self) -> frozenset[int]:
        """4, 6 or both: what can be sent."""
        return frozenset(address.version for address, _ in self._sockets)

    @property
    def port(self) -> int:
        """The UDP port in use, which matters when 0 was asked for."""
        return int(self._sockets[0][1].getsockname()[1]) if self._sockets else self._port

    def port_for(self, family: int) -> int:
        """The UDP port in use in one family; if 0 was configured, each has its own."""
        found = (one for address, one in self._sockets if address.version == family)
        return next((int(sock.getsockname()[1]) for sock in found), 0)

    @property
    def data_sockets(self) -> tuple[int, ...]:
        """The descriptors that receive data, for the datapath. They are open until close()."""
        return tuple(one.fileno() for one in self._data_sockets)

    def open(self) -> None:
        """Bind the sockets. LispError, and nothing left open, when a port is taken or an address is not ours.

        A machine without IPv6 (or IPv4) is no error as long as that family was not asked for by address.
        """
        self._senders.clear()
        try:
            for address in self._addresses:
                try:
                    self._sockets.append((address, self._bind(address)))
                except OSError as error:
                    if address.is_unspecified and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                        continue
                    raise _explain(address, self._port, error) from None
            if not self._sockets:
                raise LispError("this machine has neither IPv4 nor IPv6: nothing to listen on")
        except LispError:
            self.close()
            raise

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to hand over datagrams, inside the loop."""
        self._loop = loop
        for address, one in self._sockets:
            loop.add_reader(one.fileno(), self._drain, address.version, one)

    def close(self) -> None:
        """Stop and close. May be called twice."""
        for _, one in self._sockets:
            if self._loop is not None:
                self._loop.remove_reader(one.fileno())
            one.close()
        for data in self._data_sockets:
            data.close()
        self.keep_other_ports(())
        self._sockets.clear()
        self._data_sockets.clear()
        self._senders.clear()
        self._watches.clear()

    def keep_other_ports(self, ports: Collection[int]) -> None:
        """Close all other ports but these. What comes to a closed one is lost."""
        for key in [key for key in self._others if key[0] not in ports]:
            one = self._others.pop(key)
            if self._loop is not None:
                self._loop.remove_reader(one.fileno())
            self._watches.pop(one.fileno(), None)
            one.close()

    def send(self, effect: SendControl, *, other_port: int = 0) -> bool:
        """Send one datagram; False when the network as it is does not take it, which is counted and never raised.

        `other_port`: the port that it leaves from; 0: the usual one.
        """
        one = self._other_socket(effect.destination.version, other_port) if other_port else self._socket_for(effect)
        if one is None:
            self.counters["send-failed"] += 1
            return False
        ancillary: list[tuple[int, int, bytes]] = []
        if effect.source is not None or effect.ifindex:
            ancillary.append(put_packet_info(effect.destination.version, effect.source, effect.ifindex))
        try:
            try:
                self._sendmsg(one, effect, ancillary)
            except OSError:
                if not self._read_errors(effect.destination.version, one):
                    raise
                self._sendmsg(one, effect, ancillary)  # the error was an answer to an earlier datagram
        except OSError as error:
            self.counters["send-failed"] += 1
            if error.errno == errno.EPERM and self._on_unreachable is not None:
                self._on_unreachable(Unreachable(effect.destination, effect.port, "refused-here"))
            level = logging.DEBUG if error.errno in _NOT_WORTH_A_LINE else logging.WARNING
            log.log(level, "send failed to=%s from=%s why=%s", effect.destination, effect.source, error.strerror)
            return False
        self.note_sent(effect)
        return True

    def note_sent(self, effect: SendControl) -> None:
        """One datagram was sent, by us or by another user of the socket."""
        self.counters["sent"] += 1
        if self._on_sent is not None:
            self._on_sent(effect)

    def _sendmsg(self, one: socket.socket, effect: SendControl, ancillary: list[tuple[int, int, bytes]]) -> None:
        usual = effect.has_checksum and effect.is_whole == self._carries_data
        with contextlib.nullcontext() if usual else self._options(one, effect):
            one.sendmsg([effect.payload], ancillary, 0, (str(effect.destination), effect.port))

    def _read_errors(self, family: int, one: socket.socket) -> bool:
        """Hand over what ICMP answered; True when there was something."""
        if self._on_unreachable is None:
            return False
        count, errors = read_errors(one, family)
        for error in errors:
            self._on_unreachable(error)
        return count > 0

    def fileno_for(self, source: IpAddress) -> int | None:
        """The descriptor of the socket that sends from this address; None when none does."""
        one = self._socket_for(SendControl(b"", source, source=source))
        return one.fileno() if one is not None else None

    @contextlib.contextmanager
    def _options(self, one: socket.socket, effect: SendControl) -> Iterator[None]:
        """The socket options of this datagram, for a moment."""
        family = socket.AF_INET if effect.destination.version == 4 else socket.AF_INET6
        no_checksum = _NO_CHECKSUM[effect.destination.version]
        if not effect.has_checksum:
            one.setsockopt(*no_checksum, 1)
        if effect.is_whole != self._carries_data:
            _cut(one, family, is_whole=effect.is_whole)
        try:
            yield
        finally:
            if effect.is_whole != self._carries_data:
                _cut(one, family, is_whole=self._carries_data)
            if not effect.has_checksum:
                one.setsockopt(*no_checksum, 0)

    def _socket_for(self, effect: SendControl) -> socket.socket | None:
        """The socket bound to the wanted source address, else one that is bound to all, else any of the family."""
        key = effect.destination.version, effect.source
        if key not in self._senders:
            if len(self._senders) >= SENDERS_LIMIT:
                self._senders.clear()
            self._senders[key] = self._find_socket(effect)
        return self._senders[key]

    def _other_socket(self, family: int, port: int) -> socket.socket | None:
        one = self._others.get((port, family))
        if one is None and family in self.families and self._loop is not None:
            try:
                one = self._bind(ANY[family == 6], port)
            except OSError as error:  # another program has it
                log.debug("cannot send from port=%d why=%s", port, error.strerror)
                return None
            self._others[port, family] = one
            self._loop.add_reader(one.fileno(), self._drain, family, one, port)
        return one

    def _find_socket(self, effect: SendControl) -> socket.socket | None:
        fitting = [(own, one) for own, one in self._sockets if own.version == effect.destination.version]
        if effect.source is not None:
            fitting = [pair for pair in fitting if pair[0].is_unspecified or pair[0] == effect.source]
        return fitting[0][1] if fitting else None

    def _bind(self, address: IpAddress, other_port: int = 0) -> socket.socket:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if family == socket.AF_INET:
                one.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            if self._on_unreachable is not None:
                enable(one, address.version)
            _cut(one, family, is_whole=self._carries_data)
            if self._mark:
                one.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
            try:
                one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
            except OSError:  # without CAP_NET_ADMIN: what the system allows
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
            if other_port:
                one.bind((str(address), other_port))
                return one
            is_shared = self._processes > 1 or self._shares_with_datapath
            if is_shared:
                if self._is_first:
                    self._refuse_another(one.family, address)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind((str(address), self._port))
            if self._shares_with_datapath:
                self._bind_for_data(one, address)
            if is_shared and self._is_first:
                steer(one, self._processes, has_data=self._shares_with_datapath)
        except BaseException:
            one.close()
            raise
        return one

    def _bind_for_data(self, one: socket.socket, address: IpAddress) -> None:
        """The datapath's socket, right after ours, because the program counts them in this order."""
        data = socket.socket(one.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._data_sockets.append(data)
        if one.family == socket.AF_INET6:
            data.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        data.bind((str(address), one.getsockname()[1]))

    def _refuse_another(self, family: int, address: IpAddress) -> None:
        """OSError when another program has the port: sharing it with us must not hide that."""
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((str(address), self._port))

    def _drain(self, family: int, one: socket.socket, other_port: int = 0) -> None:
        ends_at = time.monotonic() + DRAIN_S / len(self._sockets)
        for _ in range(DRAIN_LIMIT):
            if time.monotonic() > ends_at:
                return
            try:
                payload, ancillary, flags, sender = one.recvmsg(DATAGRAM_LIMIT, ANCILLARY_OCTETS)
            except BlockingIOError:
                self._watch_of(one).on_emptied()
                self._read_errors(family, one)  # otherwise an unread error would wake us for ever
                return
            except OSError as error:
                if self._read_errors(family, one):
                    continue
                self.counters["receive-failed"] += 1
                log.debug("receive failed why=%s", error.strerror)
                return
            source = _address_of(sender[0])
            if self._is_noise is not None and self._is_noise(payload):
                self.counters["received"] += 1
                self.counters["noise"] += 1
                self._watch(one, source, type_of(payload))
                continue
            arrived = take_packet_info(family, ancillary)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or arrived is None:
                self.counters["truncated"] += 1
                continue
            self.counters["received"] += 1
            is_proved = self._on_datagram(Received(payload, source, sender[1], *arrived, other_port))
            if one.fileno() < 0:
                return  # the datagram made its reader close the socket
            if is_proved:
                self._watch_of(one).on_proved()
            else:
                self._watch(one, source)

    def _watch_of(self, one: socket.socket) -> FloodWatch:
        watch = self._watches.get(one.fileno())
        if watch is None:
            watch = self._watches[one.fileno()] = FloodWatch(lambda: _drops(one))
        return watch

    def _watch(self, one: socket.socket, source: IpAddress, noise: int = ANY_TYPE) -> None:
        """Sample the senders that flood the socket: the kernel drops the rest."""
        watch, now = self._watch_of(one), time.monotonic()
        if not watch.on_datagram(sender_of(source), now, noise):
            return
        self._sample(one, watch)
        if watch.sampled and self._warnings.take(now):
            log.warning("too many datagrams to process: of those from %s only one in %d is processed", source, ONE_IN)

    def _sample(self, one: socket.socket, watch: FloodWatch) -> None:
        with contextlib.suppress(OSError):
            _attach_filter(one, watch.sampled)
        if watch.sampled and self._loop is not None:
            self._loop.call_later(CALM_S, self._look_again, one)

    def _look_again(self, one: socket.socket) -> None:
        """A sampled sender may have stopped: then no datagram arrives that would show it."""
        watch = self._watches.get(one.fileno())
        if watch is None or one.fileno() < 0 or not watch.sampled:
            return
        if watch.on_time(time.monotonic()) or self._loop is None:
            self._sample(one, watch)
        else:
            self._loop.call_later(CALM_S, self._look_again, one)


def _cut(one: socket.socket, family: int, *, is_whole: bool) -> None:
    """Have datagrams leave whole (DF), or in as many pieces as it takes: no router cuts IPv6, so that we do."""
    discovery = _IP_PMTUDISC_PROBE if is_whole else _IP_PMTUDISC_OMIT
    if family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discovery)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, discovery)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU, 0 if is_whole else _V6_MTU_MIN)


def _attach_filter(one: socket.socket, sampled: Sequence[Part]) -> None:
    """Make the kernel drop most of these senders' datagrams, and none of others."""
    code = program(sampled)
    room = array("B", assembled(code))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(len(code), room.buffer_info()[0]))


def _drops(one: socket.socket) -> int:
    try:
        octets = one.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:  # before Linux 4.12
        return 0
    return int(_MEMINFO.unpack(octets.ljust(_MEMINFO.size, b"\0"))[_MEMINFO_DROPS])


@lru_cache(ADDRESSES_KEPT)
def _address_of(text: str) -> IpAddress:
    """A sender as the kernel writes it."""
    return ip_address(text.partition("%")[0])


def _explain(address: IpAddress, port: int, error: OSError) -> LispError:
    where = f"UDP port {port} on {'all addresses' if address.is_unspecified else address}"
    if error.errno == errno.EADDRINUSE:
        return LispError(f"{where} is in use: another LISP program runs here; find it with: ss -lunp 'sport = :{port}'")
    if error.errno == errno.EADDRNOTAVAIL:
        return LispError(f"{where}: this machine does not have the address")
    if error.errno in (errno.EPERM, errno.EACCES):
        return LispError(f"{where} refused ({error.strerror}): needs CAP_NET_ADMIN for the mark, or a port above 1023")
    return LispError(f"{where}: {error.strerror}")
