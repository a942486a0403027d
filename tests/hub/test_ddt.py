"""The delegated database tree: hubs that ask one another, in memory; and what others than ours have said in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import count
from typing import TypeAlias

import pytest
from msgspec.structs import replace

from lispmob.hub.ddt.client import SENDS_MAX, WAIT_S, DdtClient, NoMapping
from lispmob.hub.ddt.node import DdtNode
from lispmob.hub.ddt.policy import DdtPolicy, Delegation
from lispmob.hub.ddt.referral_cache import CachedReferral, ReferralCache
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.asker_limits import network_of
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.hub.exchange import ask, eid, rlocs_of, site, xtr

RESOLVER, ROOT, CHILD, SERVER, SECOND = map(ip_address, [f"198.51.100.{n}" for n in (10, 20, 30, 40, 50)])
ITR = ip_address("203.0.113.7")
LAPTOP = "10.65.1.2/32"


def delegation(prefix: str, *addresses: IpAddress, is_map_server: bool = False) -> Delegation:
    return Delegation(eid(prefix), addresses, is_map_server)


class Tree:
    """Hubs by address. What is sent to nobody's address is kept by address."""

    def __init__(self) -> None:
        self.hubs: dict[IpAddress, ControlPlane] = {}
        self.silent: set[IpAddress] = set()
        self.asked: list[IpAddress] = []
        self.outside: list[tuple[IpAddress, bytes]] = []
        self.now = 0.0
        self._nonces = count(0x5EED0000)

    def add(self, address: IpAddress, *sites: Site, **policy: object) -> ControlPlane:
        ddt = DdtPolicy(**policy)  # type: ignore[arg-type]
        hub = self.hubs[address] = ControlPlane(sites, new_nonce=self._nonces.__next__, ddt=ddt)
        hub.on_addresses([address])
        return hub

    def put(self, arrival: Arrival) -> None:
        queue = [arrival]
        for _ in range(1000):
            if not queue:
                return
            queue += self._deliver(queue.pop(0))
        raise AssertionError("they never stop talking")

    def ask(self, asked: str = LAPTOP, nonce: int = 7, itr: IpAddress = ITR) -> list[MappingRecord]:
        """An ITR asks the Map-Resolver; the records of all Map-Replies that it got."""
        self.outside.clear()
        self.asked.clear()
        self.put(replace(ask(asked, nonce=nonce, itr=str(itr)), destination=RESOLVER))
        return self.answers(nonce)

    def answers(self, nonce: int = 7) -> list[MappingRecord]:
        replies = [MapReply.decode(raw) for address, raw in self.outside if address == ITR]
        assert all(reply.nonce == nonce for reply in replies)
        return [record for reply in replies for record in reply.records]

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (
            at := min((at for hub in self.hubs.values() if (at := hub.wake_at()) is not None), default=None)
        ) is not None:
            if at > until:
                break
            self.now = max(self.now, at)
            for address, hub in self.hubs.items():
                for arrival in self._sent(address, hub.on_timer(self.now)):
                    self.put(arrival)
        self.now = until

    def _deliver(self, arrival: Arrival) -> list[Arrival]:
        hub = self.hubs.get(arrival.destination)
        if hub is None or arrival.destination in self.silent:
            self.outside.append((arrival.destination, arrival.payload))
            return []
        return self._sent(arrival.destination, hub.on_datagram(arrival, now=self.now))

    def _sent(self, sender: IpAddress, effects: Iterable[object]) -> list[Arrival]:
        sent = [effect for effect in effects if isinstance(effect, SendControl)]
        if sender == RESOLVER:
            self.asked += [effect.destination for effect in sent if effect.destination in self.hubs]
        return [Arrival(effect.payload, effect.source or sender, 4342, effect.destination) for effect in sent]


