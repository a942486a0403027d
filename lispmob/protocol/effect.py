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

DispositionName: TypeAlias = Literal["ENCAPSULATE", "DROP", "NATIVE", "MISS", "PROHIBIT", "TELL", "DOUBT"]
"""DROP: the source gets an ICMP error. TELL: encapsulate, and say where the packets go, each destination now and then.
DOUBT: encapsulate, and the source gets an ICMP error too: no locator answers, but probes may be lost where data is not.
"""
EventValue: TypeAlias = str | int | float | bool | list[str] | None


class SendControl(msgspec.Struct, frozen=True):
    """Send one control datagram from port 4342. `source` None and `ifindex` 0 leave the choice to the kernel.

    `has_checksum` False: with a UDP checksum of zero; over IPv4 only. `is_whole`: in one piece or not at all (DF), and
    whatever the kernel believes of the path MTU.
    """

    payload: bytes
    destination: IpAddress
    port: int = CONTROL_PORT
    source: IpAddress | None = None
    ifindex: int = 0
    has_checksum: bool = True
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class UsableLocator:
    """A locator that may be sent to: reachable, priority below 255, a plain address of a family we have."""

    address: IpAddress
    priority: int
    weight: int
    port: int = DATA_PORT
    source: IpAddress | None = None
    """At an RTR: the address of ours, and with `source_port` the port, that the NAT on the way lets answers in from.
    At a node: by the uplink with this address, past its RTR; by every other one as if it were not said.
    """
    source_port: int = 0
    is_relay: bool = dataclasses.field(default=False, compare=False)
    """An RTR, with the peer behind it: what is sealed for the peer goes from EID to EID in what the RTR reads."""
    is_on_trial: bool = False
    """The peer alone says that it is there: some packets go there, and no more until it has answered."""


class InstallMapping(msgspec.Struct, frozen=True):
    """Add or replace one entry of the forwarding table. Every decision is made: the datapath only obeys.

    `locators` is sorted by priority, and empty unless the disposition is ENCAPSULATE, TELL or DOUBT. `sources`: where
    else data from this prefix may come from, though nothing is sent there. `peer`: whose session its packets are sealed
    by, 0: nobody's. `must_seal`: nothing leaves in clear, so packets wait, and are dropped, while there is no session.
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
    """Take one entry out of the forwarding table."""

    prefix: EidPrefix


class DropPending(msgspec.Struct, frozen=True):
    """Packets that wait for this prefix will get no mapping: throw them away and count them under `reason`."""

    prefix: EidPrefix
    reason: str


class Event(msgspec.Struct, frozen=True):
    """Something worth telling: the log, the event stream and the handover timeline read these."""

    kind: str
    fields: Mapping[str, EventValue] = msgspec.field(default_factory=dict)


class UplinkChanged(msgspec.Struct, frozen=True):
    """One of our RLOCs reaches nobody, while others reach the same locators; or it reaches somebody again."""

    local: IpAddress
    is_up: bool


class UplinksRanked(msgspec.Struct, frozen=True):
    """Another uplink is preferred now: send by the ranks of the moment."""


class WatchForSilence(msgspec.Struct, frozen=True):
    """Tell us when data sent to this locator has gone without an answer for so long; None: no more.

    `one_sided_s` counts instead for traffic that nothing has come back from for a while. Those with one `head` belong
    to one peer, who may answer from any of them.
    """

    remote: IpAddress
    patience_s: float | None
    one_sided_s: float = 0.0
    head: IpAddress | None = None


class UsePathMtu(msgspec.Struct, frozen=True):
    """Outer packets from an address of ours to this locator and port are to be no larger; 0: as the uplink has it."""

    local: IpAddress
    remote: IpAddress
    port: int
    mtu_bytes: int


class UseStatusBits(msgspec.Struct, frozen=True):
    """What Locator-Status-Bits in data are used for: `heeds`, report those of others; `told`, what is said of ours."""

    heeds: bool
    told: int | None


class AskForEcho(msgspec.Struct, frozen=True):
    """Let data to this locator ask for these 24 bits until they come back; None: no more."""

    remote: IpAddress
    nonce: int | None


class NameResolved(msgspec.Struct, frozen=True):
    """What the mapping system says of a name, in small letters: the EIDs of its host, or none; `why` is for people.

    `is_answered` False: nobody could say whether there is such a name. `names`: those of the host, where the name that
    was asked for is the reverse name of an EID.
    """

    name: bytes
    eids: tuple[IpAddress, ...]
    why: str
    is_answered: bool = True
    names: tuple[bytes, ...] = ()


class MappingWanted(msgspec.Struct, frozen=True):
    """Somebody should say where `asked` is; `tries` counts how often that was said. A program may answer.

    `why` is the reason of the lookup ("miss", "refresh", "smr", "doubt"); `source` our EID that has packets for it.
    """

    asked: EidPrefix
    source: IpAddress | None
    why: str
    tries: int


class MappingChanged(msgspec.Struct, frozen=True):
    """The map-cache has this entry now, or another content of it ("change"), or has it no more."""

    what: Literal["add", "change", "delete"]
    prefix: EidPrefix
    source: str
    locators: tuple[Locator, ...]
    action: Action | int
    why: str = ""


AeadName: TypeAlias = Literal["aes-128-gcm", "chacha20-poly1305"]


@dataclass(frozen=True, slots=True)
class InstallSession:
    """Seal for this peer, and open what comes with `local_index`. Keys: 16 octets of AES-128-GCM, 32 of ChaCha20.

    `sources`: the EID-Prefixes that packets which open may come from. `is_confirmed`: the peer is known to have it too;
    else it is used for sending once a packet has opened.
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
    """What opens with this session may come from these EID-Prefixes from now on: more of its peer's are known."""

    local_index: int
    sources: tuple[EidPrefix, ...]


