"""What the proxy installs in the forwarding table."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.map_server.effect import RegistrationChanged
from lispmob.hub.proxy import SLICE, Proxy
from lispmob.hub.rtr.nat_binding import Binding
from lispmob.protocol.effect import DispositionName, InstallMapping, RemoveMapping, UsableLocator
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import HUB, eid

SITE, LAPTOP = eid("10.1.0.0/16"), eid("10.1.0.1/32")
WIFI, LTE = ip_address("203.0.113.5"), ip_address("2001:db8::5")


def registered(*locators: Locator) -> RegistrationChanged:
    return RegistrationChanged(LAPTOP, MappingRecord.of(LAPTOP, locators))


def started(*own: str) -> Proxy:
    proxy = Proxy([SITE])
    proxy.on_start()
    proxy.on_addresses(map(ip_address, own or (str(HUB),)))
    return proxy


def test_an_unregistered_eid_is_dropped_without_asking() -> None:
    assert Proxy([SITE]).on_start() == [InstallMapping(SITE, "DROP")]


def test_a_registration_is_encapsulated_to_by_priority() -> None:
    effects = started(str(HUB), "2001:db8::1").on_registration(registered(Locator(WIFI, 2, 7), Locator(LTE, 1, 9)))

    assert effects == [InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(LTE, 1, 9), UsableLocator(WIFI, 2, 7)))]


def test_locators_that_cannot_be_used_are_left_out() -> None:
    unusable = (Locator(LTE), Locator(HUB), Locator(WIFI, 255), replace(Locator(WIFI), is_reachable=False))

    assert started().on_registration(registered(*unusable)) == [InstallMapping(LAPTOP, "DROP")]


def test_a_withdrawal_removes_the_entry_and_leaves_the_sites_one() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(WIFI)))

    assert proxy.on_registration(RegistrationChanged(LAPTOP, None)) == [RemoveMapping(LAPTOP)]


def test_a_whole_site_that_leaves_is_dropped_again() -> None:
    proxy = started()
    proxy.on_registration(RegistrationChanged(SITE, MappingRecord.of(SITE, [Locator(WIFI)])))

    assert proxy.on_registration(RegistrationChanged(SITE, None)) == [InstallMapping(SITE, "DROP")]


def test_nothing_is_said_twice() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(WIFI)))

    assert proxy.on_registration(registered(Locator(WIFI))) == []
    assert proxy.on_addresses([HUB]) == []


def test_other_instances_and_prefixes_that_are_not_routed_here_get_no_entry() -> None:
    proxy = started()

    for elsewhere in (eid("[7]10.1.0.1/32"), eid("10.9.0.1/32")):
        record = MappingRecord.of(elsewhere, [Locator(WIFI)])
        assert proxy.on_registration(RegistrationChanged(elsewhere, record)) == []


def test_an_address_family_that_comes_up_later_is_used_then() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(LTE)))

    effects = proxy.on_addresses([HUB, ip_address("2001:db8::1")])

    assert effects == [InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(LTE, 1, 100),))]


def test_prefixes_routed_no_more_lose_their_entries() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(WIFI)))

    assert set(proxy.on_routes([])) == {RemoveMapping(SITE), RemoveMapping(LAPTOP)}


BINDING = Binding(ip_address("192.168.1.2"), ip_address("203.0.113.200"), 20001, HUB, 4342, 600.0, 2, 50)
PLACE = UsableLocator(ip_address("203.0.113.200"), 2, 50, port=20001, source=HUB, source_port=4342)


def test_a_node_behind_a_nat_is_reached_at_its_place_from_the_port_that_the_nat_knows() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(HUB)))

    assert proxy.on_relay(LAPTOP, (BINDING,)) == [InstallMapping(LAPTOP, "ENCAPSULATE", (PLACE,))]


def test_a_second_uplink_without_a_nat_stands_beside_it_by_priority() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(HUB, 2), Locator(WIFI, 1, 9)))

    (entry,) = proxy.on_relay(LAPTOP, (BINDING,))

    assert entry == InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(WIFI, 1, 9), PLACE))


def test_a_node_that_came_out_of_its_nat_is_reached_directly_whatever_the_relay_remembers() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(HUB)))
    proxy.on_relay(LAPTOP, (BINDING,))

    assert proxy.on_registration(registered(Locator(WIFI, 1, 9))) == [
        InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(WIFI, 1, 9),))
    ]


@pytest.mark.parametrize(
    "rloc",
    ["127.0.0.1", "224.0.0.5", "169.254.169.254", "255.255.255.255", "240.0.0.1", "0.1.2.3", "10.0.0.7", "192.168.0.1",
     "::1", "ff02::1", "fe80::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::a00:1", "fd00::1"],
)  # fmt: skip
def test_nothing_is_sent_to_an_address_that_is_no_peers(rloc: str) -> None:
    proxy = started(str(HUB), "2001:db8::1")

    assert proxy.on_registration(registered(Locator(ip_address(rloc)))) == [InstallMapping(LAPTOP, "DROP")]
    assert proxy.on_learned(LAPTOP, MappingRecord.of(LAPTOP, [Locator(ip_address(rloc))])) == []


def test_a_hub_in_a_private_network_reaches_the_nodes_there() -> None:
    proxy = started("10.0.0.1")

    (entry,) = proxy.on_registration(registered(Locator(ip_address("10.0.0.7"))))

    assert entry == InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(ip_address("10.0.0.7"), 1, 100),))


def guarded() -> tuple[Proxy, dict[EidPrefix, DispositionName]]:
    proxy = Proxy([SITE], denied=[eid("10.0.0.0/8"), eid("fc00::/7")], allowed=[eid("10.7.0.0/16")])
    table = {one.prefix: one.disposition for one in proxy.on_start() if isinstance(one, InstallMapping)}
    return proxy, table


def test_what_is_denied_and_what_is_allowed_inside_of_it_have_entries() -> None:
    _, table = guarded()

    assert table == {
        SITE: "DROP",
        eid("10.0.0.0/8"): "PROHIBIT",
        eid("fc00::/7"): "PROHIBIT",
        eid("10.7.0.0/16"): "NATIVE",
    }


def test_eids_inside_of_what_is_denied_are_reached() -> None:
    proxy, _ = guarded()
    proxy.on_addresses([HUB])

    (entry,) = proxy.on_registration(registered(Locator(WIFI)))

    assert isinstance(entry, InstallMapping)
    assert (entry.prefix, entry.disposition) == (LAPTOP, "ENCAPSULATE")


def test_the_hubs_own_networks_are_denied_as_they_come_and_go() -> None:
    proxy, _ = guarded()
    rack, docker = eid("198.51.100.0/24"), eid("172.17.0.0/16")

    assert proxy.on_networks([rack]) == [InstallMapping(rack, "PROHIBIT")]
    assert set(proxy.on_networks([docker])) == {RemoveMapping(rack), InstallMapping(docker, "PROHIBIT")}
    assert proxy.on_networks([docker]) == []
    assert proxy.on_networks([SITE]) == [RemoveMapping(docker)]


def test_a_change_of_our_addresses_reaches_all_entries_in_slices() -> None:
    proxy = started()
    eids = [EidPrefix.make(ip_address("10.1.0.0") + number, 32) for number in range(2 * SLICE + 1)]
    for prefix in eids:
        proxy.on_registration(RegistrationChanged(prefix, MappingRecord.of(prefix, [Locator(WIFI), Locator(LTE)])))

    slices = [proxy.on_addresses([HUB, ip_address("2001:db8::1")])]
    while proxy.has_unsettled:
        slices.append(proxy.settle_some())

    changed = [effect.prefix for effects in slices for effect in effects if isinstance(effect, InstallMapping)]
    assert sorted(changed) == eids
    assert max(map(len, slices)) <= SLICE


def test_whom_a_locator_serves_is_known_while_it_is_installed_there() -> None:
    proxy = started()
    proxy.on_registration(registered(Locator(HUB, 2), Locator(WIFI, 1, 9)))
    proxy.on_relay(LAPTOP, (BINDING,))

    assert proxy.served(WIFI, 4341) == (LAPTOP, UsableLocator(WIFI, 1, 9))
    assert proxy.served(PLACE.address, PLACE.port) == (LAPTOP, PLACE)
    assert proxy.served(PLACE.address, 4341) is None
    assert proxy.served(HUB, 4341) is None

    elsewhere = ip_address("203.0.113.9")
    proxy.on_registration(registered(Locator(elsewhere, 1, 9)))

    assert proxy.served(WIFI, 4341) is None
    assert proxy.served(elsewhere, 4341) == (LAPTOP, UsableLocator(elsewhere, 1, 9))


def test_a_map_server_elsewhere_counts_until_a_node_registers_here_and_again_afterwards() -> None:
    proxy = started(str(HUB), "2001:db8::1")
    elsewhere = InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(WIFI, 1, 100),))

    assert proxy.on_learned(LAPTOP, MappingRecord.of(LAPTOP, [Locator(WIFI)])) == [elsewhere]
    assert proxy.on_registration(registered(Locator(LTE))) == [
        InstallMapping(LAPTOP, "ENCAPSULATE", (UsableLocator(LTE, 1, 100),))
    ]
    assert proxy.on_registration(RegistrationChanged(LAPTOP, None)) == [elsewhere]
    assert proxy.on_learned(LAPTOP, None) == [RemoveMapping(LAPTOP)]
