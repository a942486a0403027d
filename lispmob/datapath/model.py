"""The input and output values of the datapath: plain values that any module may import."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress

DATA_PORT = 4341  # RFC 9300 section 4.1
DEFAULT_TUN_MTU_BYTES = 1440  # 1500 less IPv6, UDP and LISP headers, with room for one more option


class Disposition(Enum):
    """What happens to packets of an entry; the values are the names in C (enum lm_disposition)."""

    ENCAPSULATE = "LM_ENCAPSULATE"
    DROP = "LM_DROP"  # the source gets ICMP host unreachable
    NATIVE = "LM_NATIVE"  # dropped and counted: the kernel's throw route should have sent such packets elsewhere before
    MISS = "LM_MISS"  # ask the control plane, as if there were no entry
    PROHIBIT = "LM_PROHIBIT"  # the source gets ICMP administratively prohibited
    ENCAPSULATE_AND_REPORT = "LM_ENCAPSULATE_AND_REPORT"  # as ENCAPSULATE, and Miss reports the destinations
    DOUBT = "LM_DOUBT"  # as ENCAPSULATE, but the source also gets ICMP host unreachable: no locator answers


class ForwardingLocator(msgspec.Struct, frozen=True):
    """A remote RLOC; priority 255: must not be used.

    With a `source`, packets leave from that local address and by the socket with descriptor `socket`: a NAT in between
    lets answers in to its port. With a `source` and no socket, the uplink of that address sends there past its relays,
    and other uplinks ignore the source. `is_relay`: an RTR; packets for the peer behind it are sealed from EID to EID,
    and the RTR reads only addresses.
    """

    address: IpAddress
    priority: int = 1
    weight: int = 100
    port: int = DATA_PORT
    source: IpAddress | None = None
    socket: int = -1
    is_relay: bool = False
    is_on_trial: bool = False
    """Announced by the peer alone: a limited number of packets is sealed for it until this is cleared."""


MtuSourceName: TypeAlias = Literal["icmp", "unproven", "interface"]
SourceCheck: TypeAlias = Literal["off", "loose", "strict"]
"""Which inner sources are accepted: all; those that no mapping contradicts; those whose mapping names the sender."""


class Near(msgspec.Struct, frozen=True):
    """The addresses near us, for the check of sources.

    `own`: of this host, which sends us nothing. `links`: the networks of the uplinks, which contain no peer's EID.
    `proxies`: PITRs, PETRs and RTRs, which may forward packets from any source.
    """

    own: frozenset[IpAddress] = frozenset()
    links: frozenset[EidPrefix] = frozenset()
    proxies: frozenset[IpAddress] = frozenset()


DataPortName: TypeAlias = Literal["pool", "fixed", "ephemeral"]
"""The port of data: any, 4341, or one that the kernel chose for this address and that also receives."""


class Traversal(msgspec.Struct, frozen=True):
    """What a NAT in front of one address requires. With `relays`, everything goes to them and comes from them."""

    data_port: DataPortName = "pool"
    relays: tuple[ForwardingLocator, ...] = ()
    is_usable: bool = True  # False: no useful packet can be sent yet; packets wait
    admits_others: bool = False  # data may also come from others than the relays
    passes_zero: bool = False  # the RTRs also receive packets with a zero UDP checksum
    needs_sums: bool = False  # a firewall drops packets with a zero UDP checksum


class Uplink(msgspec.Struct, frozen=True):
    """An interface to send from. Priority 255: receives only. Packets leave from the first address of each family."""

    ifindex: int
    interface: str
    addresses: tuple[IpAddress, ...]
    priority: int = 1
    weight: int = 100
    mtu_bytes: int = 1500
    traversal: Mapping[IpAddress, Traversal] = msgspec.field(default_factory=dict)  # by address; empty: no NAT


class UplinkRefused(msgspec.Struct, frozen=True):
    """An uplink's address that the kernel refused; `errno` says why."""

    interface: str
    address: IpAddress
    errno: int


