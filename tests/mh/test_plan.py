"""The kernel state that follows from a plan, without a kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from lispmob.mh.plan import (
    FULL_TABLE,
    GATEWAY_TABLE,
    LINGER_TABLE,
    NOTHING,
    OVERLAY_TABLE,
    ROUTER_TABLES,
    KernelState,
    KernelUplink,
    LostAddress,
    plan,
)
from lispmob.wire.address import EidPrefix

EID = EidPrefix.parse("10.1.0.1/32")
EID6 = EidPrefix.parse("2001:db8:e::1/128")
OVERLAY = ip_network("10.1.0.0/16")


def test_a_node_without_eids_needs_nothing_of_the_kernel() -> None:
    assert plan(KernelState("lmn0", mode="full", overlay_prefixes=(OVERLAY,))) == NOTHING


def test_split_mode_makes_no_default_route() -> None:
    routes = plan(KernelState("lmn0", (EID,), overlay_prefixes=(OVERLAY,))).routes

    assert [str(route.destination) for route in routes] == ["10.1.0.0/16"]


def test_routes_to_the_overlay_prefer_the_eid_as_source() -> None:
    (route,) = plan(KernelState("lmn0", (EID, EID6), overlay_prefixes=(OVERLAY,))).routes

    assert (route.devices, route.source) == (("lmn0",), ip_address("10.1.0.1"))


def test_a_family_without_an_eid_is_left_alone_even_in_full_mode() -> None:
    wanted = plan(KernelState("lmn0", (EID,), "full", (OVERLAY, ip_network("2001:db8::/32"))))

    assert {rule.family for rule in wanted.rules} == {4}
    assert {route.destination.version for route in wanted.routes} == {4}


def test_a_native_prefix_is_thrown_back_in_every_table_that_would_catch_it() -> None:
    native = (ip_network("10.1.9.0/24"), ip_network("203.0.113.0/24"))

    routes = plan(KernelState("lmn0", (EID,), "full", (OVERLAY,), native)).routes

    thrown = {(route.table, str(route.destination)) for route in routes if route.kind == "throw"}
    assert (OVERLAY_TABLE, "10.1.9.0/24") in thrown
    assert (OVERLAY_TABLE, "203.0.113.0/24") not in thrown
    assert {(FULL_TABLE, "10.1.9.0/24"), (FULL_TABLE, "203.0.113.0/24")} <= thrown


def test_multicast_and_broadcast_of_the_link_are_never_encapsulated() -> None:
    routes = plan(KernelState("lmn0", (EID, EID6), "full")).routes

    thrown = {str(route.destination) for route in routes if route.kind == "throw"}
    assert {"224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"} <= thrown


def test_a_whole_prefix_as_eid_is_routed_but_is_no_address_of_the_host() -> None:
    wanted = plan(KernelState("lmn0", (EidPrefix.parse("10.1.0.0/24"),), overlay_prefixes=(OVERLAY,)))

    assert wanted.addresses == frozenset()
    assert "10.1.0.0/24" in {str(rule.source) for rule in wanted.rules}


def test_eids_are_translated_only_when_asked_for() -> None:
    assert plan(KernelState("lmn0", (EID,))).masqueraded == frozenset()
    assert plan(KernelState("lmn0", (EID,), translates_native=True)).masqueraded == {EID.network}


def test_each_uplink_stands_by_with_its_first_gateway_in_the_order_of_the_uplinks() -> None:
    here, there, spare = (ip_address(f"198.51.100.{number}") for number in (1, 2, 3))
    uplinks = (KernelUplink("eth0", gateways=(here, spare)), KernelUplink("wwan0", gateways=(there,)))

    wanted = plan(KernelState("lmn0", (EID,), overlay_prefixes=(OVERLAY,), uplinks=uplinks))

    standby = sorted(
        (route.metric, str(route.destination), route.devices, route.gateway)
        for route in wanted.routes
        if route.table == GATEWAY_TABLE
    )
    assert standby == [(1, "0.0.0.0/0", ("eth0",), here), (2, "0.0.0.0/0", ("wwan0",), there)]
    assert {rule.device for rule in wanted.rules if rule.table == GATEWAY_TABLE} == {"eth0", "wwan0"}


RLOC, MODEM = ip_address("198.51.100.2"), ip_address("192.168.8.100")


def admitted(state: KernelState) -> set[tuple[str, int, int]]:
    """The addresses and ports that pass a reverse path filter on any uplink: (address, first port, last port)."""
    return {
        (str(rule.source.network_address), *rule.udp_ports)
        for rule in plan(state).rules
        if rule.table == LINGER_TABLE and rule.source is not None and rule.udp_ports is not None
    }


def test_data_and_control_messages_pass_a_reverse_path_filter_on_every_uplink_also_behind_a_nat() -> None:
    uplinks = (KernelUplink("eth1", (RLOC,)), KernelUplink("eth2", (MODEM,)))
    state = KernelState("lmn0", uplinks=uplinks, sends_from_data_port=frozenset({MODEM}))

    assert admitted(state) == {(str(RLOC), 4341, 4342), (str(MODEM), 4341, 4342)}


def test_a_lost_address_receives_data_unless_its_port_sends_data_as_well() -> None:
    lost = (LostAddress(RLOC, "eth1"), LostAddress(MODEM, "eth2"))
    state = KernelState("lmn0", lost=lost, sends_from_data_port=frozenset({MODEM}))

    assert admitted(state) == {(str(RLOC), 4341, 4341)}


def test_the_answers_to_measurements_pass_a_reverse_path_filter_at_ipv4_addresses_that_are_present() -> None:
    spare = frozenset({(RLOC, 40001), (MODEM, 40002), (ip_address("2001:db8::1"), 40003)})
    state = KernelState("lmn0", uplinks=(KernelUplink("eth1", (RLOC,)),), spare_ports=spare)

    assert admitted(state) == {(str(RLOC), 4341, 4342), (str(RLOC), 40001, 40001)}
    assert {rule.device for rule in plan(state).rules if rule.udp_ports == (40001, 40001)} == {"", "eth1"}


GUESTS = ip_network("172.17.0.0/16")


def sources(state: KernelState, table: int) -> set[str]:
    return {str(rule.source) for rule in plan(state).rules if rule.table == table}


def test_packets_of_containers_enter_the_overlay_and_nothing_else_of_ours() -> None:
    state = KernelState("lmn0", (EID,), "full", (OVERLAY,), container_networks=(GUESTS,))

    assert sources(state, OVERLAY_TABLE) == {"10.1.0.1/32", "0.0.0.0/32", "172.17.0.0/16"}
    assert sources(state, FULL_TABLE) == {"10.1.0.1/32", "0.0.0.0/32"}


def test_containers_of_a_family_without_an_eid_are_left_alone() -> None:
    guests = (GUESTS, ip_network("fd17::/64"))
    state = KernelState("lmn0", (EID,), "split", (OVERLAY,), container_networks=guests)

    assert sources(state, OVERLAY_TABLE) == {"10.1.0.1/32", "0.0.0.0/32", "172.17.0.0/16"}


def test_packets_of_containers_for_the_overlay_are_refused_with_the_hosts_own_while_the_device_is_gone() -> None:
    state = KernelState("lmn0", (EID,), "split", (OVERLAY,), container_networks=(GUESTS,), guards_overlay=True)

    refused = {str(rule.source) for rule in plan(state).rules if rule.action == "unreachable"}
    assert refused == {"10.1.0.1/32", "0.0.0.0/32", "172.17.0.0/16"}


def by_router(state: KernelState) -> set[tuple[str, str, int]]:
    return {
        (str(rule.source), str(rule.destination), rule.table)
        for rule in plan(state).rules
        if rule.source is not None and rule.destination is not None and rule.table in ROUTER_TABLES
    }


def test_of_two_uplinks_in_one_subnet_each_answers_the_routers_arp_requests() -> None:
    router, other = ip_address("198.51.100.1"), ip_address("198.51.100.3")
    uplinks = (
        KernelUplink("eth1", (RLOC,), (router,), shares_subnet=True),
        KernelUplink("eth2", (other,), (router,), shares_subnet=True),
        KernelUplink("eth3", (MODEM,), (ip_address("192.168.8.1"),)),
    )
    wanted = KernelState("lmn0", (EID,), uplinks=uplinks)

    assert by_router(wanted) == {
        (f"{RLOC}/32", f"{router}/32", ROUTER_TABLES[0]),
        (f"{other}/32", f"{router}/32", ROUTER_TABLES[1]),
    }
    routes = {(route.table, route.devices) for route in plan(wanted).routes if route.table in ROUTER_TABLES}
    assert routes == {(ROUTER_TABLES[0], ("eth1",)), (ROUTER_TABLES[1], ("eth2",))}


def test_an_uplink_without_a_router_or_with_one_of_the_other_family_needs_no_such_route() -> None:
    uplinks = (
        KernelUplink("ppp0", (RLOC,), (None,), shares_subnet=True),
        KernelUplink("eth1", (MODEM,), (ip_address("fe80::1"),), shares_subnet=True),
        KernelUplink("eth2", (ip_address("2001:db8::2"),), (), shares_subnet=True),
    )

    assert by_router(KernelState("lmn0", (EID,), uplinks=uplinks)) == set()


def test_more_uplinks_in_one_subnet_than_there_are_tables_leave_the_last_ones_as_they_are() -> None:
    router = ip_address("10.9.0.1")
    uplinks = tuple(
        KernelUplink(f"eth{number}", (ip_address(f"10.9.0.{number + 2}"),), (router,), shares_subnet=True)
        for number in range(8)
    )

    assert {table for _, _, table in by_router(KernelState("lmn0", (EID,), uplinks=uplinks))} == set(ROUTER_TABLES)
