"""Which hub opens packets for hosts without LISP, by the keys that are configured or vouched for."""

from __future__ import annotations

import pytest

from lispmob.control.sealing.seal_config import HubKey, SealConfig
from tests.control.support import ip

FIRST, SECOND, OTHER, UNKNOWN = (ip(f"198.51.100.{number}") for number in (1, 2, 3, 4))
ONE, TWO = bytes(range(32)), bytes(range(32, 64))
CONFIG = SealConfig(hubs=(HubKey(FIRST, ONE), HubKey(SECOND, ONE), HubKey(OTHER, TWO)))


@pytest.mark.parametrize(
    ("addresses", "hub"),
    [
        ((FIRST,), FIRST),
        ((FIRST, SECOND), FIRST),
        ((SECOND, FIRST), SECOND),
        ((FIRST, OTHER), None),  # two hubs
        ((FIRST, UNKNOWN), None),
        ((UNKNOWN, FIRST), None),
        ((UNKNOWN,), None),
        ((), None),
    ],
)
def test_a_hub_has_all_of_the_addresses_or_it_is_none(addresses: tuple[object, ...], hub: object) -> None:
    found = CONFIG.hub_at(addresses)  # type: ignore[arg-type]

    assert (found.address if found else None) == hub


def test_a_vouched_key_replaces_the_one_before_and_never_a_configured_one() -> None:
    assert CONFIG.with_vouched_hub(FIRST, TWO) is CONFIG

    vouched = CONFIG.with_vouched_hub(UNKNOWN, ONE)
    changed = vouched.with_vouched_hub(UNKNOWN, TWO)

    assert vouched.hub_at((UNKNOWN,)) == HubKey(UNKNOWN, ONE, "vouched")
    assert changed.hub_at((UNKNOWN,)) == HubKey(UNKNOWN, TWO, "vouched")
    assert changed.with_vouched_hub(UNKNOWN, None) == CONFIG


def test_a_reload_keeps_the_vouched_keys_of_hubs_that_the_file_does_not_name() -> None:
    former = CONFIG.with_vouched_hub(UNKNOWN, ONE)

    assert SealConfig(hubs=(HubKey(FIRST, TWO),)).with_hubs_of(former).hubs == (
        HubKey(FIRST, TWO),
        HubKey(UNKNOWN, ONE, "vouched"),
    )
    assert SealConfig(hubs=(HubKey(UNKNOWN, TWO),)).with_hubs_of(former).hubs == (HubKey(UNKNOWN, TWO),)
