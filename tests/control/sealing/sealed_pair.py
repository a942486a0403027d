"""Two machines of sealed data and the link between them, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from lispmob.control.sealing.handshake_carriage import take_first
from lispmob.control.sealing.machine import Sealing
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import KeptKey, PinnedKey
from lispmob.control.sealing.seal_config import SealConfig, SealMode, SealTools
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count, InstallMapping, InstallSession, MachineEffect, SendControl, UsableLocator
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.control.support import ip, only, prefix
from tests.crypto.support import ciphers

ALICE_KEY = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB_KEY = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_EID, BOB_EID = prefix("10.1.0.1/32"), prefix("10.2.0.7/32")
ALICE_RLOC, BOB_RLOC = ip("198.51.100.1"), ip("203.0.113.7")


class Memory:
    """A state directory in memory."""

    def __init__(self) -> None:
        self.keys: dict[EidPrefix, KeptKey] = {}
        self.times: dict[bytes, int] = {}

    def load_keys(self) -> Mapping[EidPrefix, KeptKey]:
        return dict(self.keys)

    def save_keys(self, keys: Mapping[EidPrefix, KeptKey]) -> None:
        self.keys = dict(keys)

    def load_times(self) -> Mapping[bytes, int]:
        return dict(self.times)

    def save_times(self, times: Mapping[bytes, int]) -> None:
        self.times = dict(times)


def drawing(seed: int) -> Callable[[int], bytes]:
    """Returns octets that never repeat."""
    numbers = count(seed << 32 | 1)
    return lambda octets: next(numbers).to_bytes(max(octets, 8), "big")[-octets:]


class Side:
    """One node: its machine, and where it can be reached."""

    def __init__(
        self,
        private: bytes,
        eid: EidPrefix,
        rloc: IpAddress,
        *,
        mode: SealMode = "prefer",
        pinned: tuple[PinnedKey, ...] = (),
        memory: Memory | None = None,
        hub_memory: Memory | None = None,
        is_strict: bool = False,
        wall: int = 1_700_000_000_000_000_000,
    ) -> None:
        self.memory = memory or Memory()
        self.rloc, self.eid = rloc, eid
        self.clock = count(wall)
        self.static = KeyPair.of(private, ciphers())
        self.seed = private[0]
        tools = SealTools(
            ciphers(),
            self.static,
            self.memory,
            drawing(self.seed),
            lambda: next(self.clock),
            hub_memory=hub_memory or Memory(),
        )
        self.config = SealConfig(mode, pinned, is_strict, (eid,))
        self.machine = Sealing(self.config, tools, count(self.seed << 8 | 1).__next__)
        self.machine.on_locators(LocatorSet.of(1, [LocalLocator(rloc, 2, "wlan0")]))

    @property
    def public(self) -> bytes:
        return self.static.public

    def knows(self, other: Side) -> InstallMapping:
        """Install a mapping of the other node; returns the forwarding entry that the machine makes of it."""
        return only(self.machine.entries.on_installed(mapping_of(other)), InstallMapping)[0]


def mapping_of(side: Side) -> InstallMapping:
    return InstallMapping(side.eid, "ENCAPSULATE", (UsableLocator(side.rloc, 1, 100),))


def pinned(*sides: Side) -> tuple[PinnedKey, ...]:
    return tuple(PinnedKey(side.eid, side.public) for side in sides)


def alice(**options: object) -> Side:
    return Side(ALICE_KEY, ALICE_EID, ALICE_RLOC, **options)  # type: ignore[arg-type]


def bob(**options: object) -> Side:
    return Side(BOB_KEY, BOB_EID, BOB_RLOC, **options)  # type: ignore[arg-type]


def a_pair(**options: object) -> tuple[Side, Side]:
    """Alice and Bob, who have pinned each other's keys and know each other's locators."""
    one = alice(pinned=pinned(bob()), **options)
    other = bob(pinned=pinned(alice()), **options)
    one.knows(other)
    other.knows(one)
    return one, other


def deliver_first(sent: SendControl, source: IpAddress, to: Side, now: float) -> list[MachineEffect]:
    """Deliver the first message of a handshake."""
    request = decode_control(sent.payload)
    assert isinstance(request, MapRequest)
    first = take_first(request)
    assert first is not None
    return to.machine.on_first(first, Datagram(sent.payload, source, 4342, to.rloc, 2), request.nonce, now)


def deliver_second(sent: SendControl, to: Side, now: float) -> list[MachineEffect]:
    """Deliver the second message of a handshake."""
    reply = decode_control(sent.payload)
    assert isinstance(reply, MapReply)
    told = to.machine.on_answer(reply, now)
    assert told is not None, "it answers nothing that was asked"
    return told


def shake_hands(one: Side, other: Side, now: float) -> tuple[InstallSession, InstallSession]:
    """Begin traffic from `one` to `other`, and deliver all messages; returns the sessions of both sides."""
    entry = one.knows(other)
    (sent,) = only(one.machine.on_seal_wanted(entry.peer, now), SendControl)
    told = deliver_first(sent, one.rloc, other, now)
    (answered,) = only(told, SendControl)
    (theirs,) = only(told, InstallSession)
    (ours,) = only(deliver_second(answered, one, now), InstallSession)
    return ours, theirs


def settle(side: Side) -> list[MachineEffect]:
    """Advance the time until clear text is no longer accepted."""
    at = side.machine.wake_at()
    assert at is not None
    return list(side.machine.on_timer(at))


def counted(effects: list[MachineEffect]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def request_of(sent: SendControl) -> MapRequest:
    request = decode_control(sent.payload)
    assert isinstance(request, MapRequest)
    return request


def first_of(one: Side, other: Side, now: float = 0.0) -> SendControl:
    (sent,) = only(one.machine.on_seal_wanted(one.knows(other).peer, now), SendControl)
    return sent
