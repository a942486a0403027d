"""Keys of proxies: which entry leads to one that can seal, and the entry when the key changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.seal_config import HubKey, SealConfig
from lispmob.protocol.effect import ForgetPeer, InstallMapping, UsableLocator
from lispmob.wire.address import IpAddress
from lispmob.wire.key_record import KeyRecord
from tests.control.sealing.sealed_pair import ALICE_EID, Side, alice
from tests.control.support import ip, only, prefix
from tests.crypto.support import needs_libcrypto

HUB, HUB6, ANOTHER, PEER = ip("198.51.100.51"), ip("2001:db8::51"), ip("198.51.100.52"), ip("203.0.113.9")
KEY, NEW_KEY = bytes([7]) * 32, bytes([9]) * 32
DEFAULT = prefix("0.0.0.0/0")


def entry(*places: IpAddress) -> InstallMapping:
    return InstallMapping(DEFAULT, "ENCAPSULATE", tuple(UsableLocator(place, 1, 100) for place in places))


def side(*hubs: HubKey, mode: str = "prefer") -> Side:
    one = alice()
    one.machine.on_config(replace(one.config, mode=mode, hubs=hubs))
    return one


def installed(one: Side, *places: IpAddress) -> InstallMapping:
    return one.machine.entries.on_installed(entry(*places))[0]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ((), None),
        ((HUB,), HUB),
        ((HUB, HUB6), HUB),
        ((HUB6, HUB), HUB6),
        ((HUB, ANOTHER), None),  # another key
        ((ANOTHER, HUB), None),
        ((HUB, PEER), None),
        ((PEER, HUB), None),
        ((PEER,), None),
    ],
)
def test_a_hub_has_all_locators_of_an_entry_or_it_is_none_of_its(
    places: tuple[IpAddress, ...], found: IpAddress | None
) -> None:
    config = SealConfig(hubs=(HubKey(HUB, KEY), HubKey(HUB6, KEY), HubKey(ANOTHER, NEW_KEY)))

    hub = config.hub_at(places)

    assert (hub.address if hub is not None else None) == found


def test_a_configured_key_stays_whatever_is_vouched_for() -> None:
    config = SealConfig(hubs=(HubKey(HUB, KEY),))

    assert config.with_vouched_hub(HUB, NEW_KEY) == config
    assert config.with_vouched_hub(HUB, None) == config
    assert config.with_vouched_hub(ANOTHER, NEW_KEY).hubs == (HubKey(HUB, KEY), HubKey(ANOTHER, NEW_KEY, "vouched"))


def test_a_vouched_key_is_replaced_and_taken_back_and_outlives_a_reload_that_does_not_name_it() -> None:
    config = SealConfig().with_vouched_hub(HUB, KEY).with_vouched_hub(ANOTHER, KEY)

    assert config.with_vouched_hub(HUB, NEW_KEY).hub_at((HUB,)) == HubKey(HUB, NEW_KEY, "vouched")
    assert config.with_vouched_hub(HUB, None).hubs == (HubKey(ANOTHER, KEY, "vouched"),)
    assert SealConfig(hubs=(HubKey(HUB, NEW_KEY),)).with_hubs_of(config).hubs == (
        HubKey(HUB, NEW_KEY),
        HubKey(ANOTHER, KEY, "vouched"),
    )
    assert SealConfig().with_hubs_of(SealConfig(hubs=(HubKey(HUB, KEY),))).hubs == ()


@needs_libcrypto
def test_an_entry_that_leads_to_a_hub_with_a_key_is_sealed_for_it_and_another_one_is_not() -> None:
    one = side(HubKey(HUB, KEY))

    to_hub, elsewhere = installed(one, HUB), installed(side(HubKey(HUB, KEY)), PEER)

    (peer,) = one.machine.entries.peers
    assert (to_hub.peer, peer.is_hub, peer.known.key) == (peer.number, True, KEY)
    assert (to_hub.must_seal, elsewhere.peer, elsewhere.must_seal) == (False, 0, False)


@needs_libcrypto
@pytest.mark.parametrize(("places", "is_known"), [((HUB,), True), ((PEER,), False)])
def test_where_sealing_is_required_nothing_goes_to_a_proxy_in_clear(
    places: tuple[IpAddress, ...], is_known: bool
) -> None:
    dressed = installed(side(HubKey(HUB, KEY), mode="require"), *places)

    assert (dressed.must_seal, bool(dressed.peer)) == (True, is_known)


@needs_libcrypto
def test_a_key_that_a_map_resolver_vouches_for_replaces_the_entry_once() -> None:
    one = side()
    assert installed(one, HUB).peer == 0
    assert not one.machine.knows_hub(HUB)

    (dressed,) = only(one.machine.on_hub_vouched(HUB, KeyRecord((KEY,))), InstallMapping)

    assert dressed.peer
    assert one.machine.knows_hub(HUB)
    assert one.machine.on_hub_vouched(HUB, KeyRecord((KEY,))) == []


@needs_libcrypto
@pytest.mark.parametrize("record", [None, KeyRecord((KEY,), is_revoked=True)])
def test_a_hub_without_a_key_any_more_is_sent_to_in_clear(record: KeyRecord | None) -> None:
    one = side()
    installed(one, HUB)
    (before,) = only(one.machine.on_hub_vouched(HUB, KeyRecord((KEY,))), InstallMapping)

    effects = one.machine.on_hub_vouched(HUB, record)

    assert only(effects, ForgetPeer) == [ForgetPeer(before.peer)]
    assert only(effects, InstallMapping) == [entry(HUB)]
    assert one.machine.entries.peers == ()


@needs_libcrypto
def test_a_hub_with_another_key_is_another_peer_and_with_the_same_one_the_same() -> None:
    one = side()
    installed(one, HUB)
    (before,) = only(one.machine.on_hub_vouched(HUB, KeyRecord((KEY,))), InstallMapping)

    same = one.machine.on_config(replace(one.config, is_strict=True))
    effects = one.machine.on_hub_vouched(HUB, KeyRecord((NEW_KEY,)))

    assert [*only(same, ForgetPeer), *only(same, InstallMapping)] == []
    (after,) = only(effects, InstallMapping)
    (peer,) = one.machine.entries.peers
    assert only(effects, ForgetPeer) == [ForgetPeer(before.peer)]
    assert (after.peer, peer.known.key, peer.known.grade) == (peer.number, NEW_KEY, "vouched")
    assert after.peer != before.peer


@needs_libcrypto
def test_a_reload_that_changes_nothing_costs_nothing() -> None:
    one = side(HubKey(HUB, KEY))
    installed(one, HUB)

    assert one.machine.on_config(replace(one.config, hubs=(HubKey(HUB, KEY),))) == []
    assert one.eid == ALICE_EID