def tree(*, registers: bool = True, peers: tuple[IpAddress, ...] = ()) -> Tree:
    """A root (10.0.0.0/8), a child (10.64.0.0/10), a Map-Server (10.65.0.0/16), and a laptop registered there."""
    world = Tree()
    world.add(RESOLVER, roots=(ROOT,))
    world.add(ROOT, authoritative=(eid("10.0.0.0/8"),), delegations=(delegation("10.64.0.0/10", CHILD),))
    below = delegation("10.65.0.0/16", SERVER, is_map_server=True)
    world.add(CHILD, authoritative=(eid("10.64.0.0/10"),), delegations=(below,))
    world.add(SERVER, site("10.65.0.0/16"), authoritative=(eid("10.65.0.0/16"),), peers=peers)
    if registers:
        world.put(replace(xtr("192.0.2.5").register(LAPTOP), destination=SERVER))
    return world


def test_a_question_goes_down_the_tree_and_the_map_server_answers_the_itr() -> None:
    world = tree()

    (record,) = world.ask()

    assert (str(record.eid_prefix), rlocs_of(record)) == (LAPTOP, ["192.0.2.5"])
    assert world.asked == [ROOT, CHILD, SERVER]


def test_what_is_known_of_the_tree_is_not_asked_again() -> None:
    world = tree()
    world.ask()

    (record,) = world.ask("10.65.9.9/32", nonce=8)

    assert world.asked == [SERVER]
    assert (record.action, record.ttl_min) == (Action.NATIVELY_FORWARD, 1)


def test_a_referral_is_forgotten_after_its_ttl() -> None:
    world = tree()
    world.ask()

    world.now += 1440 * 60.0
    world.put(replace(xtr("192.0.2.5").register(LAPTOP), destination=SERVER))
    world.ask(nonce=9)

    assert world.asked == [ROOT, CHILD, SERVER]


@pytest.mark.parametrize(
    ("asked", "hole", "who"),
    [
        ("10.1.2.3/32", "10.0.0.0/10", [ROOT]),
        ("10.80.0.1/32", "10.80.0.0/12", [ROOT, CHILD]),
        ("10.66.0.1/32", "10.66.0.0/15", [ROOT, CHILD]),
    ],
)
def test_a_hole_is_the_widest_prefix_without_a_delegation_and_stays_known(
    asked: str, hole: str, who: list[IpAddress]
) -> None:
    world = tree()

    (record,) = world.ask(asked)
    assert (str(record.eid_prefix), record.ttl_min, world.asked) == (hole, 15, who)

    (again,) = world.ask(asked, nonce=8)
    assert (again.eid_prefix, world.asked) == (record.eid_prefix, [])


def test_an_eid_of_a_site_that_nobody_registered_is_a_short_negative_answer() -> None:
    (record,) = tree(registers=False).ask()

    assert (record.action, record.locators, record.ttl_min) == (Action.NATIVELY_FORWARD, (), 1)
    assert record.eid_prefix is not None
    assert record.eid_prefix.covers(eid(LAPTOP))
    assert eid("10.65.0.0/16").covers(record.eid_prefix)


def test_an_eid_outside_of_the_tree_is_a_negative_answer_after_one_more_try_at_the_root() -> None:
    world = tree()

    (record,) = world.ask("172.16.0.1/32")

    assert (str(record.eid_prefix), record.action) == ("172.16.0.1/32", Action.NATIVELY_FORWARD)
    assert world.asked == [ROOT, ROOT]


def test_our_own_sites_and_delegations_are_not_asked_for_at_the_root() -> None:
    world = tree()
    world.hubs[RESOLVER] = world.add(
        RESOLVER,
        site("10.200.0.0/16"),
        roots=(ROOT,),
        delegations=(delegation("10.65.0.0/16", SERVER, is_map_server=True),),
    )

    (own,) = world.ask("10.200.0.1/32")
    assert (own.ttl_min, world.asked) == (1, [])
    (record,) = world.ask(nonce=8)
    assert (rlocs_of(record), world.asked) == (["192.0.2.5"], [SERVER])


