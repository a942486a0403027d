from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.control.registration import State
from lispmob.control.smr import solicited
from lispmob.natt.arrival import DataControl
from lispmob.node.node import Datagram, LocalLocator, MapServerPeer, Node, NodeConfig, NodeEffect
from lispmob.protocol.effect import DropPending, Event, InstallMapping, RemoveMapping, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import (
    EID,
    EID6,
    KEY,
    LTE,
    RESOLVER,
    SERVER,
    WIFI,
    WIFI6,
    ip,
    nonces,
    only,
    prefix,
    register_in,
    request_in,
)

PEER = ip("10.2.0.7")
PEER_RLOC = ip("203.0.113.5")
PITR = ip("192.0.2.50")
CONFIG = NodeConfig(
    (EID,), (MapServerPeer(SERVER, KEY),), (RESOLVER,), proxy_itrs=(PITR,), first_nonce=1_000_000, record_ttl_min=5
)


def node(config: NodeConfig = CONFIG) -> Node:
    return Node(config, new_nonce=nonces(7), jitter=lambda: 0.5)


def datagram(payload: bytes, source: IpAddress = SERVER, destination: IpAddress = WIFI.address) -> Datagram:
    return Datagram(payload, source, 4342, destination, 2)


def kinds(effects: Sequence[NodeEffect]) -> list[str]:
    return [event.kind for event in only(effects, Event)]


def sent(effects: Sequence[NodeEffect]) -> list[str]:
    """The kinds of the messages that leave, with destinations, in order: "map-register", "smr", "ecm" and so on."""
    names = []
    for send in only(effects, SendControl):
        message = decode_control(send.payload)
        name = "smr" if isinstance(message, MapRequest) and message.is_smr else type(message).__name__
        names.append(f"{name} {send.destination}")
    return names


def resolve(machine: Node, now: float) -> list[NodeEffect]:
    """A packet leaves for the peer, and the mapping system answers for it."""
    asked = request_in(only(machine.on_miss(EID.address, PEER, 0, now), SendControl)[0])
    record = MappingRecord.of(prefix("10.2.0.0/24"), (Locator(PEER_RLOC),))
    own = asked.itr_rlocs[0]
    assert isinstance(own, IpAddress)
    return machine.on_datagram(datagram(MapReply(asked.nonce, (record,)).encode(), destination=own), now + 0.1)


def confirm(machine: Node, effects: Sequence[NodeEffect], now: float, key: Key = KEY) -> list[NodeEffect]:
    register = register_in(effects)
    return machine.on_datagram(datagram(sign(MapNotify(register.nonce, register.records), key)), now)


def test_a_node_without_uplinks_does_nothing_and_waits_for_nothing() -> None:
    machine = node()

    assert machine.on_locators([], 0.0) == []
    assert machine.wake_at() is None


def test_a_handover_registers_first_and_solicits_peers_and_proxies_in_the_same_call() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    resolve(machine, 1.0)

    effects = machine.on_locators([LTE], 10.0)

    assert sent(effects) == [f"MapRegister {SERVER}", f"smr {PEER_RLOC}", f"smr {PITR}"]
    assert {send.source for send in only(effects, SendControl)} == {LTE.address}
    assert kinds(effects) == ["moved", "register-sent", "smr-sent"]


def test_register_nonces_start_where_they_are_told_and_are_shared_by_all_registrations() -> None:
    second = MapServerPeer(ip("192.0.2.2"), KEY)
    machine = node(replace(CONFIG, eids=(EID, EID6), map_servers=(*CONFIG.map_servers, second)))

    registers = [
        message.nonce
        for send in only(machine.on_locators([WIFI], 0.0), SendControl)
        if isinstance(message := decode_control(send.payload), MapRegister)
    ]

    assert registers == [1_000_000, 1_000_001, 1_000_002, 1_000_003]


def test_an_uplink_that_offers_our_own_eid_is_no_uplink() -> None:
    machine = node()

    machine.on_locators([LocalLocator(EID.address, 9, "lmn0")], 0.0)

    assert not machine.locators


