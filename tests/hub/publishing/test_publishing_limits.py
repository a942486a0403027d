"""How many subscriptions a node and a site may have, and what is restored of them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest

from lispmob.hub.publishing.publisher import NONCE_GAP, PER_SITE, PER_XTR, Publisher
from lispmob.hub.publishing.subscription import Place, Subscription
from lispmob.wire.address import EidPrefix
from tests.crypto.support import needs_libcrypto
from tests.hub.exchange import HUB, eid
from tests.hub.publishing.subscriber import hub

pytestmark = needs_libcrypto

SITE, OTHER_SITE = b"a site", b"another"


def wanted(number: int, *, xtr: int = 0, mark: bytes = SITE, expires_at: float = 100.0) -> Subscription:
    prefix = EidPrefix.host(ip_address("10.1.0.0") + number)
    place = Place(ip_address("203.0.113.7"))
    return Subscription(
        prefix, xtr.to_bytes(16), eid("10.1.0.1/32"), (place,), HUB, (4,), 7, b"secret", 0, mark, expires_at
    )


def restored(subscriptions: Iterable[Subscription], now: float = 0.0) -> Publisher:
    publisher = hub().publisher
    publisher.restore(subscriptions, now)
    return publisher


def test_a_node_has_a_thousand_and_leaves_room_for_the_other_nodes_of_its_site() -> None:
    publisher = restored(wanted(number) for number in range(PER_XTR + 5))
    assert len(publisher) == PER_XTR == 1000

    publisher.restore([wanted(0, xtr=1)], 0.0)

    assert len(publisher) == PER_XTR + 1


def test_a_site_has_ten_thousand_and_leaves_room_for_other_sites() -> None:
    publisher = restored(wanted(number, xtr=number // PER_XTR) for number in range(PER_SITE + 5))
    assert len(publisher) == PER_SITE == 10_000

    publisher.restore([wanted(0, xtr=77, mark=OTHER_SITE)], 0.0)

    assert len(publisher) == PER_SITE + 1


def test_a_subscription_that_ends_makes_room_for_one_and_no_more() -> None:
    publisher = restored(wanted(number, xtr=number // PER_XTR) for number in range(PER_SITE))

    publisher.give_away(wanted(5).name)
    publisher.restore((wanted(number, xtr=50) for number in range(3)), 0.0)

    assert len(publisher) == PER_SITE


@pytest.mark.parametrize(("now", "is_there"), [(99.9, True), (100.0, False)])
def test_one_that_has_run_out_while_the_hub_was_down_is_deleted(now: float, is_there: bool) -> None:
    publisher = restored([wanted(1)], now)

    assert len(publisher) == is_there
    assert publisher.take_changes().gone == (frozenset() if is_there else {wanted(1).name})


def test_a_restored_subscription_goes_on_beyond_the_nonces_that_may_have_been_used_since() -> None:
    publisher = restored([wanted(1)])

    publisher.restore([wanted(1)], 0.0)  # a newer one is kept

    kept = publisher._get(wanted(1).name)
    assert kept is not None
    assert kept.nonce == 7 + NONCE_GAP
