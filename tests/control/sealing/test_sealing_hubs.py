"""Keys of proxies: which entry leads to one that can seal, and the entry when the key changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.handshake_carriage import put_second, take_first
from lispmob.control.sealing.hub_keys import HubKeys
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.seal_config import HubKey, SealConfig
from lispmob.control.sealing.sealed_entries import SESSION_S, SETTLED_S
from lispmob.control.sealing.sealed_handshake import Pair, answer
from lispmob.protocol.effect import Event, ForgetPeer, InstallMapping, SendControl, UsableLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.message import decode_control
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    ALICE_KEY,
    ALICE_RLOC,
    BOB_KEY,
    Memory,
    Side,
    alice,
    bob,
    request_of,
)
from tests.control.support import ip, only, prefix
from tests.crypto.support import ciphers, needs_libcrypto

HUB, HUB6, ANOTHER, PEER = ip("198.51.100.51"), ip("2001:db8::51"), ip("198.51.100.52"), ip("203.0.113.9")
KEY, NEW_KEY = bytes([7]) * 32, bytes([9]) * 32
DEFAULT = prefix("0.0.0.0/0")


def entry(*places: IpAddress) -> InstallMapping:
    return InstallMapping(DEFAULT, "ENCAPSULATE", tuple(UsableLocator(place, 1, 100) for place in places))


def side(*hubs: HubKey, mode: str = "prefer") -> Side:
    one = alice()
    one.config = replace(one.config, mode=mode, hubs=hubs, proxies=(HUB, HUB6, ANOTHER))
    one.machine.on_config(one.config)
    return one


def installed(one: Side, *places: IpAddress) -> InstallMapping:
    return only(one.machine.entries.on_installed(entry(*places)), InstallMapping)[0]


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


def hubs_of(keys: HubKeys) -> tuple[HubKey, ...]:
    return keys.config().hubs


def test_a_configured_key_stays_whatever_is_vouched_for() -> None:
    keys = HubKeys(SealConfig(hubs=(HubKey(HUB, KEY),), proxies=(HUB, ANOTHER)), Memory())

    for record in (KeyRecord((NEW_KEY,)), None, KeyRecord((KEY,), is_revoked=True)):
        keys.on_vouched(HUB, record)
        assert hubs_of(keys) == (HubKey(HUB, KEY),)

    keys.on_vouched(ANOTHER, KeyRecord((NEW_KEY,)))
    assert hubs_of(keys) == (HubKey(HUB, KEY), HubKey(ANOTHER, NEW_KEY, "vouched"))


def test_a_vouched_key_is_replaced_and_taken_back_and_outlives_a_reload_and_a_restart() -> None:
    memory, given = Memory(), SealConfig(proxies=(HUB, ANOTHER))
    keys = HubKeys(given, memory)
    keys.on_vouched(HUB, KeyRecord((KEY,)))
    keys.on_vouched(ANOTHER, KeyRecord((KEY,)))
    assert keys.on_config(replace(given, is_strict=True))
    assert not keys.on_config(replace(given, is_strict=True))
    assert hubs_of(keys) == (HubKey(HUB, KEY, "vouched"), HubKey(ANOTHER, KEY, "vouched"))
    assert hubs_of(HubKeys(given, memory)) == (HubKey(HUB, KEY, "remembered"), HubKey(ANOTHER, KEY, "remembered"))

    keys.on_config(given)
    keys.on_vouched(HUB, KeyRecord((NEW_KEY,)))
    keys.on_vouched(ANOTHER, KeyRecord((KEY,), is_revoked=True))

    assert hubs_of(keys) == (HubKey(HUB, NEW_KEY, "vouched"),)


def test_the_key_of_an_address_that_is_no_proxy_any_more_is_not_used() -> None:
    keys = HubKeys(SealConfig(proxies=(HUB, ANOTHER)), Memory())
    keys.on_vouched(HUB, KeyRecord((KEY,)))

    keys.on_config(SealConfig(proxies=(ANOTHER,)))

    assert hubs_of(keys) == ()


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
def test_a_hub_that_has_revoked_its_key_is_sent_to_in_clear() -> None:
    one = side()
    installed(one, HUB)
    (before,) = only(one.machine.on_hub_vouched(HUB, KeyRecord((KEY,))), InstallMapping)

    effects = one.machine.on_hub_vouched(HUB, KeyRecord((KEY,), is_revoked=True))

    assert only(effects, ForgetPeer) == [ForgetPeer(before.peer)]
    assert only(effects, InstallMapping) == [entry(HUB)]
    assert one.machine.entries.peers == ()


@needs_libcrypto
def test_a_hub_with_another_key_is_another_peer_and_with_the_same_one_the_same() -> None:
    one = side()
    installed(one, HUB)
    (before,) = only(one.machine.on_hub_vouched(HUB, KeyRecord((KEY,))), InstallMapping)

    same = one.machine.on_config(replace(one.config, eids=(ALICE_EID, prefix("10.1.9.0/24"))))
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


def with_a_session(one: Side, now: float = 0.0) -> InstallMapping:
    """Complete a handshake with the hub, whose key is bob's, and let the first packets in clear arrive."""
    place = installed(one, HUB)
    (sent,) = only(one.machine.on_seal_wanted(place.peer, now), SendControl)
    first = take_first(request_of(sent))
    assert first is not None
    answered = answer(
        ciphers(),
        Pair(0, ALICE_EID.address, None),
        KeyPair.of(BOB_KEY, ciphers()),
        first.message,
        latest_of=lambda _: 0,
        new_ephemeral=lambda: bytes([6]) * 32,
        index=77,
    )
    second = decode_control(put_second(request_of(sent).nonce, answered.message, ALICE_EID, HUB))
    assert isinstance(second, MapReply)
    assert one.machine.on_answer(second, now)
    return only(one.machine.on_timer(now + SETTLED_S), InstallMapping)[0]