class ForwardingEntry(msgspec.Struct, frozen=True):
    """One line of the forwarding table; the longest prefix decides.

    `peer`: packets are sealed for it while there is a key; 0: they leave in clear. `must_seal`: they never leave in
    clear. They wait for the key of the peer as for a mapping; without a peer they are dropped. `map_version`: that of
    the peer's mapping, sent in sealed packets beside our own (RFC 9302); 0: it has none, and packets carry no versions.
    """

    prefix: EidPrefix
    disposition: Disposition
    locators: tuple[ForwardingLocator, ...] = ()
    peer: int = 0
    must_seal: bool = False
    map_version: int = 0


AeadName: TypeAlias = Literal["aes-128-gcm", "chacha20-poly1305"]
SessionSlot: TypeAlias = Literal["older", "previous", "current", "earlier", "next"]
SESSION_KEY_OCTETS: Final = 32
_INDEX_MAX: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SealedSession:
    """One key pair of one peer. A peer may have three: the previous one receives, the next one is not confirmed yet.

    `peer`: a number that the control plane chooses, 1 to 2^32 - 1. `local_index` is in the packets that come to us,
    `remote_index` in those that we send; neither is 0. Keys have 32 octets, of which AES-128-GCM uses the first 16.
    `sources`: the inner sources that the peer may send; none: any that has no session of its own, as a hub may.
    `is_confirmed`: we were the initiator, and may send; else the first packet that opens confirms.
    """

    peer: int
    local_index: int
    remote_index: int
    send_key: bytes = dataclasses.field(repr=False)
    receive_key: bytes = dataclasses.field(repr=False)
    aead: AeadName
    instance_id: int
    sources: tuple[EidPrefix, ...]
    is_confirmed: bool

    def __post_init__(self) -> None:
        for name, value in (
            ("peer", self.peer),
            ("local_index", self.local_index),
            ("remote_index", self.remote_index),
        ):
            if not 1 <= value <= _INDEX_MAX:
                raise ValueError(f"{name} {value}: 1 to {_INDEX_MAX}")
        if len(self.send_key) != SESSION_KEY_OCTETS or len(self.receive_key) != SESSION_KEY_OCTETS:
            raise ValueError(f"a key of a session has {SESSION_KEY_OCTETS} octets")


class SessionUse(msgspec.Struct, frozen=True):
    """The use of a session so far; `last_opened_s`: seconds since a packet was opened, None: none was."""

    peer: int
    local_index: int
    slot: SessionSlot
    sent_packets: int
    opened_packets: int
    age_s: float
    last_opened_s: float | None


class EngineConfig(msgspec.Struct, frozen=True):
    """How an engine works from start to end; anything that changes meanwhile has a method.

    Role "node": only our EIDs send and receive. Role "proxy": packets of any source leave, in `proxy_instance_id`, and
    arriving packets are delivered if their inner source is registered at the outer source.
    """

    tun_name: str
    eids: tuple[EidPrefix, ...] = ()
    role: Literal["node", "proxy"] = "node"
    data_port: int = DATA_PORT
    source_port_pool: int = 8
    udp_checksum: bool = False
    copy_dscp: bool = True
    pending_per_entry: int = 16
    pending_total: int = 256
    pending_age_s: float = 3.0
    tun_mtu_bytes: int = DEFAULT_TUN_MTU_BYTES
    proxy_instance_id: int = 0
    is_rtr: bool = False  # a proxy that forwards packets between registered EIDs itself
    mark: int = 0  # SO_MARK on outer packets, 0: none
    mark_mask: int = 0  # the bits of packet marks that name an uplink; 0: no lanes
    offload: bool = True  # super-packets on the TUN device
    source_check: SourceCheck = "off"  # role node: the check of inner sources; lispd uses "loose"
    pin_threads: bool = False  # one processor for each thread, the last ones that this process may use

    def __post_init__(self) -> None:
        if not 1 <= self.source_port_pool <= 64:
            raise ValueError(f"source_port_pool {self.source_port_pool}: 1 to 64")
        if not 1 <= self.pending_total <= 65536 or self.pending_per_entry < 1:
            raise ValueError("pending_total: 1 to 65536, pending_per_entry: at least 1")


