"""What must hold whatever nodes do, in whatever order."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.deadlines import PER_S
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.hub.map_server.site import SiteTable
from lispmob.hub.proxy import Proxy, ProxyEffect
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.protocol.effect import InstallMapping
from lispmob.wire.address import EidPrefix
from tests.hub.exchange import HUB, ask, eid, plane, reply_in, rlocs_of, site, xtr

EIDS = ["10.1.0.0/24", "10.1.0.0/25", "10.1.0.1/32", "10.1.0.200/32", "10.2.0.7/32"]
NODES = ["203.0.113.5", "203.0.113.6", "192.0.2.9"]
LIFETIME_S = 180.0


@dataclass(frozen=True)
class Step:
    pause_s: float
    eid: str
    node: str
    is_withdrawal: bool


steps = st.lists(
    st.builds(
        Step, st.floats(0.0, 200.0), st.sampled_from(EIDS), st.sampled_from(NODES), st.booleans() | st.just(False)
    ),
    max_size=25,
)
prefixes = st.builds(
    lambda number, mask: EidPrefix.make(IPv4Address(number), mask), st.integers(0, 2**32 - 1), st.integers(1, 32)
)
addresses = st.builds(IPv4Address, st.integers(0, 2**32 - 1))


@given(steps)
def test_an_answer_is_the_last_thing_registered_that_is_still_alive(done: list[Step]) -> None:
    hub, nodes, now = (
        plane(site("10.1.0.0/16", "10.2.0.0/16")),
        {node: xtr(node) for node in NODES},
        0.0,
    )
    alive: dict[str, tuple[str, float]] = {}
    for step in done:
        now += round(step.pause_s * PER_S) / PER_S  # it may still be there until the next check for expired ones
        hub.on_timer(now)
        if step.is_withdrawal:
            hub.on_datagram(nodes[step.node].withdraw(step.eid), now)
            alive.pop(step.eid, None)
        else:
            hub.on_datagram(nodes[step.node].register(step.eid), now)
            alive[step.eid] = (step.node, now + LIFETIME_S)
        alive = {one: (node, until) for one, (node, until) in alive.items() if until > now}

        for asked in ("10.1.0.1", "10.1.0.99", "10.1.0.200", "10.2.0.7"):
            records = reply_in(hub.on_datagram(ask(f"{asked}/32"), now)).records
            covering = [one for one in alive if eid(one).contains(IPv4Address(asked))]
            expected = max(covering, key=lambda one: eid(one).mask_len, default=None)
            if expected is None:
                assert all(not record.locators for record in records)
            else:
                assert (str(records[0].eid_prefix), rlocs_of(records[0])) == (expected, [alive[expected][0]])


@given(steps)
def test_there_is_a_timer_exactly_as_long_as_there_is_a_registration(done: list[Step]) -> None:
    hub, node, now = plane(site("10.1.0.0/16", "10.2.0.0/16")), xtr(NODES[0]), 0.0
    for step in done:
        now += step.pause_s
        hub.on_datagram(node.withdraw(step.eid) if step.is_withdrawal else node.register(step.eid), now)
        hub.on_timer(now)
        if len(hub.map_server.registrations):
            at = hub.wake_at()
            assert at is not None
            assert now < at < now + LIFETIME_S + 1 / PER_S
    hub.on_timer(now + LIFETIME_S + 1 / PER_S)
    assert len(hub.map_server.registrations) == 0
    assert hub.wake_at() is None


@given(addresses, st.lists(prefixes, max_size=20))
def test_a_hole_overlaps_nothing_and_no_wider_one_would_do(address: IPv4Address, taken: list[EidPrefix]) -> None:
    table: OrderedPrefixTable[None] = OrderedPrefixTable()
    for prefix in taken:
        table.insert(prefix, None)
    taken = [prefix for prefix in taken if not prefix.contains(address)]

    hole = table.gap(address, eid("0.0.0.0/0"))

    assert hole.contains(address)
    assert not any(hole.network.overlaps(ip_network(str(prefix.network))) for prefix in taken)
    if hole.mask_len:
        wider = EidPrefix.make(address, hole.mask_len - 1)
        assert any(wider.network.overlaps(ip_network(str(prefix.network))) for prefix in taken)


@given(addresses, st.lists(prefixes, max_size=12), st.booleans())
def test_a_negative_answer_covers_no_site_but_the_askers_own(
    address: IPv4Address, eids: list[EidPrefix], more_specifics: bool
) -> None:
    unique = list(dict.fromkeys(eids))
    sites = SiteTable(
        [site(str(one), name=str(number), more_specifics=more_specifics) for number, one in enumerate(unique)]
    )

    hole = sites.hole(address, 0)

    for one in unique:
        if not one.contains(address):
            assert not one.network.overlaps(ip_network(str(hole.network)))
        else:
            assert one.covers(hole)


@given(steps)
def test_the_proxys_table_is_always_that_of_the_registrations(done: list[Step]) -> None:
    hub, nodes, now = (
        plane(site("10.1.0.0/16", "10.2.0.0/16")),
        {node: xtr(node, nonces=count(n << 40)) for n, node in enumerate(NODES)},
        0.0,
    )
    proxy = Proxy([eid("10.1.0.0/16")])
    table: dict[EidPrefix, InstallMapping] = {}

    def follow(effects: list[PlaneEffect]) -> None:
        for change in effects:
            if isinstance(change, RegistrationChanged):
                perform(proxy.on_registration(change))

    def perform(effects: list[ProxyEffect]) -> None:
        for effect in effects:
            if isinstance(effect, InstallMapping):
                table[effect.prefix] = effect
            else:
                del table[effect.prefix]

    perform(proxy.on_start())
    perform(proxy.on_addresses([HUB]))
    for step in done:
        now += step.pause_s
        follow(hub.on_timer(now))
        node = nodes[step.node]
        follow(hub.on_datagram(node.withdraw(step.eid) if step.is_withdrawal else node.register(step.eid), now))

        expected: dict[EidPrefix, list[str]] = {eid("10.1.0.0/16"): []}
        for prefix, registration in hub.map_server.registrations:
            if eid("10.1.0.0/16").covers(prefix) and registration.record is not None:
                expected[prefix] = rlocs_of(registration.record)
        assert {
            prefix: [str(locator.address) for locator in entry.locators] for prefix, entry in table.items()
        } == expected


@given(st.binary(max_size=200), st.sampled_from([0x10, 0x30, 0x80, 0x00]))
def test_no_octets_whatsoever_disturb_the_hub(octets: bytes, kind: int) -> None:
    hub = plane(site("10.1.0.0/16"))
    payload = bytes([kind]) + octets

    try:
        hub.on_datagram(Arrival(payload, xtr(NODES[0]).address, 4342, HUB), now=0.0)
    except MalformedMessage:
        raise AssertionError("an error of the codec escaped") from None

    assert len(hub.map_server.registrations) == 0