def test_the_next_of_the_set_is_asked_when_one_does_not_answer() -> None:
    world = tree()
    twice = (delegation("10.64.0.0/10", SECOND, CHILD),)
    world.add(ROOT, authoritative=(eid("10.0.0.0/8"),), delegations=twice)
    world.add(SECOND)
    world.silent = {SECOND}

    assert world.ask() == []
    world.wait(WAIT_S)

    assert [rlocs_of(record) for record in world.answers()] == [["192.0.2.5"]]
    assert world.asked == [ROOT, SECOND, CHILD, SERVER]


def test_a_tree_that_is_silent_is_asked_so_often_and_no_more() -> None:
    world = tree()
    world.silent = {ROOT}

    assert world.ask() == []
    world.wait(60.0)

    assert world.asked == [ROOT, ROOT]
    assert world.hubs[RESOLVER].counters["ddt_timeout"] == 1
    assert world.hubs[RESOLVER].wake_at() is None


def test_another_map_server_of_the_set_may_have_what_one_has_not() -> None:
    world = tree(registers=False)
    below = (delegation("10.65.0.0/16", SECOND, SERVER, is_map_server=True),)
    world.add(CHILD, authoritative=(eid("10.64.0.0/10"),), delegations=below)
    world.add(SECOND, site("10.65.0.0/16"), authoritative=(eid("10.65.0.0/16"),))
    world.put(replace(xtr("192.0.2.5").register(LAPTOP), destination=SERVER))

    assert [rlocs_of(record) for record in world.ask()] == [["192.0.2.5"]]
    assert world.asked == [ROOT, CHILD, SECOND, SERVER]


def test_an_itr_that_repeats_itself_has_one_search() -> None:
    world = tree()
    world.silent = {ROOT}
    world.ask()
    world.ask()

    world.wait(60.0)

    assert world.hubs[RESOLVER].counters["ddt_timeout"] == 1


def test_a_delegation_that_circles_ends_with_a_negative_answer() -> None:
    world = tree()
    world.add(CHILD, delegations=(delegation("10.64.0.0/10", SECOND),))
    world.add(SECOND, delegations=(delegation("10.64.0.0/10", CHILD),))

    (record,) = world.ask()

    assert (str(record.eid_prefix), record.locators) == (LAPTOP, ())
    assert world.hubs[RESOLVER].counters["ddt_loop"] == 2


def test_a_hub_without_a_place_in_the_tree_answers_a_ddt_map_request_as_any_other() -> None:
    world = tree()
    plain = world.add(SERVER, site("10.65.0.0/16"))
    plain.on_datagram(xtr("192.0.2.5").register(LAPTOP), now=0.0)

    assert [rlocs_of(record) for record in world.ask()] == [["192.0.2.5"]]


# --- what a node says


def of(raw: str) -> MapReferral:
    return MapReferral.decode(bytes.fromhex(raw))


def referred(policy: DdtPolicy, asked: str, *sites: Site) -> ReferralRecord:
    server = MapServer(sites)
    if sites:
        server.on_map_register(xtr("192.0.2.5").register(LAPTOP), 0.0)
    record = DdtNode(policy, server).refer(eid(asked), network_of(RESOLVER))
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("asked", "kind", "prefix", "ttl_min", "is_incomplete"),
    [
        (LAPTOP, Referral.MS_ACK, LAPTOP, 1440, True),
        ("10.65.7.7/32", Referral.MS_NOT_REGISTERED, "10.65.7.7/32", 1, True),
        ("10.70.0.1/32", Referral.NODE, "10.70.0.0/16", 1440, False),
        ("10.71.0.1/32", Referral.MS, "10.71.0.0/16", 1440, False),
        ("10.80.0.1/32", Referral.DELEGATION_HOLE, "10.80.0.0/12", 15, False),
        ("10.0.0.0/8", Referral.NOT_AUTHORITATIVE, "10.0.0.0/8", 0, True),
        ("[5]10.65.0.1/32", Referral.NOT_AUTHORITATIVE, "[5]10.65.0.1/32", 0, True),
    ],
)
def test_a_node_refers_as_the_table_of_rfc_8111_says(
    asked: str, kind: Referral, prefix: str, ttl_min: int, is_incomplete: bool
) -> None:
    policy = DdtPolicy(
        authoritative=(eid("10.64.0.0/10"),),
        delegations=(delegation("10.70.0.0/16", CHILD), delegation("10.71.0.0/16", SERVER, is_map_server=True)),
    )

    record = referred(policy, asked, site("10.65.0.0/16"))

    said = (record.referral, str(record.eid_prefix), record.ttl_min, record.is_incomplete)
    assert said == (kind, prefix, ttl_min, is_incomplete)
    assert bool(record.locators) == (kind in (Referral.NODE, Referral.MS))