class Miss(msgspec.Struct, frozen=True):
    """Packets for an EID without mapping; reported once while they wait.

    Packets of an ENCAPSULATE_AND_REPORT entry do not wait. They are reported again after 10 s, and at most 20 times
    a second in all. `nonce`: that of the prepared Map-Request that was sent; 0: none was.
    """

    source: IpAddress
    destination: IpAddress
    instance_id: int
    nonce: int = 0


class ControlPacket(msgspec.Struct, frozen=True):
    """A control message that arrived in the data plane (Instance-ID 0xFFFFFF); `payload` is the inner UDP payload."""

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int
    outer_source: IpAddress
    outer_source_port: int
    outer_destination: IpAddress
    ifindex: int
    is_at_control_port: bool = False
    """It came to an RTR's control port, and is answered from there."""


class MtuLearned(msgspec.Struct, frozen=True):
    """Packets from `local` to a locator are too big: larger than this many octets, including the outer header.

    `source`: "icmp", about a packet of ours; "unproven", ICMP that may be about one, so nothing follows from it yet;
    "interface", the uplink itself refused.
    """

    locator: IpAddress
    mtu_bytes: int
    local: IpAddress
    port: int
    source: MtuSourceName


class LargeSent(msgspec.Struct, frozen=True):
    """Large packets are being sent to a locator, from `local`; reported now and then, for path MTU probes."""

    locator: IpAddress
    local: IpAddress
    port: int


class Heard(msgspec.Struct, frozen=True):
    """Packets came to this RLOC of ours from that outer source, and were delivered."""

    local: IpAddress
    source: IpAddress
    is_proven: bool
    """The mapping of an inner source names the outer one, or a proxy or RTR of ours is it, or the packet was sealed."""


class PathMtu(msgspec.Struct, frozen=True):
    """The largest outer packet from a local address to a remote at present, in octets."""

    local: IpAddress
    locator: IpAddress
    port: int
    mtu_bytes: int


class Traffic(msgspec.Struct, frozen=True):
    """Inner packets and their octets, out and in, since a mapping names the locator."""

    sent: int = 0
    sent_octets: int = 0
    received: int = 0
    received_octets: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        """The sum over two ports of one locator."""
        return Traffic(
            self.sent + other.sent,
            self.sent_octets + other.sent_octets,
            self.received + other.received,
            self.received_octets + other.received_octets,
        )


NO_TRAFFIC: Final = Traffic()


class TrafficResumed(msgspec.Struct, frozen=True):
    """The first packet in one direction after a move; seconds of CLOCK_MONOTONIC, None: there was none before."""

    is_outbound: bool
    at: float
    last_before: float | None


class Silent(msgspec.Struct, frozen=True):
    """Packets to a locator have gone unanswered for the time of set_patience().

    `is_flowing`: packets came from it, or from its group, until now; otherwise the traffic has been one-way for a
    while. `is_alone`: other locators of its group have been heard since.
    """

    locator: IpAddress
    is_flowing: bool
    is_alone: bool = False


class HeardAgain(msgspec.Struct, frozen=True):
    """After Silent: data came from the locator, to this local RLOC."""

    locator: IpAddress
    local: IpAddress


class Stalled(msgspec.Struct, frozen=True):
    """Data was sent from an address with relays, and unanswered for longer than a round trip. Once per silence."""

    address: IpAddress
    ifindex: int


class StatusBits(msgspec.Struct, frozen=True):
    """Data from this inner source says which locators of its mapping are up: the first `width` of them, bit by bit.

    It came from a locator that packets to the source may go to. Reported when the bits change, once a second at most.
    """

    source: IpAddress
    instance_id: int
    outer_source: IpAddress
    bits: int
    width: int


