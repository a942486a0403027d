"""What the parts of the daemon know at one moment, as far as it may be a problem. Texts are fit to be shown."""

from __future__ import annotations

import msgspec

from lispmob.control.diagnosis import Finding
from lispmob.problems.problem import Problem


class RegistrationEvidence(msgspec.Struct, frozen=True):
    """One EID-Prefix at one Map-Server.

    `tries`: Map-Registers since the last Map-Notify. `is_resting`: none is sent, for want of an uplink that could send
    it. `is_private`: the address that it is sent from is one that a NAT has to translate. `refusal`: what a Map-Notify
    said against it. `shared`: what one said of another node with this EID. `ever`: it stood once since lispd started.
    `on_link`: the network of an uplink in which the Map-Server's address lies, as text.
    """

    eid: str
    server: str
    stands: bool = False
    tries: int = 0
    is_resting: bool = False
    is_private: bool = False
    finding: Finding | None = None
    refusal: str | None = None
    shared: str | None = None
    ever: bool = False
    on_link: str | None = None


class SpoiledEvidence(msgspec.Struct, frozen=True):
    """Data to port 4341 of an RTR is lost, or (`is_by_nat`) comes from another outside address than registers.

    `goes_on`: port 4342 of the RTR takes the data instead. `is_spared`: another uplink does.
    """

    rtr: str
    is_by_nat: bool
    goes_on: bool
    is_spared: bool = False


class AddressEvidence(msgspec.Struct, frozen=True):
    """One address of an uplink.

    `is_silent`: no peer is reached from it, while others reach the same locators. `unheard_by`: locators of peers that
    get no data from it, where no peer gets any. `stranded`: it is behind a NAT, and why there is no RTR. `failed_rtr`:
    the RTR that it needs and that does not answer. `deaf_rtr`: the one that confirms its registers and passes nothing
    on to it. `spoiled`: what is wrong with data to its RTR. `translated_to`: the IPv4 address that the Map-Server sees
    in place of this IPv6 one. `nat64`: the prefix of the translator to IPv4 that is tried; `nat64_answers`: whether a
    Map-Server answers by it, None: not known yet.
    """

    interface: str
    address: str
    is_silent: bool = False
    unheard_by: tuple[str, ...] = ()
    translated_to: str | None = None
    stranded: str | None = None
    failed_rtr: str | None = None
    deaf_rtr: str | None = None
    spoiled: SpoiledEvidence | None = None
    nat64: str | None = None
    nat64_answers: bool | None = None


class DuplicateAddress(msgspec.Struct, frozen=True):
    """An address that the kernel does not use, because another host on the link has it."""

    interface: str
    address: str


class OwnEidEvidence(msgspec.Struct, frozen=True):
    """An uplink's address, or its gateway's, that lies inside an EID-Prefix of ours."""

    interface: str
    address: str
    eid: str
    is_gateway: bool = False


class InsideEvidence(msgspec.Struct, frozen=True):
    """A mapping, of a peer, inside an EID-Prefix of ours."""

    eid: str
    own: str


class UnusedInterface(msgspec.Struct, frozen=True):
    """An interface that could be an uplink and is none, with the reason.

    `eid_inside`: an EID of ours that lies inside its network, where it has no default route of that family; else "".
    """

    name: str
    note: str
    wants_login: bool = False
    eid_inside: str = ""


class RefusedEvidence(msgspec.Struct, frozen=True):
    """What an interface would send in a family ends at a route or a rule of the host that refuses; `by` names it."""

    interface: str
    family: int
    by: str


class NameEvidence(msgspec.Struct, frozen=True):
    """A server's host name that is not found, and why. `has_addresses`: those of earlier stay in use."""

    name: str
    role: str
    why: str
    has_addresses: bool = False


class PeerEvidence(msgspec.Struct, frozen=True):
    """A mapping in use, none of whose locators answers."""

    eid: str
    locators: tuple[str, ...]


class DetourEvidence(msgspec.Struct, frozen=True):
    """A peer whose packets this host routes by another interface, past the overlay."""

    eid: str
    interface: str


class FilteredEvidence(msgspec.Struct, frozen=True):
    """Data to a peer's locator that vanishes where probes pass. `is_out` False: it gets there and not back.

    `is_spared`: none is sent there any more, because another locator of the peer carries it.
    """

    eid: str
    locator: str
    is_out: bool
    is_spared: bool = False


class NarrowEvidence(msgspec.Struct, frozen=True):
    """An address of ours from which packets larger than `mtu_bytes` vanish without a word, towards `remotes`."""

    address: str
    mtu_bytes: int
    remotes: tuple[str, ...]


class LossEvidence(msgspec.Struct, frozen=True):
    """A path from one of our addresses to a peer that works and loses a share of the probes, over the last `over_s`."""

    interface: str
    eid: str
    remote: str
    share: float
    over_s: float


class Evidence(msgspec.Struct, frozen=True):
    """All of it. `reported`: what a part found out by itself, as the problem that it is.

    `families`: those of the uplinks' addresses, of 4 and 6. `seeks_translator`: uplinks have IPv6 only, and whether
    their network translates is being found out. `dropped_by_mark`: packets lately dropped because their mark names no
    usable uplink. `chain_refusal`: why the datapath or the policy itself does not take the rules. `is_forbidden`: the
    kernel refuses to send data (EPERM). `refuses_control`: or control messages. `in_vain`: addresses that asked the
    Map-Resolvers, after a peer fell silent, and got no answer anywhere. `unasked`: addresses in whose family there is
    no Map-Resolver. `closed`: servers whose hosts answered lately that no Map-Server listens there. `unheard`:
    Map-Servers that left Map-Requests with LISP-SEC unanswered, and have answered nothing else since. `peers_answer`:
    peers answer probes, so packets to them pass whatever the mapping system does. `steady`: interfaces by which a peer
    is reached that loses no probes. `sending`: all that send. `prefers_loss`: the best of equal ones gets the flows.
    """

    is_starting: bool = False
    is_stopping: bool = False
    families: frozenset[int] = frozenset()
    seeks_translator: bool = False
    addresses: tuple[AddressEvidence, ...] = ()
    duplicates: tuple[DuplicateAddress, ...] = ()
    own_eids: tuple[OwnEidEvidence, ...] = ()
    unused: tuple[UnusedInterface, ...] = ()
    refused: tuple[RefusedEvidence, ...] = ()
    registrations: tuple[RegistrationEvidence, ...] = ()
    names: tuple[NameEvidence, ...] = ()
    peers: tuple[PeerEvidence, ...] = ()
    inside: tuple[InsideEvidence, ...] = ()
    detours: tuple[DetourEvidence, ...] = ()
    filtered: tuple[FilteredEvidence, ...] = ()
    narrow: tuple[NarrowEvidence, ...] = ()
    lossy: tuple[LossEvidence, ...] = ()
    steady: frozenset[str] = frozenset()
    sending: tuple[str, ...] = ()
    prefers_loss: bool = False
    chain_refusal: str | None = None
    has_rules: bool = False
    state_refusal: str | None = None
    dropped_by_mark: int = 0
    is_forbidden: bool = False
    refuses_control: bool = False
    in_vain: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    unheard: frozenset[str] = frozenset()
    peers_answer: bool = False
    reported: tuple[Problem, ...] = ()
