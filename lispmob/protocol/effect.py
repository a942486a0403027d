"""Everything a machine may ask for or report. Frozen values: the daemon performs them, the tests compare them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Action, Locator, MappingRecord

CONTROL_PORT = 4342  # RFC 9301, 4: LISP control
DATA_PORT = 4341  # RFC 9300, 4.1: LISP data

DispositionName: TypeAlias = Literal[
    "ENCAPSULATE", "DROP", "NATIVE", "MISS", "PROHIBIT", "ENCAPSULATE_AND_REPORT", "DOUBT"
]
"""DROP: the source gets an ICMP error. TELL: encapsulate, and report the destinations of the packets, each now and
then. DOUBT: encapsulate, but also send the source an ICMP error: no locator answers, though probes may be lost where
data is not.
"""
EventValue: TypeAlias = str | int | float | bool | list[str] | None


class SendControl(msgspec.Struct, frozen=True):
    """Send one control datagram from port 4342. `source` None and `ifindex` 0 leave the choice to the kernel.

    `has_checksum` False: UDP checksum of zero. `is_whole`: do not fragment (DF), and ignore the
    kernel's path MTU.
    """

    payload: bytes
    destination: IpAddress
    port: int = CONTROL_PORT
    source: IpAddress | None = None
    ifindex: int = 0
    has_checksum: bool = True
    is_whole: bool = False


class PreparedRequest(msgspec.Struct, frozen=True):
    """A Map-Request without its two EIDs: zeros are in their place, and it ends with the one that is asked for.

    `family` and `instance_id` are those of the EIDs. `inner`: where the inner IP header begins; `source_at`: the source
    EID's address in the Map-Request.
    """

    nonce: int
    instance_id: int
    family: int
    message: SendControl
    inner: int
    source_at: int


class UsePrepared(msgspec.Struct, frozen=True):
    """The datapath may send these when it has no mapping for a packet; each once. `replaces`: and no others."""

    requests: tuple[PreparedRequest, ...]
    replaces: bool


class PreparedSent(msgspec.Struct, frozen=True):
    """The datapath has sent this message, with the EIDs filled in."""

    message: SendControl


@dataclass(frozen=True, slots=True)
class UsableLocator:
    """A locator that can be used: reachable, priority below 255, an ordinary address of a family that we have."""

    address: IpAddress
    priority: int
    weight: int
    port: int = DATA_PORT
    source: IpAddress | None = None
    """At an RTR: our address, and with `source_port` our port, that the NAT in between lets replies in from. At a node:
    use the uplink with this address, past its RTR; other uplinks ignore it.
    """
    source_port: int = 0
    is_relay: bool = dataclasses.field(default=False, compare=False)
    """Behind an RTR: packets sealed for the peer travel from EID to EID inside the packets that the RTR opens."""
    is_on_trial: bool = False
    """Only the peer itself has announced this locator: it gets a limited number of packets until it has answered."""


class InstallMapping(msgspec.Struct, frozen=True):
    """Add or replace one forwarding entry. All decisions are in it; the datapath only applies them.

    `locators` is sorted by priority, and empty unless the disposition is ENCAPSULATE, TELL or DOUBT. `sources`: other
    addresses that data from this prefix may come from; nothing is sent there. `peer`: the peer whose session seals the
    packets; 0: no session. `must_seal`: send nothing in clear; without a session packets wait, and are dropped in the
    end.
    """

    prefix: EidPrefix
    disposition: DispositionName
    locators: tuple[UsableLocator, ...] = ()
    sources: tuple[IpAddress, ...] = ()
    peer: int = 0
    must_seal: bool = False
    map_version: int = 0
    """Of the mapping that it comes from (RFC 9302); 0: it has none."""


class RemoveMapping(msgspec.Struct, frozen=True):
    """Remove one forwarding entry."""

    prefix: EidPrefix


class DropPending(msgspec.Struct, frozen=True):
    """No mapping will be found for this prefix: drop its waiting packets and count them under `reason`."""

    prefix: EidPrefix
    reason: str


class Event(msgspec.Struct, frozen=True):
    """An event for the log, the event stream and the handover timeline."""

    kind: str
    fields: Mapping[str, EventValue] = msgspec.field(default_factory=dict)


class UplinkChanged(msgspec.Struct, frozen=True):
    """One of our RLOCs reaches nothing, while others reach the same locators; or it works again."""

    local: IpAddress
    is_up: bool


class UplinksRanked(msgspec.Struct, frozen=True):
    """Another uplink is preferred: send by the current ranks."""


class WatchForSilence(msgspec.Struct, frozen=True):
    """Report when data to this locator has gone unanswered for this long; None: stop.

    `one_sided_s` applies instead to traffic that has had no return traffic for a while. Locators with the same `head`
    belong to one peer, which may answer from any of them.
    """

    remote: IpAddress
    patience_s: float | None
    one_sided_s: float = 0.0
    head: IpAddress | None = None


class UsePathMtu(msgspec.Struct, frozen=True):
    """Limit outer packets from this local address to this locator and port; 0: the MTU of the uplink applies."""

    local: IpAddress
    remote: IpAddress
    port: int
    mtu_bytes: int


class UseStatusBits(msgspec.Struct, frozen=True):
    """The use of Locator-Status-Bits in data. `accepts`: report the bits of others. `bits`: those that we send."""

    accepts: bool
    bits: int | None


class AskForEcho(msgspec.Struct, frozen=True):
    """Data to this locator carries this 24-bit nonce with the E bit until it comes back; None: stop."""

    remote: IpAddress
    nonce: int | None


class NameResolved(msgspec.Struct, frozen=True):
    """The mapping system's answer for a name, in lower case: the EIDs of its host, or none; `why` is for display.

    `is_answered` False: no answer came, so the name may or may not exist. `names`: the names of the host, if the query
    was for the reverse name of an EID.
    """

    name: bytes
    eids: tuple[IpAddress, ...]
    why: str
    is_answered: bool = True
    names: tuple[bytes, ...] = ()


class MappingWanted(msgspec.Struct, frozen=True):
    """A mapping for `asked` is wanted. `tries` counts the repetitions. A client may supply it.

    `why` is the reason of the lookup ("miss", "refresh", "smr", "doubt"); `source` is our EID that has packets for it.
    """

    asked: EidPrefix
    source: IpAddress | None
    why: str
    tries: int


class MappingChanged(msgspec.Struct, frozen=True):
    """The map-cache has a new entry, or changed it ("change"), or deleted it."""

    what: Literal["add", "change", "delete"]
    prefix: EidPrefix
    source: str
    locators: tuple[Locator, ...]
    action: Action | int
    why: str = ""


AeadName: TypeAlias = Literal["aes-128-gcm", "chacha20-poly1305"]


@dataclass(frozen=True, slots=True)
class InstallSession:
    """Seal for this peer, and open packets that carry `local_index`. Keys: 16 octets of AES-128-GCM, 32 of ChaCha20.

    `sources`: the EID-Prefixes that opened packets may come from. `is_confirmed`: the peer is known to have the session
    too. Otherwise it is used for sending once a packet has opened with it.
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


