"""The delegated database tree: hubs that ask one another, and the referrals of a DDT node."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.hub.ddt.client import WAIT_S
from lispmob.hub.ddt.node import DdtNode
from lispmob.hub.ddt.policy import DdtPolicy
from lispmob.hub.map_server.asker_limits import network_of
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site
from lispmob.wire.address import IpAddress
from lispmob.wire.map_referral import Referral, ReferralRecord
from lispmob.wire.record import Action
from tests.hub.ddt.ddt_tree import CHILD, ITR, LAPTOP, RESOLVER, ROOT, SECOND, SERVER, delegation, tree
from tests.hub.exchange import ask, eid, rlocs_of, site, xtr


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


def test_an_unregistered_eid_of_a_site_is_a_short_negative_answer() -> None:
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


def test_strangers_use_up_none_of_what_registered_nodes_may_have_asked_at_a_root() -> None:
    world = tree()
    resolver = world.add(RESOLVER, site("10.200.0.0/16"), roots=(ROOT,))
    resolver.on_datagram(xtr(str(ITR)).register("10.200.0.1/32"), now=0.0)
    world.silent = {ROOT}
    for number in range(500):
        world.put(
            replace(ask(f"10.3.{number // 250}.{number % 250}/32", itr=f"11.0.0.{number % 250}"), destination=RESOLVER)
        )

    world.ask()
    assert world.asked == [ROOT]


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
