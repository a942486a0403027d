"""A node that comes to an RTR from another address, and the proof that it is this node."""

from __future__ import annotations

import pytest

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.rtr.rtr_effect import InstallRelay
from lispmob.wire.address import EidPrefix, IpAddress
from tests.hub.exchange import eid
from tests.hub.rtr.rtr_scene import EID, LTE, NAT, OTHER_NAT, RTR, WIFI, Scene


@pytest.mark.parametrize("place", [(OTHER_NAT, 30000), (NAT, 30000)])
def test_a_new_place_replaces_the_old_one_once_it_has_answered(place: tuple[IpAddress, int]) -> None:
    scene = Scene()
    scene.all_the_way(scene.register())

    assert scene.is_asked(scene.all_the_way(scene.register(public=place), now=20.0), *place)
    assert scene.places() == [(str(NAT), 20001, 1, 100)]
    effects = scene.all_the_way(scene.register(public=place), now=20.05)

    assert scene.places() == [(str(place[0]), place[1], 1, 100)]
    assert [effect.bindings[0].port for effect in effects if isinstance(effect, InstallRelay)] == [place[1]]


BOTH = [(WIFI, 1, 100), (LTE, 2, 100)]
WITHOUT_WIFI = [(WIFI, 255, 0), (LTE, 2, 100)]
AT_LTE = (OTHER_NAT, 20002, 2, 100)


def with_a_failed_uplink(*prefixes: EidPrefix) -> Scene:
    """The Wi-Fi of two uplinks has failed, and the node has said so."""
    scene = Scene()
    for prefix in prefixes or (EID,):
        scene.all_the_way(scene.register(listed=BOTH, eid=prefix))
        scene.all_the_way(scene.register(LTE, (OTHER_NAT, 20002), listed=WITHOUT_WIFI, eid=prefix))
    return scene


def as_text(place: tuple[IpAddress, int, int, int]) -> tuple[str, int, int, int]:
    return (str(place[0]), *place[1:])


@pytest.mark.parametrize("place", [(OTHER_NAT, 30000), (NAT, 30000)])
def test_nothing_is_sent_to_the_former_place_of_a_failed_uplink_that_returns_at_another(
    place: tuple[IpAddress, int],
) -> None:
    scene = with_a_failed_uplink()
    assert scene.places() == [as_text(AT_LTE)]

    scene.all_the_way(scene.register(public=place, listed=BOTH), now=20.0)
    scene.all_the_way(scene.register(LTE, (OTHER_NAT, 20002), listed=BOTH), now=20.01)
    assert scene.places() == [as_text(AT_LTE)]
    scene.all_the_way(scene.register(public=place, listed=BOTH), now=20.05)

    assert scene.places() == [as_text((*place, 1, 100)), as_text(AT_LTE)]


def test_a_failed_uplink_that_returns_at_its_former_place_is_used_at_once() -> None:
    scene = with_a_failed_uplink()
    scene.all_the_way(scene.register(public=(OTHER_NAT, 30000), listed=BOTH), now=20.0)

    scene.all_the_way(scene.register(listed=BOTH), now=21.0)

    assert scene.places() == [as_text((NAT, 20001, 1, 100)), as_text(AT_LTE)]


def test_a_former_place_is_better_than_none() -> None:
    scene = with_a_failed_uplink()
    scene.all_the_way(scene.register(public=(NAT, 30000), listed=BOTH), now=20.0)

    scene.all_the_way(scene.register(public=(NAT, 30001), listed=[(WIFI, 1, 100)]), now=20.01)

    assert scene.places() == [as_text((NAT, 20001, 1, 100))]


def test_the_answer_for_one_eid_brings_a_failed_uplink_back_for_all() -> None:
    second = eid("10.1.0.2/32")
    scene = with_a_failed_uplink(EID, second)
    for prefix in (EID, second):
        scene.all_the_way(scene.register(public=(NAT, 30000), listed=BOTH, eid=prefix), now=20.0)

    scene.all_the_way(scene.register(public=(NAT, 30000), listed=BOTH, eid=second), now=20.05)

    for prefix in (EID, second):
        assert scene.places(prefix) == [as_text((NAT, 30000, 1, 100)), as_text(AT_LTE)]


def test_registers_of_one_burst_are_no_answer() -> None:
    scene, second = Scene(), eid("10.1.0.2/32")
    for prefix in (EID, second):
        scene.all_the_way(scene.register(eid=prefix))

    for prefix in (EID, second):
        scene.all_the_way(scene.register(public=(OTHER_NAT, 30000), eid=prefix), now=20.0)

    assert scene.places() == [(str(NAT), 20001, 1, 100)]


def test_the_answer_for_one_eid_moves_all_that_have_registered_from_there() -> None:
    scene, second = Scene(), eid("10.1.0.2/32")
    for public in ((NAT, 20001), (OTHER_NAT, 30000)):
        for prefix in (EID, second):
            scene.all_the_way(scene.register(public=public, eid=prefix))

    scene.all_the_way(scene.register(public=(OTHER_NAT, 30000), eid=second))

    assert scene.places() == [(str(OTHER_NAT), 30000, 1, 100)]
    assert scene.places(second) == [(str(OTHER_NAT), 30000, 1, 100)]


def test_an_uplink_that_speaks_from_its_old_place_again_has_not_moved() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())
    scene.all_the_way(scene.register(public=(OTHER_NAT, 30000)), now=20.0)

    scene.all_the_way(scene.register(), now=21.0)
    scene.all_the_way(scene.register(public=(OTHER_NAT, 30000)), now=40.0)

    assert scene.places() == [(str(NAT), 20001, 1, 100)]


def test_a_third_place_starts_again_from_the_beginning() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())

    for port in (30000, 30001, 30002):
        scene.all_the_way(scene.register(public=(OTHER_NAT, port)))

    assert scene.places() == [(str(NAT), 20001, 1, 100)]


def test_a_new_place_is_asked_again_and_not_for_ever() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())
    scene.all_the_way(scene.register(public=(OTHER_NAT, 30000), ttl_min=60), now=20.0)

    asked = [at for at in (20.4, 21.0, 22.0, 23.0, 40.0, 80.0, 200.0) if scene.rtr.on_timer(at)]

    assert asked == [20.4, 21.0, 22.0]
    assert scene.places() == [(str(NAT), 20001, 1, 100)]
    assert len(scene.rtr._moves) == 0


def test_the_same_register_from_the_old_place_shows_that_the_first_was_a_copy() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())

    for now in (20.0, 20.3, 20.9):  # the node gets no answer, tries again, and is copied again
        original = scene.register()
        scene.all_the_way(Arrival(original.payload, OTHER_NAT, 4341, RTR), now)
        scene.at_rtr(original, now + 0.01)

    assert scene.places() == [(str(NAT), 20001, 1, 100)]
    assert scene.rtr.counters["rx_copied_register"] == 3


def test_a_copier_that_was_confirmed_is_put_out_again_when_the_original_comes() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())
    first, second = scene.register(), scene.register()

    for original in (first, second):
        scene.all_the_way(Arrival(original.payload, OTHER_NAT, 4341, RTR), now=20.0)
    assert scene.places() == [(str(OTHER_NAT), 4341, 1, 100)]
    scene.at_rtr(second, now=20.03)

    assert scene.places() == [(str(NAT), 20001, 1, 100)]