class SetSessionSources(msgspec.Struct, frozen=True):
    """Packets that open with this session may come from these EID-Prefixes from now on: more are known."""

    local_index: int
    sources: tuple[EidPrefix, ...]


class ForgetSession(msgspec.Struct, frozen=True):
    """Overwrite the keys of one session."""

    local_index: int


class ForgetPeer(msgspec.Struct, frozen=True):
    """Overwrite the keys of all sessions with a peer."""

    peer: int


class RefuseClear(msgspec.Struct, frozen=True):
    """Drop clear packets with an inner source in exactly these prefixes. Replaces the former list."""

    prefixes: tuple[EidPrefix, ...]


class UseMapVersion(msgspec.Struct, frozen=True):
    """Sealed packets say this Map-Version Number of ours from now on, and that of the peer; 0: neither."""

    number: int


@dataclass(frozen=True, slots=True)
class UseDialect:
    """Encrypt packets to a locator that may leave in clear (`seals`), or open those from it, as others do it.

    `suite`: 2 or 5 of lispers.net, 5 of RFC 8061. `key_id`: 1 to 3. `start`: the first IV of lispers.net.
    """

    locator: IpAddress
    dialect: Literal["rfc8061", "lispers-net"]
    suite: int
    key_id: int
    seals: bool
    key: bytes = dataclasses.field(repr=False)
    integrity: bytes = dataclasses.field(repr=False)
    start: int = dataclasses.field(default=0, repr=False)


