"""A firewall that drops UDP without a checksum: probes with one are answered, data is not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from lispmob.control.probing.path import Pair, Path, State
from lispmob.control.probing.zero_checksums import (
    ANSWER_S,
    PAUSE_S,
    QUESTIONS_MAX,
    RECHECK_S,
    REST_S,
    ZeroChecksums,
)
from lispmob.protocol.effect import Event, SendControl, UplinksRanked
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from tests.internet.network import ip

OWN, SECOND, OWN6 = (LocalLocator(ip(text), 2, "eth0") for text in ("192.0.2.7", "192.0.2.8", "2001:db8::7"))
PEER, OTHER, PEER6 = ip("198.51.100.9"), ip("198.51.100.10"), ip("2001:db8:9::9")
EID = EidPrefix.parse("10.1.0.2/32")
ROUND_S = 2 * PAUSE_S + ANSWER_S


def path(local: LocalLocator, remote: IpAddress, state: State = State.UP) -> Path:
    made = Path(Pair(local.address, remote), EID, 0.0)
    made.state, made.answered_at = state, 0.0
    return made


class Network:
    """Answers with checksums always, without them if `passes`."""

    def __init__(self, *paths: Path, passes: Callable[[IpAddress], bool] = lambda _: False) -> None:
        self.paths = {(one.pair.local, one.pair.remote): one for one in paths}
        self.passes, self.asked = passes, list[SendControl]()
        self.machine = ZeroChecksums(lambda own, remote: self.paths.get((own, remote)), new_nonce=count(1).__next__)
        self.now, self.is_alive, self.news = 0.0, True, 0

    def silence(self, remote: IpAddress, *own: LocalLocator) -> None:
        """Data is unanswered; all that follows from it happens."""
        self._perform(self.machine.on_unanswered(remote, own, self.now))
        while (at := self.machine.wake_at()) is not None:
            self.now = at
            for one in self.paths.values():
                one.answered_at = at if self.is_alive else one.answered_at
            self._perform(self.machine.on_timer(at))

    def _perform(self, effects: object) -> None:
        assert isinstance(effects, list)
        for effect in effects:
            self.news += isinstance(effect, UplinksRanked)
            if not isinstance(effect, SendControl):
                continue
            assert not effect.has_checksum
            self.asked.append(effect)
            if self.passes(effect.destination):
                nonce = MapRequest.decode(effect.payload).nonce
                self._perform(self.machine.on_map_reply(MapReply(nonce, (), is_probe=True), self.now))


def test_an_address_whose_packets_need_checksums_is_found_within_seconds() -> None:
    network = Network(path(OWN, PEER))

    network.silence(PEER, OWN)

    assert (network.machine.needed_from, network.news) == (frozenset({OWN.address}), 1)
    assert network.now <= ROUND_S
    assert len(network.asked) == 3


def test_a_peer_that_simply_says_nothing_costs_one_probe_a_minute() -> None:
    network = Network(path(OWN, PEER), passes=lambda _: True)

    for second in range(int(REST_S)):
        network.now = float(second)
        network.silence(PEER, OWN)

    assert (network.machine.needed_from, len(network.asked), network.news) == (frozenset(), 1, 0)


def test_a_network_that_died_meanwhile_proves_nothing() -> None:
    network = Network(path(OWN, PEER))
    network.is_alive = False
    network.now = 5.0

    network.silence(PEER, OWN)

    assert network.machine.needed_from == frozenset()


@pytest.mark.parametrize(
    ("own", "remote", "state"),
    [(OWN, PEER, State.DOWN), (OWN, PEER, State.UNKNOWN), (OWN6, PEER6, State.DOWN), (SECOND, PEER, State.UP)],
    ids=["dead", "never answered", "IPv6", "no such path"],
)
def test_nothing_is_asked_where_no_probe_is_answered_or_no_answer_could_come(
    own: LocalLocator, remote: IpAddress, state: State
) -> None:
    network = Network(path(OWN if own is SECOND else own, remote, state))

    network.silence(remote, own)

    assert network.asked == []


def test_each_address_of_ours_has_a_verdict_of_its_own() -> None:
    network = Network(path(OWN, PEER), path(SECOND, OTHER), passes=lambda remote: remote == OTHER)

    network.silence(PEER, OWN, SECOND)
    network.silence(OTHER, OWN, SECOND)

    assert network.machine.needed_from == {OWN.address}


def test_after_ten_minutes_a_firewall_that_is_gone_is_noticed() -> None:
    network = Network(path(OWN, PEER))
    network.silence(PEER, OWN)
    network.passes = lambda _: True

    network.now += RECHECK_S / 2
    network.silence(PEER, OWN)
    between = network.machine.needed_from
    network.now += RECHECK_S
    network.silence(PEER, OWN)

    assert (between, network.machine.needed_from) == (frozenset({OWN.address}), frozenset())


def test_an_address_that_leaves_takes_its_verdict_and_its_questions_along() -> None:
    network = Network(path(OWN, PEER), path(SECOND, PEER))
    network.silence(PEER, OWN)
    network.machine.on_unanswered(PEER, (SECOND,), network.now)

    network.machine.on_locators(())

    assert (network.machine.needed_from, network.machine.wake_at()) == (frozenset(), None)


def test_many_silent_peers_are_asked_a_few_at_a_time() -> None:
    remotes = [ip(f"203.0.113.{number}") for number in range(1, 100)]
    network = Network(*(path(OWN, remote) for remote in remotes))

    sent = [effect for remote in remotes for effect in network.machine.on_unanswered(remote, (OWN,), 0.0)]

    assert sum(isinstance(effect, SendControl) for effect in sent) == QUESTIONS_MAX


def test_an_unknown_answer_is_left_alone_and_a_verdict_is_reported_once() -> None:
    network = Network(path(OWN, PEER), path(OWN, OTHER))

    assert network.machine.on_map_reply(MapReply(77, (), is_probe=True), 0.0) is None
    network.machine.on_unanswered(PEER, (OWN,), 0.0)
    network.silence(OTHER, OWN)

    assert network.news == 1


def test_the_event_says_what_happens() -> None:
    network = Network(path(OWN, PEER))
    network.machine.on_unanswered(PEER, (OWN,), 0.0)
    told: list[object] = []
    while (at := network.machine.wake_at()) is not None:
        network.paths[OWN.address, PEER].answered_at = at
        told += network.machine.on_timer(at)

    (event,) = [one for one in told if isinstance(one, Event)]
    assert (event.kind, event.fields["rloc"]) == ("checksums-needed", str(OWN.address))


def six(*, understands: bool, passes: bool) -> tuple[frozenset[IpAddress], list[SendControl]]:
    """What is decided, and sent, where data over IPv6 is unanswered."""
    network = Network(path(OWN6, PEER6))
    sent: list[SendControl] = []
    effects = network.machine.on_unanswered(PEER6, (OWN6,), 100.0)
    while True:
        for probe in [effect for effect in effects if isinstance(effect, SendControl)]:
            sent.append(probe)
            _, inner = split_data_packet(probe.payload)
            nonce = MapRequest.decode(parse_ip_udp(inner).payload).nonce
            if understands and (passes or probe.has_checksum):
                network.machine.on_map_reply(MapReply(nonce, (), is_probe=True), 100.1)
        if (at := network.machine.wake_at()) is None:
            return network.machine.needed_from, sent
        effects = network.machine.on_timer(at)


@pytest.mark.parametrize(
    ("understands", "passes", "is_needed"),
    [(True, False, True), (True, True, False), (False, False, False)],
    ids=["a firewall drops them", "nothing does", "a peer that knows no such probe"],
)
def test_over_ipv6_probes_in_data_find_out(understands: bool, passes: bool, is_needed: bool) -> None:
    needed, sent = six(understands=understands, passes=passes)

    assert needed == (frozenset({OWN6.address}) if is_needed else frozenset())
    assert {probe.port for probe in sent} == {4341}


@pytest.mark.parametrize(
    ("probed_at", "asks"), [((100.0, 130.0, 160.0), 0), ((100.0, 100.2), 1), ((100.0, 100.1, 100.2, 100.3), 1)]
)
def test_a_volley_of_the_peers_probes_makes_us_ask_and_its_routine_does_not(
    probed_at: tuple[float, ...], asks: int
) -> None:
    network = Network(path(OWN, PEER))

    sent = [effect for at in probed_at for effect in network.machine.on_probed(PEER, (OWN,), at)]

    assert sum(isinstance(effect, SendControl) for effect in sent) == asks


def test_a_peer_that_does_not_understand_is_asked_once_a_minute() -> None:
    network = Network(path(OWN6, PEER6))
    sent = []
    for second in range(120):
        at = 100.0 + second
        effects = network.machine.on_unanswered(PEER6, (OWN6,), at)
        while (due := network.machine.wake_at()) is not None and due < at + 1:
            effects += network.machine.on_timer(due)
        sent += [effect for effect in effects if isinstance(effect, SendControl)]

    assert len(sent) <= 2 * 2 * 3
