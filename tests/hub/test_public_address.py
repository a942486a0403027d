"""A hub behind a 1:1 NAT: messages name the public address, and sockets use the one that the machine has."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.public_address import PublicAddresses, unreachable_as_rtr
from lispmob.hub.rtr.rtr_effect import InData, SendFromRelayPort, UnregisteredData
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.auth import Key, sign
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal
from tests.hub.exchange import KEY, eid, site, xtr

PUBLIC, PUBLIC6 = ip_address("198.51.100.7"), ip_address("2001:db8:ffff::7")
PRIVATE, PRIVATE6 = ip_address("10.0.0.4"), ip_address("fd00::4")
DOCKER = ip_address("172.17.0.1")
NODE = ip_address("203.0.113.5")


def cloud() -> PublicAddresses:
    made = PublicAddresses([PUBLIC])
    made.on_addresses([PRIVATE, DOCKER])
    return made


def test_a_private_address_is_known_as_the_public_one_of_its_family() -> None:
    made = PublicAddresses([PUBLIC, PUBLIC6])

    assert made.on_addresses([PRIVATE, DOCKER, PRIVATE6]) == (PUBLIC, PUBLIC6)


@pytest.mark.parametrize("own", ["203.0.113.9", "2001:db8:1::9"])
def test_an_address_in_the_open_is_known_as_itself(own: str) -> None:
    made = PublicAddresses([PUBLIC])

    assert ip_address(own) in made.on_addresses([PRIVATE, ip_address(own)])
    assert made.known(ip_address(own)) == made.own(ip_address(own)) == ip_address(own)


def test_what_arrives_at_the_private_address_arrived_at_the_public_one() -> None:
    seen = cloud().arrived(Arrival(b"x", NODE, 4342, PRIVATE))

    assert (seen.source, seen.destination) == (NODE, PUBLIC)


def test_what_leaves_from_the_public_address_leaves_from_the_first_private_one() -> None:
    sent = cloud().to_send(SendControl(b"x", NODE, source=PUBLIC))

    assert (sent.source, sent.destination) == (PRIVATE, NODE)


def test_what_the_hub_sends_to_itself_stays_on_the_machine_and_comes_back_as_from_itself() -> None:
    made = cloud()

    sent = made.to_send(SendControl(b"x", PUBLIC, source=PUBLIC))
    assert sent.source is not None
    back = made.arrived(Arrival(b"x", sent.source, 4342, sent.destination))

    assert (sent.source, sent.destination) == (PRIVATE, PRIVATE)
    assert (back.source, back.destination) == (PUBLIC, PUBLIC)


def test_without_a_datapath_our_address_is_learned_from_what_arrives_there() -> None:
    made = PublicAddresses([PUBLIC])
    before = made.to_send(SendControl(b"x", NODE, source=PUBLIC))

    made.arrived(Arrival(b"x", NODE, 4342, PRIVATE))

    assert before.source is None  # the kernel chooses
    assert made.to_send(SendControl(b"x", NODE, source=PUBLIC)).source == PRIVATE


def test_a_private_address_of_another_node_is_not_taken_for_ours() -> None:
    neighbour = ip_address("10.0.0.9")

    assert cloud().arrived(Arrival(b"x", neighbour, 4342, PRIVATE)).source == neighbour


def test_what_comes_and_goes_in_data_is_translated_too() -> None:
    made = cloud()

    assert made.arrived_in_data(InData(b"x", NODE, 4341, PRIVATE, NODE, 4342)).rtr == PUBLIC
    assert made.arrived_unregistered(UnregisteredData(NODE, 0, NODE, 4341, PRIVATE)).outer_destination == PUBLIC
    assert made.to_send_in_data(SendFromRelayPort(b"x", NODE, 4341, PUBLIC)).source == PRIVATE


def test_without_a_public_address_nothing_changes() -> None:
    made = PublicAddresses()

    assert made.on_addresses([PRIVATE]) == (PRIVATE,)
    assert made.arrived(Arrival(b"x", NODE, 4342, PRIVATE)).destination == PRIVATE
    assert made.to_send(SendControl(b"x", NODE, source=PRIVATE)).source == PRIVATE


@pytest.mark.parametrize(
    ("known", "is_reported"),
    [((PRIVATE,), True), ((PRIVATE, PRIVATE6), True), ((PUBLIC,), False), ((PRIVATE, PUBLIC6), False), ((), False)],
)
def test_a_machine_that_has_private_addresses_alone_is_told_what_to_do(
    known: tuple[object, ...], is_reported: bool
) -> None:
    told = unreachable_as_rtr(known)  # type: ignore[arg-type]

    assert (told is not None) == is_reported
    assert told is None or "public-address" in told


def test_a_node_that_asks_is_told_the_public_address_as_map_server_and_rtr() -> None:
    hub, public = ControlPlane([site("10.1.0.1/32")], traversal=TraversalPolicy(is_rtr=True)), cloud()
    hub.traversal.on_addresses(public.on_addresses([PRIVATE]))
    request = InfoRequest(7, eid("10.1.0.1/32").address, 32)
    arrival = Arrival(sign(request, KEY), NODE, 4342, PRIVATE)

    [answer] = [one for one in hub.on_datagram(public.arrived(arrival), 0.0) if isinstance(one, SendControl)]

    nat = InfoReply.decode(answer.payload).nat
    assert isinstance(nat, NatTraversal)
    assert (nat.ms_rloc, nat.rtr_rlocs) == (PUBLIC, (PUBLIC,))
    assert public.to_send(answer).source == PRIVATE


def test_an_rtr_that_is_not_configured_is_in_the_log_and_so_is_the_next_mistake_of_the_same_sender() -> None:
    hub = ControlPlane([site("10.1.0.1/32")])
    relayed = Arrival(b"\x80\x20\x00\x00" + bytes(60), NODE, 4342, PUBLIC)

    told = [[*hub.on_datagram(relayed, now), *hub.traversal.take_complaints()] for now in (0.0, 1.0)]
    unknown = hub.on_datagram(xtr(str(NODE)).register("10.2.0.1/32"), 2.0)
    wrong_key = hub.on_datagram(xtr(str(NODE), key=Key(b"another")).register("10.1.0.1/32"), 3.0)

    whys = [
        str(effect.fields["why"])
        for effects in (*told, unknown, wrong_key)
        for effect in effects
        if isinstance(effect, Event)
    ]
    assert len(whys) == 3
    assert "rtrs" in whys[0]
    assert "in no site" in whys[1]
    assert whys[2].startswith("site home")