class ForgetDialect(msgspec.Struct, frozen=True):
    """Overwrite the keys for packets to a locator (`seals`), or from it."""

    locator: IpAddress
    seals: bool


class SendKeepalive(msgspec.Struct, frozen=True):
    """Send an empty sealed packet to this peer."""

    peer: int


class SendSealed(msgspec.Struct, frozen=True):
    """Send a control message to this peer in a sealed packet, from EID to EID; does nothing without a session.

    `remote`: the locator that it goes to; None: by the path of the peer's packets.
    """

    peer: int
    payload: bytes
    remote: IpAddress | None = None


SealEffect: TypeAlias = (
    InstallSession
    | SetSessionSources
    | ForgetSession
    | ForgetPeer
    | RefuseClear
    | SendKeepalive
    | SendSealed
    | UseMapVersion
    | UseDialect
    | ForgetDialect
)
"""The effects on sealed data and on encryption to others, which one adapter performs."""

Effect: TypeAlias = (
    SendControl
    | InstallMapping
    | RemoveMapping
    | DropPending
    | Event
    | WatchForSilence
    | UplinkChanged
    | UplinksRanked
    | UseStatusBits
    | AskForEcho
    | UsePathMtu
    | NameResolved
    | UsePrepared
    | PreparedSent
    | MappingWanted
    | MappingChanged
    | SealEffect
)
"""The effects that a node returns to the daemon."""


class Count(msgspec.Struct, frozen=True):
    """Add 1 to a counter of the node; counters of refused input have the names of the error catalogue ("rx_auth")."""

    name: str


class RegistrationConfirmed(msgspec.Struct, frozen=True):
    """A Map-Server holds our current locators, after `tries` Map-Registers. `is_change`: not a mere refresh."""

    eid: EidPrefix
    map_server: IpAddress
    tries: int
    is_change: bool


class MappingLearned(msgspec.Struct, frozen=True):
    """The mapping system answered for `asked`: records that passed every acceptance rule."""

    asked: EidPrefix
    records: tuple[MappingRecord, ...]
    reason: str
    rtt_ms: float
    is_genuine: bool = False
    """LISP-SEC has authenticated the mapping system and the ETR."""
    may_be_stale: bool = False
    """The EID is said to have moved, and this answer may be older than the move."""
    times_again: int = 0
    is_named: bool = False
    """A locator of the mapping itself made us ask."""


class LookupFailed(msgspec.Struct, frozen=True):
    """No answer came for `asked`. `why` is a word for counters and display ("unanswered", "no-locator")."""

    asked: EidPrefix
    reason: str
    why: str


class RefreshNeeded(msgspec.Struct, frozen=True):
    """A mapping in use has come close to the end of its TTL, or is no longer trusted: ask for it again."""

    prefix: EidPrefix


class FollowUpDue(msgspec.Struct, frozen=True):
    """Some seconds after a move: send SMRs to the peers at their current locators, and look them up."""


class PathChanged(msgspec.Struct, frozen=True):
    """One pair went down or came up."""

    local: IpAddress
    remote: IpAddress
    is_up: bool


class ReachabilityChanged(msgspec.Struct, frozen=True):
    """A remote locator has become unreachable from all our RLOCs, or reachable again."""

    remote: IpAddress
    is_up: bool


class WayAnswered(msgspec.Struct, frozen=True):
    """A request to the mapping system or to an RTR left by this local locator and was answered."""

    local: IpAddress
    ifindex: int
    rtt_s: float


class WaysInDoubt(msgspec.Struct, frozen=True):
    """An expected answer is missing: check which uplinks still work."""


class WitnessWanted(msgspec.Struct, frozen=True):
    """Ask the RTRs for an answer. If they answer, silent uplinks without an RTR are dead, and the network is not."""


MachineEffect: TypeAlias = (
    Effect
    | Count
    | RegistrationConfirmed
    | MappingLearned
    | LookupFailed
    | RefreshNeeded
    | FollowUpDue
    | PathChanged
    | ReachabilityChanged
    | WayAnswered
    | WaysInDoubt
    | WitnessWanted
)
"""The effects that a machine returns to the node. The node routes the additional kinds to other machines."""