def test_map_servers_that_know_each_other_say_so() -> None:
    policy = DdtPolicy(authoritative=(eid("10.64.0.0/10"),), peers=(SERVER, SECOND))

    record = referred(policy, LAPTOP, site("10.65.0.0/16"))

    assert (record.is_incomplete, [locator.address for locator in record.locators]) == (False, [SERVER, SECOND])


# --- what a client believes


class Asked:
    """A question without a hub around it."""

    nonce = 7

    def for_node(self, nonce: int) -> bytes:
        return b"node %d" % nonce

    def for_map_server(self, server: IpAddress) -> bytes | None:
        return b"map-server" if server != SECOND else None


Client: TypeAlias = DdtClient[Asked]


def client(asked: str = "240.9.0.9/32") -> tuple[Client, int]:
    one: Client = DdtClient(count(100).__next__)
    one.on_policy(DdtPolicy(roots=(ROOT,)))
    (sent,) = one.ask(Asked(), eid(asked), 0.0)
    assert isinstance(sent, SendControl)
    return one, int(sent.payload.split()[1])


def with_nonce(referral: MapReferral, nonce: int) -> MapReferral:
    return replace(referral, nonce=nonce)


def node_says(prefix: str, kind: Referral, *addresses: IpAddress, ttl_min: int = 15) -> MapReferral:
    where = EidPrefix.parse(prefix)
    locators = tuple(Locator(address, 1, 100) for address in addresses)
    return MapReferral(0, (ReferralRecord(where.address, where.mask_len, kind, locators, ttl_min),))


@pytest.mark.parametrize(
    ("source", "change"), [(SERVER, lambda nonce: nonce), (ROOT, lambda nonce: nonce + 1), (ROOT, lambda _: 7)]
)
def test_nobody_but_who_was_asked_is_believed(source: IpAddress, change: Callable[[int], int]) -> None:
    one, nonce = client()

    assert (
        one.on_map_referral(with_nonce(node_says("240.0.0.0/4", Referral.DELEGATION_HOLE), change(nonce)), source, 0.1)
        == []
    )

    assert (one.counters["rx_nonce"], len(one.cache)) == (1, 0)


def test_a_hole_that_does_not_hold_what_was_asked_is_no_answer() -> None:
    one, nonce = client()
    wrong = of(
        "600000010123456789abcdef0000000f000d900000000001f1080000"
    )  # as Open Overlay Router's node: 241.8.0.0/13

    again = one.on_map_referral(with_nonce(wrong, nonce), ROOT, 0.1)

    assert [type(effect) for effect in again] == [SendControl]
    assert (one.counters["ddt_prefix"], len(one.cache)) == (1, 0)


def test_a_hole_over_a_known_delegation_is_believed_of_the_host_alone() -> None:
    one, nonce = client("240.1.0.9/32")
    delegated = with_nonce(node_says("240.1.0.0/16", Referral.MS, SERVER, ttl_min=60), nonce)
    assert len(one.on_map_referral(delegated, ROOT, 0.1)) == 1
    (sent,) = one.ask(Asked(), eid("240.9.0.9/32"), 0.2)
    assert isinstance(sent, SendControl)
    too_wide = of("600000010123456789abcdef0000000f000c900000000001f0000000")  # as lispers.net's node: 240.0.0.0/12

    (told,) = one.on_map_referral(with_nonce(too_wide, int(sent.payload.split()[1])), ROOT, 0.3)

    assert isinstance(told, NoMapping)
    assert str(told.record.eid_prefix) == "240.9.0.9/32"
    assert one.cache.find(eid("240.1.0.9/32"), 0.4) is not None