def of_bob(memory: Memory, **options: object) -> Side:
    """Alice, whose proxy has bob's key, with this state directory."""
    one = Side(ALICE_KEY, ALICE_EID, ALICE_RLOC, hub_memory=memory)
    one.config = replace(one.config, proxies=(HUB,), **options)
    one.machine.on_config(one.config)
    return one


@needs_libcrypto
def test_a_hub_that_has_sealed_is_never_sent_to_in_clear_again_though_no_handshake_is_answered() -> None:
    one = of_bob(Memory())
    one.machine.on_hub_vouched(HUB, KeyRecord((bob().public,)))
    assert not installed(one, HUB).must_seal

    assert with_a_session(one).must_seal

    at = SETTLED_S + SESSION_S
    one.machine.on_seal_wanted(one.machine.entries.peers[0].number, at)
    for _ in range(20):
        at = one.machine.wake_at() or at
        assert only(one.machine.on_timer(at), InstallMapping) == []
    assert installed(one, HUB).must_seal


@needs_libcrypto
@pytest.mark.parametrize("is_written", [False, True])
def test_after_a_restart_a_hub_that_has_sealed_is_sent_to_sealed_from_the_first_packet(is_written: bool) -> None:
    memory = Memory()
    hubs = (HubKey(HUB, bob().public),) if is_written else ()
    one = of_bob(memory, hubs=hubs)
    one.machine.on_hub_vouched(HUB, KeyRecord((bob().public,)))
    with_a_session(one)

    again = of_bob(memory, hubs=hubs)

    assert installed(again, HUB).must_seal
    assert again.machine.knows_hub(HUB) is is_written, "another key may have been vouched for meanwhile"
    assert again.machine.entries.peers[0].known.grade == ("pinned" if is_written else "remembered")


@needs_libcrypto
def test_a_hub_that_leaves_out_its_key_is_still_sealed_for() -> None:
    one = of_bob(Memory())
    one.machine.on_hub_vouched(HUB, KeyRecord((bob().public,)))
    with_a_session(one)

    one.machine.on_hub_vouched(HUB, None)

    assert installed(one, HUB).must_seal


@needs_libcrypto
def test_the_client_has_a_hub_that_seals_no_more_sent_to_in_clear() -> None:
    one = of_bob(Memory())
    one.machine.on_hub_vouched(HUB, KeyRecord((bob().public,)))
    with_a_session(one)

    effects = one.machine.forget_key(EidPrefix.host(HUB))

    assert only(effects, InstallMapping) == [entry(HUB)]
    with pytest.raises(ValueError, match="no key"):
        one.machine.forget_key(EidPrefix.host(ANOTHER))


@needs_libcrypto
def test_another_key_of_a_hub_is_an_event_and_with_strict_keys_waits_for_a_yes() -> None:
    lax, strict = of_bob(Memory()), of_bob(Memory(), is_strict=True)
    for one in (lax, strict):
        one.machine.on_hub_vouched(HUB, KeyRecord((KEY,)))
        installed(one, HUB)

    (event,) = only(lax.machine.on_hub_vouched(HUB, KeyRecord((NEW_KEY,))), Event)
    assert event.kind == "key-changed"
    assert lax.machine.entries.peers[0].known.key == NEW_KEY

    assert only(strict.machine.on_hub_vouched(HUB, KeyRecord((NEW_KEY,))), Event)
    assert only(strict.machine.on_hub_vouched(HUB, KeyRecord((NEW_KEY,))), Event) == []
    assert strict.machine.entries.peers[0].known.key == KEY
    assert strict.machine.waiting == {EidPrefix.host(HUB): NEW_KEY}
    strict.machine.accept_key(EidPrefix.host(HUB))
    assert [peer.known.key for peer in strict.machine.entries.peers] == [NEW_KEY]
