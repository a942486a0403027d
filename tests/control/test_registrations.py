"""All registrations of a node: to which one a Map-Notify belongs."""

from __future__ import annotations

import dataclasses

import pytest

from lispmob.control.node_config import NodeConfig
from lispmob.control.registrations import Registrations
from lispmob.protocol.effect import Count, RegistrationConfirmed
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.auth import Key, sign
from lispmob.wire.map_notify import MapNotify
from tests.control.support import EID, KEY, SERVER, WIFI, locators, only, register_in

CONFIG = NodeConfig(eids=(EID,), map_servers=(MapServerPeer(SERVER, KEY),), first_nonce=0x1122334455667788)

OTHER_KEY = dataclasses.replace(KEY, secret=b"another")


def octets_reversed(nonce: int) -> int:
    return int.from_bytes(nonce.to_bytes(8), "little")


@pytest.mark.parametrize(("key", "confirms"), [(KEY, True), (OTHER_KEY, False)])
def test_a_map_notify_with_the_nonce_in_little_endian_order_confirms_if_its_mac_is_right(
    key: Key, confirms: bool
) -> None:
    registrations = Registrations(CONFIG, jitter=lambda: 0.5)
    register = register_in(registrations.on_locators(locators(WIFI), 0.0))
    raw = sign(MapNotify(nonce=octets_reversed(register.nonce), records=register.records), key)

    effects = registrations.on_map_notify(MapNotify.decode(raw), raw, 0.02)

    assert bool(only(effects, RegistrationConfirmed)) == confirms
    assert [effect.name for effect in only(effects, Count)] == ([] if confirms else ["rx_auth"])


def test_a_map_notify_with_another_nonce_is_counted() -> None:
    registrations = Registrations(CONFIG, jitter=lambda: 0.5)
    register = register_in(registrations.on_locators(locators(WIFI), 0.0))
    raw = sign(MapNotify(nonce=register.nonce + 1, records=register.records), KEY)

    assert registrations.on_map_notify(MapNotify.decode(raw), raw, 0.02) == [Count("rx_nonce")]