@pytest.mark.parametrize(
    "said",
    [
        "600000010123456789abcdef000000000020a80000000001f0090009",  # Open Overlay Router: A=0 I=1
        "600000010123456789abcdef000000000020b80000000001f0090009",  # lispers.net: A=1 I=1
    ],
)
def test_not_authoritative_leads_to_the_root_once_and_then_to_a_negative_answer(said: str) -> None:
    one, nonce = client()

    (again,) = one.on_map_referral(with_nonce(of(said), nonce), ROOT, 0.1)
    assert isinstance(again, SendControl)
    (told,) = one.on_map_referral(with_nonce(of(said), int(again.payload.split()[1])), ROOT, 0.2)

    assert isinstance(told, NoMapping)
    assert (str(told.record.eid_prefix), one.wake_at()) == ("240.9.0.9/32", None)


def test_a_map_server_is_believed_for_the_itr_that_asks_and_for_nobody_else() -> None:
    one, nonce = client("240.1.0.77/32")
    delegated = with_nonce(node_says("240.1.0.0/16", Referral.MS, SERVER, ttl_min=60), nonce)
    (sent,) = one.on_map_referral(delegated, ROOT, 0.1)
    assert sent == SendControl(b"map-server", SERVER)

    (told,) = one.on_map_referral(with_nonce(node_says("240.1.0.0/16", Referral.DELEGATION_HOLE), 7), SERVER, 0.2)

    assert isinstance(told, NoMapping)
    found = one.cache.find(eid("240.1.0.77/32"), 0.3)
    assert found is not None
    assert not found.is_hole


def test_a_map_server_that_cannot_be_asked_under_lisp_sec_is_an_unsigned_answer() -> None:
    one, nonce = client("240.1.0.77/32")

    (told,) = one.on_map_referral(with_nonce(node_says("240.1.0.0/16", Referral.MS, SECOND), nonce), ROOT, 0.1)

    assert isinstance(told, NoMapping)
    assert told.is_unsigned


def test_a_shorter_referral_than_the_last_one_is_passed_over() -> None:
    one, nonce = client("240.1.0.77/32")
    (first,) = one.on_map_referral(
        with_nonce(node_says("240.1.0.0/16", Referral.NODE, CHILD, SECOND), nonce), ROOT, 0.1
    )
    assert isinstance(first, SendControl)

    (second,) = one.on_map_referral(
        with_nonce(node_says("240.0.0.0/8", Referral.NODE, SERVER), int(first.payload.split()[1])), CHILD, 0.2
    )

    assert isinstance(second, SendControl)
    assert (second.destination, one.counters["ddt_loop"]) == (SECOND, 1)


@pytest.mark.parametrize("kind", [Referral.MS_ACK, Referral.MS_NOT_REGISTERED])
def test_a_ddt_node_that_speaks_as_a_map_server_is_passed_over(kind: Referral) -> None:
    one, nonce = client()

    (again,) = one.on_map_referral(with_nonce(node_says("240.9.0.0/16", kind, CHILD), nonce), ROOT, 0.1)

    assert isinstance(again, SendControl)
    assert one.counters["ddt_action"] == 1


def test_only_addresses_that_another_host_can_have_are_asked() -> None:
    one, nonce = client("240.1.0.77/32")
    bad = [ip_address(text) for text in ("127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255")]

    (told,) = one.on_map_referral(with_nonce(node_says("240.1.0.0/16", Referral.NODE, *bad), nonce), ROOT, 0.1)

    assert isinstance(told, NoMapping)


