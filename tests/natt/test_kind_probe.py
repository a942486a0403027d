"""The kind of a NAT as it is found, through NATs whose kind is known; and what is no answer."""

from __future__ import annotations

from itertools import count, product

import pytest

from lispmob.natt.kind_probe import ANSWER_S, TRIES, FilteringProbe, KindFound, MappingProbe
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.info import InfoReply
from lispmob.wire.lcaf_types import NatTraversal
from lispmob.wire.map_reply import MapReply
from tests.internet.nat import Kind, NatBox
from tests.internet.network import World, ip
from tests.natt.probing_host import ProbingHost, Servers, seen_at
from tests.natt.world import EID, MAP_SERVER, RTR, locator

NAT = ip("203.0.113.200")
AnyProbe = MappingProbe | FilteringProbe


def prober(kind: type[AnyProbe], world: World, nat: NatBox, rtr: IpAddress = RTR) -> ProbingHost[AnyProbe]:
    here = locator()
    probe = kind(here, EID, seen_at(nat.public), rtr, b"laptop", new_nonce=count(1).__next__)
    return ProbingHost(world, nat, here, probe)


def found(
    kind: type[AnyProbe], *silent: IpAddress, rtr: IpAddress = RTR, **options: object
) -> tuple[str | None, str | None]:
    world = World()
    Servers(world, *silent)
    host = prober(kind, world, NatBox(world, str(NAT), **options), rtr)  # type: ignore[arg-type]
    world.run(60.0)
    (verdict,) = host.told
    assert isinstance(verdict, KindFound)
    assert (verdict.address, host.wake_at()) == (host.here.address, None)
    return verdict.mapping, verdict.filtering


@pytest.mark.parametrize(("mapping", "filtering", "preserves"), list(product(Kind, Kind, (True, False))))
def test_the_filtering_of_a_nat_is_found_whatever_its_mapping(mapping: Kind, filtering: Kind, preserves: bool) -> None:
    verdict = found(FilteringProbe, mapping=mapping, filtering=filtering, preserves_ports=preserves)

    # That nothing comes says something only where an answer to the control port shows that there are answers.
    shows_answers = preserves and mapping is Kind.ENDPOINT_INDEPENDENT
    is_known = filtering is not Kind.ADDRESS_AND_PORT_DEPENDENT or shows_answers
    assert verdict == (None, filtering.value if is_known else None)


@pytest.mark.parametrize(("mapping", "filtering"), list(product(Kind, Kind)))
def test_the_mapping_of_a_nat_is_found_as_far_as_two_hosts_show_it(mapping: Kind, filtering: Kind) -> None:
    verdict = found(MappingProbe, mapping=mapping, filtering=filtering, preserves_ports=False)

    is_same = mapping is Kind.ENDPOINT_INDEPENDENT
    assert verdict == (Kind.ENDPOINT_INDEPENDENT.value if is_same else Kind.ADDRESS_DEPENDENT.value, None)


@pytest.mark.parametrize("kind", [MappingProbe, FilteringProbe])
def test_an_rtr_that_is_silent_is_asked_three_times_and_nothing_is_known(kind: type[AnyProbe]) -> None:
    world = World()
    Servers(world, RTR)
    host = prober(kind, world, NatBox(world, str(NAT)))
    world.run(60.0)

    assert host.sent == [(tries * ANSWER_S, RTR) for tries in range(TRIES)]
    assert host.told == [KindFound(host.here.address, None, None)]


def test_a_map_server_that_is_silent_leaves_the_mapping_unknown() -> None:
    assert found(MappingProbe, MAP_SERVER) == (None, None)


def test_an_answer_of_the_rtr_alone_shows_that_addresses_count() -> None:
    verdict = found(FilteringProbe, MAP_SERVER, filtering=Kind.ENDPOINT_INDEPENDENT)

    assert verdict == (None, Kind.ADDRESS_DEPENDENT.value)


@pytest.mark.parametrize(
    ("filtering", "shown"),
    [(Kind.ENDPOINT_INDEPENDENT, Kind.ADDRESS_DEPENDENT), (Kind.ADDRESS_DEPENDENT, Kind.ADDRESS_DEPENDENT)],
)
def test_an_rtr_at_the_map_servers_own_address_shows_less(filtering: Kind, shown: Kind) -> None:
    assert found(FilteringProbe, rtr=MAP_SERVER, filtering=filtering) == (None, shown.value)


def test_two_ports_of_one_host_show_that_ports_count() -> None:
    verdict = found(MappingProbe, rtr=MAP_SERVER, mapping=Kind.ADDRESS_AND_PORT_DEPENDENT, preserves_ports=False)

    assert verdict == (Kind.ADDRESS_AND_PORT_DEPENDENT.value, None)


def test_what_is_no_answer_only_delays_the_verdict() -> None:
    world = World()
    probe = prober(MappingProbe, world, NatBox(world, str(NAT))).probe  # without a server
    nat = NatTraversal(CONTROL_PORT, 4000, NAT, RTR, None)
    key = Key(b"of no site", algorithm=Algorithm.HMAC_SHA_256_128)
    forged = sign(InfoReply(5, None, 0, nat, ttl_min=1), key)

    for junk in (b"", b"\x00", forged, MapReply(2, ()).encode(), bytes(40)):
        assert probe.on_spare_datagram(junk, 0.1) == []
    assert not probe.on_control_reply(MapReply(4, ()))
    assert probe.wake_at() == ANSWER_S