def test_the_peer_that_was_used_before_the_uplinks_went_is_told_when_they_are_back() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    resolve(machine, 1.0)
    machine.on_used([prefix("10.2.0.0/24")], 5.0)
    machine.on_locators([], 10.0)

    effects = machine.on_locators([LTE], 200.0)

    assert f"smr {PEER_RLOC}" in sent(effects)


def test_a_source_that_was_heard_is_told_of_a_move() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    machine.on_heard([(WIFI.address, ip("203.0.113.9"))], 5.0)

    assert "smr 203.0.113.9" in sent(machine.on_locators([LTE], 10.0))
    assert "smr 203.0.113.9" not in sent(machine.on_locators([WIFI], 100.0))


def test_a_miss_ends_in_an_installed_mapping() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)

    effects = resolve(machine, 1.0)

    (install,) = only(effects, InstallMapping)
    assert (install.prefix, install.disposition) == (prefix("10.2.0.0/24"), "ENCAPSULATE")
    assert kinds(effects) == ["mapping-installed"]


def test_a_packet_that_the_answer_overtook_gets_the_entry_again() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    (install,) = only(resolve(machine, 1.0), InstallMapping)

    assert machine.on_miss(EID.address, PEER, 0, 1.2) == [install]


def test_our_own_infrastructure_is_never_looked_up() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)

    for address in (SERVER, WIFI.address, EID.address):
        assert only(machine.on_miss(EID.address, address, 0, 1.0), DropPending)
    assert only(machine.on_miss(ip("10.77.0.1"), PEER, 0, 1.0), DropPending)
    assert machine.lookups == ()


def test_an_smr_for_a_cached_mapping_makes_us_ask_the_mapping_system() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    resolve(machine, 1.0)
    smr = MapRequest(0, PEER, (PEER_RLOC,), (EidRecord.of(EID),), is_smr=True)

    effects = machine.on_datagram(datagram(smr.encode(), source=PEER_RLOC), 5.0)

    assert sent(effects) == [f"EncapsulatedControl {RESOLVER}"]


def test_an_smr_for_what_is_not_cached_is_ignored() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    smr = MapRequest(0, PEER, (PEER_RLOC,), (EidRecord.of(EID),), is_smr=True)

    assert machine.on_datagram(datagram(smr.encode()), 5.0) == []
    assert machine.counters["rx_policy"] == 1


def test_a_map_request_in_an_ecm_is_answered_to_the_asker() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    request = MapRequest(5, PEER, (PEER_RLOC,), (EidRecord.of(EID),))
    ecm = EncapsulatedControl(PEER, 50001, EID.address, 4342, request.encode())

    (send,) = only(machine.on_datagram(datagram(ecm.encode()), 5.0), SendControl)

    assert (send.destination, send.port) == (PEER_RLOC, 50001)
    assert MapReply.decode(send.payload).records[0].ttl_min == 5


def test_a_map_request_in_an_ecm_without_an_inner_checksum_is_answered_and_counted() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    request = MapRequest(5, PEER, (PEER_RLOC,), (EidRecord.of(EID),))
    ecm = EncapsulatedControl(PEER, 50001, EID.address, 4342, request.encode(), has_checksum=False)

    (send,) = only(machine.on_datagram(datagram(ecm.encode()), 5.0), SendControl)

    assert (send.destination, send.port) == (PEER_RLOC, 50001)
    assert machine.counters["rx_ecm_unsummed"] == 1


def test_an_ecm_for_another_node_is_refused() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    request = MapRequest(5, PEER, (PEER_RLOC,), (EidRecord.of(EID),))
    ecm = EncapsulatedControl(PEER, 50001, ip("10.1.0.99"), 4342, request.encode())

    assert machine.on_datagram(datagram(ecm.encode()), 5.0) == []
    assert machine.counters["rx_policy"] == 1


def test_a_map_register_is_nothing_for_a_node() -> None:
    machine = node()
    (send,) = only(machine.on_locators([WIFI], 0.0), SendControl)[:1]

    machine.on_datagram(datagram(send.payload), 1.0)

    assert machine.counters["rx_type"] == 1


