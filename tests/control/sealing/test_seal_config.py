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
