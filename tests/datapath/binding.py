"""The C's pure functions as Python functions, for comparison with the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import asdict

from lispmob.datapath import _lispdp
from lispmob.datapath.marshal import address as read_address
from lispmob.datapath.marshal import prefixes, put_address
from lispmob.wire.address import EidPrefix, IpAddress
from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle.segments import VnetHeader

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


def octets(data: bytes) -> Any:
    """A buffer of exactly this size, so that a sanitizer sees a read beyond it."""
    return ffi.new("uint8_t[]", data)


def parse(packet: bytes) -> Any:
    inner = ffi.new("struct lm_inner *")
    return inner if lib.lm_packet_parse(octets(packet), len(packet), inner) else None


def as_oracle(inner: Any) -> oracle.Inner:
    return oracle.Inner(
        version=inner.version,
        source=read_address(inner.source),
        destination=read_address(inner.destination),
        tos=inner.tos,
        ttl=inner.ttl,
        protocol=inner.protocol,
        is_fragment=inner.is_fragment,
        is_later_fragment=inner.is_later_fragment,
        dont_fragment=inner.dont_fragment,
        ports=(inner.source_port, inner.destination_port) if inner.has_ports else None,
        header=inner.header,
        length=inner.length,
    )


def key(words: tuple[int, int]) -> Any:
    return ffi.new("struct lm_key *", {"k0": words[0], "k1": words[1]})


def keyed_hash(words: tuple[int, int], data: list[int]) -> int:
    return int(lib.lm_hash(key(words), ffi.new("uint64_t[]", [*data, 0]), len(data)))


def read_data(datagram: bytes) -> tuple[oracle.DataVerdict, Any]:
    data = ffi.new("struct lm_data *")
    return oracle.DataVerdict(lib.lm_lisp_header_parse(octets(datagram), len(datagram), data)), data


def strip(packet: bytes, outer_ttl: int, outer_tos: int, copy_dscp: bool) -> tuple[int, bytes]:
    buffer, inner = octets(packet), parse(packet)
    verdict = int(lib.lm_packet_strip(buffer, inner, outer_ttl, outer_tos, copy_dscp))
    return verdict, bytes(ffi.buffer(buffer, inner.length))


def icmp_error(kind: oracle.IcmpKind, mtu_bytes: int, source: IpAddress, packet: bytes) -> bytes | None:
    out, address = ffi.new("uint8_t[1280]"), ffi.new("struct lm_addr *")
    put_address(address, source)
    length = lib.lm_icmp_build(out, int(kind), mtu_bytes, address, octets(packet), parse(packet))
    return bytes(ffi.buffer(out, length)) if length else None


def fragments(packet: bytes, limit: int) -> list[bytes]:
    inner = parse(packet)
    count = lib.lm_fragment_count(octets(packet), inner, limit)
    made = []
    for index in range(count):
        out = ffi.new("uint8_t[]", limit)
        length = lib.lm_fragment_write(out, octets(packet), inner, index, count)
        assert length <= limit
        made.append(bytes(ffi.buffer(out, length)))
    return made


def vnet(header: VnetHeader) -> Any:
    return ffi.new("lm_vnet *", asdict(header))


def complete(header: VnetHeader, packet: bytes) -> bytes | None:
    buffer = octets(packet)
    return (
        bytes(ffi.buffer(buffer, len(packet)))
        if lib.lm_segment_complete_vnet(vnet(header), buffer, len(packet))
        else None
    )


def segments(header: VnetHeader, packet: bytes) -> list[bytes] | None:
    """The packets into which the C cuts a super-packet; None: refused."""
    inner, plan = parse(packet), ffi.new("struct lm_segments *")
    if inner is None or not lib.lm_segments_read(vnet(header), octets(packet), inner, plan):
        return None
    made = []
    for index in range(plan.count):
        out = ffi.new("uint8_t[]", plan.header + plan.size)
        length = lib.lm_segment_write(out, octets(packet), inner, plan, index)
        made.append(bytes(ffi.buffer(out, length)))
    return made


def merged(packets: Iterable[bytes], *, takes_udp: bool = True) -> list[tuple[VnetHeader, bytes]]:
    """What is written to the TUN device for packets that arrive in this order."""
    merge = ffi.new("struct lm_coalesce *")
    merge.takes_udp = takes_udp
    written, kept = [], []
    for packet in packets:
        kept.append(octets(packet))
        inner = parse(packet)
        if merge.count and lib.lm_coalesce_join(merge, kept[-1], inner):
            continue
        written += _finished(merge)
        lib.lm_coalesce_start(merge, kept[-1], inner)
    return written + _finished(merge)


def _finished(merge: Any) -> list[tuple[VnetHeader, bytes]]:
    if merge.count == 0:
        return []
    count = lib.lm_coalesce_finish(merge)
    parts = [bytes(ffi.buffer(one.iov_base, one.iov_len)) for one in merge.vector[1:count]]
    names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
    header = VnetHeader(**{name: getattr(merge.vnet, name) for name in names})
    return [(header, b"".join(parts))]


class Locators:
    """A locator set of (address, port, priority, weight)."""

    def __init__(self, locators: Sequence[tuple[IpAddress, int, int, int]]) -> None:
        self._all = ffi.gc(lib.lm_locators_new(), lib.lm_locators_free)
        specs = ffi.new("struct lm_locator_spec[]", max(1, len(locators)))
        for spec, (address, port, priority, weight) in zip(specs, locators, strict=False):
            put_address(spec.address, address)
            spec.port, spec.priority, spec.weight = port, priority, weight
        self._set = lib.lm_locator_set_take(self._all, specs, len(locators))

    def choose(self, families: int, flow: int) -> tuple[IpAddress, int] | None:
        """The locator of a flow; families as bits: 1 is IPv4, 2 is IPv6."""
        remote = lib.lm_locator_choose(self._set, families, flow)
        return None if remote == ffi.NULL else (read_address(remote.address), remote.port)


class Table:
    """The C forwarding table with the methods of oracle.Table."""

    def __init__(self) -> None:
        self._table = ffi.gc(lib.lm_table_new(key((1, 2))), lib.lm_table_free)

    def __len__(self) -> int:
        return int(lib.lm_table_count(self._table))

    def insert(self, prefix: EidPrefix) -> None:
        assert lib.lm_table_insert(self._table, prefixes([prefix])[0]) != ffi.NULL

    def remove(self, prefix: EidPrefix) -> bool:
        return bool(lib.lm_table_remove(self._table, prefixes([prefix])[0]))

    def lookup_length(self, instance_id: int, address: IpAddress) -> int | None:
        wanted = ffi.new("struct lm_addr *")
        put_address(wanted, address)
        found = lib.lm_table_lookup(self._table, instance_id, wanted)
        return None if found == ffi.NULL else int(found.length)

    def lookup_lengths(self, wanted: list[tuple[int, IpAddress]]) -> list[int | None]:
        """Look up many (Instance-ID, address) pairs at once."""
        addresses = ffi.new("struct lm_addr[]", len(wanted))
        queries = ffi.new("struct lm_query[]", len(wanted))
        for (instance_id, address), c, query in zip(wanted, addresses, queries, strict=True):
            put_address(c, address)
            query.instance_id, query.address = instance_id, ffi.addressof(c)
        for at in range(0, len(wanted), lib.LM_QUERIES_MAX):
            lib.lm_table_lookup_many(self._table, queries + at, min(lib.LM_QUERIES_MAX, len(wanted) - at))
        return [None if query.entry == ffi.NULL else int(query.entry.length) for query in queries]

    def settle(self) -> bool:
        return bool(lib.lm_table_settle(self._table))

    def memory(self) -> int:
        return int(lib.lm_table_memory(self._table))

    def has_instance(self, instance_id: int) -> bool:
        return bool(lib.lm_table_has_instance(self._table, instance_id))