def test_a_wrong_key_is_counted_and_explained() -> None:
    machine = node()
    effects = machine.on_locators([WIFI], 0.0)

    refused = confirm(machine, effects, 0.1, Key(b"the old key"))

    assert machine.counters["rx_auth"] == 1
    assert kinds(refused) == ["auth-failed"]
    assert "key" in str(only(refused, Event)[0].fields["text"])


def test_peers_are_told_again_when_the_first_register_was_lost() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    resolve(machine, 1.0)
    machine.on_locators([LTE], 30.0)
    retry = machine.on_timer(31.0)

    effects = confirm(machine, retry, 31.1)

    assert f"smr {PEER_RLOC}" in sent(effects)


def test_a_reload_leaves_alone_what_did_not_change() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    before = machine.registrations

    effects = machine.on_config(replace(CONFIG, eids=(EID, EID6)), 10.0)

    assert machine.registrations[0] is before[0]
    assert sent(effects) == [f"MapRegister {SERVER}"]
    assert register_in(effects).records[0].eid_prefix == EID6


def test_a_reload_withdraws_an_eid_that_is_no_longer_ours() -> None:
    machine = node(replace(CONFIG, eids=(EID, EID6)))
    machine.on_locators([WIFI], 0.0)

    effects = machine.on_config(CONFIG, 10.0)

    register = register_in(effects)
    assert (register.records[0].eid_prefix, register.records[0].ttl_min) == (EID6, 0)


def test_a_new_key_registers_again_without_withdrawing() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    changed = replace(CONFIG, map_servers=(MapServerPeer(SERVER, Key(b"new")),))

    effects = machine.on_config(changed, 10.0)

    assert sent(effects) == [f"MapRegister {SERVER}"]
    assert register_in(effects).records[0].ttl_min == 5
    assert machine.registrations[0].state is State.REGISTERING


def test_static_mappings_are_handed_out_with_the_first_input() -> None:
    static = MappingRecord.of(prefix("10.9.0.0/16"), (Locator(PEER_RLOC),))
    machine = node(replace(CONFIG, static_mappings=(static,)))

    installs = only(machine.on_locators([WIFI], 0.0), InstallMapping)

    assert installs[-1].prefix == prefix("10.9.0.0/16")
    assert [locator.address for locator in installs[-1].locators] == [PEER_RLOC]


def test_a_shutdown_withdraws_and_ends_the_refreshes() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)

    effects = machine.on_shutdown(5.0)

    assert kinds(effects) == ["withdrawn"]
    assert machine.registrations[0].wake_at() is None


def test_after_a_sleep_it_registers_and_asks_again() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    resolve(machine, 1.0)

    assert sent(machine.on_slept(5.0)) == [f"MapRegister {SERVER}", f"EncapsulatedControl {RESOLVER}"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=120), st.integers(0, 15)), max_size=10))
def test_whatever_arrives_the_node_only_counts_it(junk: list[tuple[bytes, int]]) -> None:
    machine = node()
    machine.on_locators([WIFI, WIFI6], 0.0)
    resolve(machine, 1.0)
    before = [(entry.prefix, entry.locators) for entry in machine.map_cache]

    for octets, kind in junk:
        machine.on_datagram(datagram(bytes([kind << 4]) + octets), 2.0)

    assert sum(count for name, count in machine.counters.items() if name.startswith("rx_")) == len(junk)
    assert [(entry.prefix, entry.locators) for entry in machine.map_cache] == before
    assert machine.registrations[0].state is State.REGISTERING


def test_a_mapping_added_by_hand_survives_a_reload_and_goes_when_deleted() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)

    (install,) = only(machine.on_mapping_added(prefix("10.9.0.0/16"), [Locator(PEER_RLOC)], 0, 1.0), InstallMapping)
    machine.on_config(CONFIG, 2.0)
    assert [entry.prefix for entry in machine.map_cache] == [install.prefix]

    assert only(machine.on_mapping_deleted(install.prefix, 3.0), RemoveMapping) == [RemoveMapping(install.prefix)]
    assert len(machine.map_cache) == 0