class Echoed(msgspec.Struct, frozen=True):
    """The nonce that ask_echo() put into data to a locator came back to this local RLOC. Reported once."""

    locator: IpAddress
    local: IpAddress


class UnregisteredSource(msgspec.Struct, frozen=True):
    """At an RTR: data whose inner source is not registered at its outer source, or (`is_registered`) at that port."""

    source: IpAddress
    destination: IpAddress
    instance_id: int
    outer_source: IpAddress
    outer_source_port: int
    outer_destination: IpAddress
    is_registered: bool
    is_at_control_port: bool = False


class SourceDoubted(msgspec.Struct, frozen=True):
    """Data came whose inner source has no mapping, or one that does not name the sender. Once in 3 s for a source."""

    source: IpAddress
    instance_id: int
    outer_source: IpAddress


class Refuted(msgspec.Struct, frozen=True):
    """Data came from an EID, at a node, whose entry says DROP, NATIVE, PROHIBIT or DOUBT: the entry may be old.

    Reported once a second for an EID, and at most 20 times a second in all.
    """

    source: IpAddress
    instance_id: int


class SealWanted(msgspec.Struct, frozen=True):
    """Packets leave for a peer without a usable key, or with one that is due for replacement. Once a second at most."""

    peer: int


class ClearHeard(msgspec.Struct, frozen=True):
    """Clear text in the name of a peer whose clear text is refused came, and was dropped. Once a second at most."""

    peer: int


class SealConfirmed(msgspec.Struct, frozen=True):
    """The first packet of an unconfirmed session was opened: we send with it from now on."""

    peer: int
    local_index: int


class Announced(msgspec.Struct, frozen=True):
    """A peer has sealed a control message for us; its EID is `source`."""

    peer: int
    source: IpAddress
    instance_id: int
    payload: bytes


class PeerBehind(msgspec.Struct, frozen=True):
    """A sealed packet says that its sender uses an old mapping of ours (RFC 9302). Once a second at most."""

    peer: int


class PeerAhead(msgspec.Struct, frozen=True):
    """A sealed packet from this source says that its mapping is newer than the one here. Once a second at most."""

    peer: int
    source: IpAddress
    instance_id: int


class SealedFrom(msgspec.Struct, frozen=True):
    """An opened sealed packet came from another outer source than the one before. A hint; once a second at most."""

    peer: int
    outer_source: IpAddress
    outer_source_port: int
    local: IpAddress


Punt: TypeAlias = (
    Miss
    | ControlPacket
    | MtuLearned
    | LargeSent
    | TrafficResumed
    | Silent
    | HeardAgain
    | Stalled
    | UnregisteredSource
    | StatusBits
    | Echoed
    | SourceDoubted
    | Refuted
    | SealWanted
    | ClearHeard
    | SealConfirmed
    | SealedFrom
    | Announced
    | PeerBehind
    | PeerAhead
)

# The datapath's counters of dropped packets; the others count what was done, noticed or kept.
LOSSES: Final = frozenset(
    {
        "data_short",
        "data_key",
        "data_replay",
        "data_tag",
        "data_clear",
        "data_policy",
        "data_iid",
        "data_inner",
        "data_notours",
        "data_source",
        "data_denied",
        "data_local",
        "data_near",
        "data_unknown_limited",
        "data_control_limited",
        "data_ecn_drop",
        "data_ttl",
        "in_truncated",
        "in_refused",
        "out_inner",
        "out_source",
        "out_guard",
        "out_ttl",
        "out_pending_full",
        "out_pending_aged",
        "out_pending_failed",
        "out_unsealed",
        "out_drop",
        "out_native",
        "out_nolocator",
        "out_mark_drop",
        "out_stalled_full",
        "out_stalled_aged",
        "out_busy",
        "out_busy_aged",
        "out_toobig",
    }
)
