"""Two machines of sealed data, and a link that loses, repeats, reorders and changes their messages."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lispmob.control.sealing.callers import HELD_MAX
from lispmob.control.sealing.handshake_carriage import take_first
from lispmob.control.sealing.machine import ASKING_MAX
from lispmob.control.sealing.sealed_entries import CONFIRMED_MAX, UNCONFIRMED_MAX
from lispmob.errors import MalformedMessage
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import ForgetPeer, ForgetSession, InstallSession, SendControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.control.sealing.sealed_pair import Side, a_pair
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto

EXAMPLES = max(5, int(os.environ.get("FUZZ_RUNS", "20000")) // 2000)
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    derandomize="FUZZ_RUNS" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
who = st.sampled_from([0, 1])


class AnyPair(RuleBasedStateMachine):
    """Whatever happens to the messages, sessions that both sides have match, and memory stays bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: tuple[Side, Side] = a_pair()
        self.now = 0.0
        self.line: list[tuple[int, SendControl]] = []  # (to whom, message)
        self.keys: dict[tuple[int, ...], set[frozenset[bytes]]] = {}
        self.installed: tuple[dict[int, int], dict[int, int]] = ({}, {})  # local index -> peer

    def _take(self, side: int, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case SendControl():
                    self.line = [*self.line, (1 - side, effect)][-10:]
                case InstallSession():
                    indices = effect.local_index, effect.remote_index
                    pair = indices if side == 0 else indices[::-1]
                    self.keys.setdefault(pair, set()).add(frozenset((effect.send_key, effect.receive_key)))
                    assert effect.local_index not in self.installed[side], "an index twice"
                    self.installed[side][effect.local_index] = effect.peer
                case ForgetSession(index):
                    del self.installed[side][index]
                case ForgetPeer(peer):
                    for index in [one for one, its in self.installed[side].items() if its == peer]:
                        del self.installed[side][index]

    @rule(side=who)
    def want(self, side: int) -> None:
        entry = self.sides[side].knows(self.sides[1 - side])
        self._take(side, [*self.sides[side].machine.on_seal_wanted(entry.peer, self.now)])

    @rule(at=st.integers(0, 9), is_kept=st.booleans(), flipped=st.one_of(st.none(), st.integers(0, 400)))
    def deliver(self, at: int, is_kept: bool, flipped: int | None) -> None:
        if at >= len(self.line):
            return
        side, sent = self.line[at] if is_kept else self.line.pop(at)
        octets = bytearray(sent.payload)
        if flipped is not None:
            octets[flipped % len(octets)] ^= 1 + flipped % 255
        machine = self.sides[side].machine
        try:
            message = decode_control(bytes(octets))
            first = take_first(message) if isinstance(message, MapRequest) else None
            if isinstance(message, MapReply):
                self._take(side, [*(machine.on_answer(message, self.now) or [])])
        except MalformedMessage:
            return
        if first is not None and isinstance(message, MapRequest):
            datagram = Datagram(bytes(octets), self.sides[1 - side].rloc, 4342, self.sides[side].rloc, 2)
            self._take(side, [*machine.on_first(first, datagram, message.nonce, self.now)])

    @rule(side=who)
    def confirm(self, side: int) -> None:
        for index, peer in list(self.installed[side].items()):
            self._take(side, [*self.sides[side].machine.on_confirmed(peer, index, self.now)])

    @rule(side=who)
    def sleep(self, side: int) -> None:
        self._take(side, [*self.sides[side].machine.on_slept()])

    @rule(side=who)
    def be_silent(self, side: int) -> None:
        self._take(side, [*self.sides[side].machine.on_silence(self.sides[1 - side].rloc, self.now)])

    @rule(side=who)
    def lose_the_mapping(self, side: int) -> None:
        self.sides[side].machine.entries.on_removed(self.sides[1 - side].eid)

    @rule(pause=st.sampled_from([0.1, 2.0, 100.0, 600.0]))
    def wait(self, pause: float) -> None:
        self.now += pause
        for side in (0, 1):
            self._take(side, [*self.sides[side].machine.on_timer(self.now)])

    @invariant()
    def sessions_of_both_fit(self) -> None:
        assert all(len(found) == 1 for found in self.keys.values()), "two ends with the same indices, and other keys"

    @invariant()
    def memory_is_bounded(self) -> None:
        for side in self.sides:
            assert len(side.machine._asking) <= ASKING_MAX
            assert len(side.machine._held) <= HELD_MAX
            most = CONFIRMED_MAX + UNCONFIRMED_MAX
            assert all(len(peer.sessions) <= most for peer in side.machine.entries.peers)


def test_two_peers_keep_their_invariants_whatever_happens_to_their_messages() -> None:
    run_state_machine_as_test(AnyPair, settings=SETTINGS)