def in_data(source: str, outer_source: str, request: MapRequest) -> DataControl:
    """A Map-Request in a data packet, with these inner and outer addresses."""
    own = WIFI.address
    return DataControl(request.encode(), ip(source), 4342, own, 4342, ip(outer_source), 4342, own, 2)


def test_a_question_in_data_is_answered_to_its_sender_alone() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    probe = MapRequest(9, None, (PEER_RLOC,), (EidRecord.of(EID),), is_probe=True)
    victim = ["203.0.113.66", "192.0.2.1", "10.9.9.9"]
    answered = [machine.on_data_control(in_data(one, str(PEER_RLOC), probe), 1.0) for one in victim]
    by_itself = machine.on_data_control(in_data(str(PEER_RLOC), str(PEER_RLOC), probe), 1.0)

    assert answered == [[], [], []]
    assert [send.destination for send in only(by_itself, SendControl)] == [PEER_RLOC]
    assert machine.counters["rx_policy"] == 3


def test_where_else_a_peer_may_send_from_is_told_with_its_mapping() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    asked = request_in(only(machine.on_miss(EID.address, PEER, 0, 1.0), SendControl)[0])
    never = Locator(ip("203.0.113.6"), 255)
    unreachable = Locator(ip("203.0.113.7"), is_reachable=False)
    other_family = Locator(ip("2001:db8:7::1"))
    record = MappingRecord.of(prefix("10.2.0.0/24"), (Locator(PEER_RLOC), never, unreachable, other_family))
    effects = machine.on_datagram(datagram(MapReply(asked.nonce, (record,)).encode()), 1.1)

    (install,) = only(effects, InstallMapping)
    assert [locator.address for locator in install.locators] == [PEER_RLOC]
    assert install.sources == (ip("203.0.113.6"), ip("203.0.113.7"), ip("2001:db8:7::1"))


def say_unregistered(machine: Node, eid: str, now: float, ttl_min: int = 1) -> list[NodeEffect]:
    """A Map-Server's SMR about a peer, and its answer that no xTR has registered it."""
    smr = MapRequest(0, PEER, (PEER_RLOC,), (EidRecord.of(prefix(eid)),), is_smr=True)
    asked = request_in(only(machine.on_datagram(datagram(smr.encode(), source=PEER_RLOC), now), SendControl)[0])
    record = MappingRecord.of(prefix(eid), ttl_min=ttl_min, action=Action.NATIVELY_FORWARD)
    own = asked.itr_rlocs[0]
    assert isinstance(own, IpAddress)
    return machine.on_datagram(datagram(MapReply(asked.nonce, (record,)).encode(), destination=own), now + 0.1)


@pytest.mark.parametrize("ttl_min", [1, 15], ids=["not registered", "in no site"])
def test_who_hears_that_a_peer_is_not_registered_makes_sure_that_itself_is(ttl_min: int) -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    resolve(machine, 1.0)

    effects = say_unregistered(machine, "10.2.0.0/24", 5.0, ttl_min)

    assert f"MapRegister {SERVER}" in sent(effects)


def test_a_peer_that_could_be_reached_is_told_that_it_is_not_registered() -> None:
    """It registers then, as after an SMR of the Map-Server about its own EID."""
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    resolve(machine, 1.0)

    effects = say_unregistered(machine, "10.2.0.0/24", 5.0)

    (smr,) = (
        message
        for send in only(effects, SendControl)
        if send.destination == PEER_RLOC and isinstance(message := decode_control(send.payload), MapRequest)
    )
    assert smr.is_smr
    assert solicited(smr) == EidPrefix.host(PEER)


def test_an_eid_that_was_never_reached_is_no_reason_to_register_again() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    asked = request_in(only(machine.on_miss(EID.address, PEER, 0, 1.0), SendControl)[0])
    record = MappingRecord.of(prefix("10.2.0.0/24"), ttl_min=1, action=Action.NATIVELY_FORWARD)
    own = asked.itr_rlocs[0]
    assert isinstance(own, IpAddress)

    effects = machine.on_datagram(datagram(MapReply(asked.nonce, (record,)).encode(), destination=own), 1.1)

    assert not any(one.startswith("MapRegister") for one in sent(effects))
