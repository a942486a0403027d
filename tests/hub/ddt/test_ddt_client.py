"""A Map-Resolver as a DDT client: which referrals it accepts and caches."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from itertools import count
from typing import TypeAlias

import pytest
from msgspec.structs import replace

from lispmob.hub.ddt.client import SENDS_MAX, STRANGERS_MAX, WAIT_S, DdtClient, NoMapping
from lispmob.hub.ddt.policy import DdtPolicy
from lispmob.hub.ddt.referral_cache import CachedReferral, ReferralCache
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator
from tests.hub.ddt.ddt_tree import CHILD, ROOT, SECOND, SERVER, delegation, tree
from tests.hub.exchange import eid

# --- what a client believes


def of(raw: str) -> MapReferral:
    return MapReferral.decode(bytes.fromhex(raw))


class Asked:
    """A question without a hub around it."""

    nonce = 7

    def __init__(self, *, is_known: bool = True) -> None:
        self.is_known = is_known

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


def test_strangers_have_half_of_the_searches_and_what_ends_makes_room() -> None:
    one: Client = DdtClient(count(100).__next__)
    one.on_policy(DdtPolicy(roots=(ROOT,)))
    first = EidPrefix.parse("10.0.0.0/32")
    hosts = [EidPrefix.host(first.address + number) for number in range(STRANGERS_MAX + 2)]

    asked = [one.ask(Asked(is_known=False), host, 0.0) for host in hosts[:-1]]
    assert (sum(map(len, asked)), one.counters["ddt_full"]) == (STRANGERS_MAX, 1)
    assert one.ask(Asked(), hosts[-1], 0.0)
    for second in range(1, SENDS_MAX + 2):
        one.on_timer(second * WAIT_S)
    assert one.ask(Asked(is_known=False), hosts[0], 20.0)


def with_nonce(referral: MapReferral, nonce: int) -> MapReferral:
    return replace(referral, nonce=nonce)


def node_says(prefix: str, kind: Referral, *addresses: IpAddress, ttl_min: int = 15) -> MapReferral:
    where = EidPrefix.parse(prefix)
    locators = tuple(Locator(address, 1, 100) for address in addresses)
    return MapReferral(0, (ReferralRecord(where.address, where.mask_len, kind, locators, ttl_min),))


@pytest.mark.parametrize(
    ("source", "change"), [(SERVER, lambda nonce: nonce), (ROOT, lambda nonce: nonce + 1), (ROOT, lambda _: 7)]
)
def test_only_the_server_that_was_asked_is_believed(source: IpAddress, change: Callable[[int], int]) -> None:
    one, nonce = client()

    assert (
        one.on_map_referral(with_nonce(node_says("240.0.0.0/4", Referral.DELEGATION_HOLE), change(nonce)), source, 0.1)
        == []
    )

    assert (one.counters["rx_nonce"], len(one.cache)) == (1, 0)


def test_a_root_may_refer_to_others_for_everything_and_those_may_not() -> None:
    one, nonce = client()

    (sent,) = one.on_map_referral(with_nonce(node_says("0.0.0.0/0", Referral.NODE, CHILD), nonce), ROOT, 0.1)
    assert isinstance(sent, SendControl)
    assert (sent.destination, one.counters["ddt_loop"]) == (CHILD, 0)

    again = node_says("0.0.0.0/0", Referral.NODE, SECOND)
    one.on_map_referral(with_nonce(again, int(sent.payload.split()[1])), CHILD, 0.2)
    assert one.counters["ddt_loop"] == 1


def test_a_hole_that_does_not_hold_what_was_asked_is_no_answer() -> None:
    one, nonce = client()
    wrong = of(
        "600000010123456789abcdef0000000f000d900000000001f1080000"
    )  # from Open Overlay Router's node: 241.8.0.0/13

    again = one.on_map_referral(with_nonce(wrong, nonce), ROOT, 0.1)

    assert [type(effect) for effect in again] == [SendControl]
    assert (one.counters["ddt_prefix"], len(one.cache)) == (1, 0)


def test_a_hole_over_a_known_delegation_is_believed_of_the_host_alone() -> None:
    one, nonce = client("240.1.0.9/32")
    delegated = with_nonce(node_says("240.1.0.0/16", Referral.MS, SERVER, ttl_min=60), nonce)
    assert len(one.on_map_referral(delegated, ROOT, 0.1)) == 1
    (sent,) = one.ask(Asked(), eid("240.9.0.9/32"), 0.2)
    assert isinstance(sent, SendControl)
    too_wide = of("600000010123456789abcdef0000000f000c900000000001f0000000")  # from lispers.net's node: 240.0.0.0/12

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


def test_a_map_server_is_believed_for_the_itr_that_asks_alone() -> None:
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


def test_questions_about_holes_push_out_no_delegation() -> None:
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


def test_two_itrs_with_one_nonce_at_one_map_server_each_end_by_themselves() -> None:
    one: Client = DdtClient(count(100).__next__)
    below = (delegation("240.0.0.0/8", SERVER, is_map_server=True),)
    one.on_policy(DdtPolicy(roots=(ROOT,), delegations=below))
    one.ask(Asked(), eid("240.1.0.1/32"), 0.0)
    one.ask(Asked(), eid("240.2.0.1/32"), 0.5)

    for at in (1.0, 2.0, 3.0, 4.0):
        one.on_timer(at)
        assert one.expects(SERVER, Asked.nonce) == (at < 3.0)
    assert one.counters["ddt_timeout"] == 2
    assert one.wake_at() is None