def test_a_tree_without_an_end_ends() -> None:
    one, nonce = client("2001:db8::1/128")
    sends = 0
    for length in range(1, 100):
        effects = one.on_map_referral(
            with_nonce(node_says(f"2001:db8::/{length}", Referral.NODE, ROOT), nonce), ROOT, 0.1
        )
        if not effects or isinstance(effects[0], NoMapping):
            break
        assert isinstance(effects[0], SendControl)
        nonce, sends = int(effects[0].payload.split()[1]), sends + 1

    assert sends == 32
    assert one.wake_at() is None


def test_of_a_long_set_so_many_are_asked() -> None:
    one, nonce = client("240.1.0.77/32")
    many = [ip_address(f"192.0.2.{number}") for number in range(1, 40)]
    one.on_map_referral(with_nonce(node_says("240.1.0.0/16", Referral.NODE, *many), nonce), ROOT, 0.0)

    sends, now = 1, 0.0
    while (at := one.wake_at()) is not None:
        now = at
        sends += len(one.on_timer(now))

    assert (sends, now) == (SENDS_MAX, SENDS_MAX * WAIT_S)


def test_a_ddt_node_sees_neither_the_nonce_of_the_itr_nor_its_lisp_sec() -> None:
    world = tree()
    world.silent = {ROOT}
    world.ask(nonce=0xDEADBEEF)

    ((_, raw),) = world.outside
    ecm = EncapsulatedControl.decode(raw)
    assert (ecm.is_ddt, ecm.authentication) == (True, None)
    assert MapRequest.decode(ecm.message).nonce != 0xDEADBEEF


# --- what others may push out of the cache


def referral(prefix: str, *addresses: IpAddress) -> CachedReferral:
    return CachedReferral(eid(prefix), addresses, is_map_server=False, expires_at=1000.0)


def test_holes_that_somebody_asks_for_push_out_no_delegation() -> None:
    cache = ReferralCache(limit=50)
    cache.put(referral("240.1.0.0/16", CHILD))
    for number in range(500):
        cache.put(referral(f"240.9.{number // 250}.{number % 250}/32"))

    found = cache.find(eid("240.1.0.9/32"), 0.0)
    assert found is not None
    assert found.addresses == (CHILD,)
    assert len(cache) == 51


def test_a_node_that_delegates_without_end_pushes_out_the_oldest_delegations_and_no_own_one() -> None:
    own = referral("240.1.0.0/16", CHILD)
    cache = ReferralCache([own], limit=50)
    for number in range(500):
        cache.put(referral(f"240.9.{number // 250}.{number % 250}/32", SERVER))

    assert cache.find(eid("240.1.0.9/32"), 0.0) == own
    assert cache.find(eid("240.9.0.0/32"), 0.0) is None
    assert len(cache) == 51


def test_what_changes_from_a_hole_to_a_delegation_counts_once() -> None:
    cache = ReferralCache(limit=50)
    for number in range(200):
        cache.put(referral("240.1.0.0/16", *([CHILD] if number % 2 else [])))

    assert len(cache) == 1
    cache.forget(eid("240.1.0.0/16"))
    assert len(cache) == 0


def test_what_others_say_replaces_no_delegation_of_ours() -> None:
    own = referral("240.1.0.0/16", CHILD)
    cache = ReferralCache([own])
    cache.put(referral("240.1.0.0/16", ROOT))

    assert cache.find(eid("240.1.0.9/32"), 0.0) == own


def test_a_node_that_says_it_is_not_in_charge_does_not_end_our_delegation_to_it() -> None:
    asking: Client = DdtClient(count(100).__next__)
    asking.on_policy(DdtPolicy(roots=(ROOT,), delegations=(delegation("240.1.0.0/16", CHILD),)))
    (sent,) = asking.ask(Asked(), eid("240.1.0.9/32"), 0.0)
    assert isinstance(sent, SendControl)
    refused = with_nonce(node_says("240.1.0.9/32", Referral.NOT_AUTHORITATIVE), int(sent.payload.split()[1]))
    asking.on_map_referral(refused, CHILD, 0.1)

    (again,) = asking.ask(Asked(), eid("240.1.0.10/32"), 1.0)

    assert isinstance(again, SendControl)
    assert again.destination == CHILD