class ForgetSession(msgspec.Struct, frozen=True):
    """Overwrite the keys of one session."""

    local_index: int


class ForgetPeer(msgspec.Struct, frozen=True):
    """Overwrite the keys of all sessions with a peer."""

    peer: int


class RefuseClear(msgspec.Struct, frozen=True):
    """Clear packets with an inner source in these, all of them and no others, are dropped."""

    prefixes: tuple[EidPrefix, ...]


class UseMapVersion(msgspec.Struct, frozen=True):
    """Sealed packets say this Map-Version Number of ours from now on, and that of the peer; 0: neither."""

    number: int


class SendKeepalive(msgspec.Struct, frozen=True):
    """Send an empty sealed packet to this peer."""

    peer: int


class SendSealed(msgspec.Struct, frozen=True):
    """Send a control message to this peer in a sealed packet, from EID to EID; nothing while there is no session."""

    peer: int
    payload: bytes


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
    | MappingWanted
    | MappingChanged
    | InstallSession
    | SetSessionSources
    | ForgetSession
    | ForgetPeer
    | RefuseClear
    | SendKeepalive
    | SendSealed
    | UseMapVersion
)
"""What a node hands to the daemon."""


class Count(msgspec.Struct, frozen=True):
    """Add 1 to a counter of the node; the names of refused input are those of the error catalogue ("rx_auth")."""

    name: str


class RegistrationConfirmed(msgspec.Struct, frozen=True):
    """A Map-Server holds our present locators; `tries` Map-Registers were needed. `is_change`: not a mere refresh."""

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
    """LISP-SEC has shown that the mapping system and the ETR say so."""
    may_be_stale: bool = False
    """Somebody says that the EID has moved, and this may be from before that."""
    times_again: int = 0
    is_named: bool = False
    """A locator of the mapping itself has had us ask."""


class LookupFailed(msgspec.Struct, frozen=True):
    """Nobody answered for `asked`. `why` is a word for counters and people ("unanswered", "no-locator")."""

    asked: EidPrefix
    reason: str
    why: str


class RefreshNeeded(msgspec.Struct, frozen=True):
    """A mapping in use has come close to the end of its TTL, or is no longer trusted: ask for it again."""

    prefix: EidPrefix


class FollowUpDue(msgspec.Struct, frozen=True):
    """Some seconds after a move: solicit the peers again, wherever they are now, and ask where they are."""


class PathChanged(msgspec.Struct, frozen=True):
    """One pair went down or came up."""

    local: IpAddress
    remote: IpAddress
    is_up: bool


class ReachabilityChanged(msgspec.Struct, frozen=True):
    """A remote locator cannot be reached from any RLOC of ours any more, or it can again."""

    remote: IpAddress
    is_up: bool


class WayAnswered(msgspec.Struct, frozen=True):
    """A question to the mapping system, or to an RTR, left by this locator of ours and was answered."""

    local: IpAddress
    ifindex: int
    rtt_s: float


class WaysInDoubt(msgspec.Struct, frozen=True):
    """Something that should have been answered was not: which of our uplinks still lead anywhere?"""


class WitnessWanted(msgspec.Struct, frozen=True):
    """Do the RTRs still answer? Then the uplinks without one that are silent are dead, and not the world."""


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
"""What a machine hands to the node, which routes the additional kinds to the inputs of other machines."""
