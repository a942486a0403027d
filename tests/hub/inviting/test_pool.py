"""Pools of EIDs: how many are left, and what is said when there are none."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.hub.inviting.pool import PoolUsedUp, next_eids, numbers_left
from tests.hub.exchange import eid, site
from tests.hub.inviting.inviting_hub import DAY, OFFER, Hub


@pytest.mark.parametrize(
    ("pool", "taken", "left"),
    [
        ("10.99.0.0/29", (), 6),  # neither the first nor the last address
        ("10.99.0.0/29", ("10.99.0.1/32", "10.99.0.6/32"), 4),
        ("10.99.0.0/29", ("10.99.0.6/32", "10.99.0.1/32", "10.99.0.1/32"), 4),
        ("10.99.0.0/29", ("10.99.0.0/30",), 3),
        ("10.99.0.0/29", ("10.99.0.4/30",), 3),
        ("10.99.0.0/29", ("10.99.0.0/29",), 0),
        ("10.99.0.0/29", ("10.0.0.0/8",), 0),
        ("10.99.0.0/29", ("10.98.0.0/16", "10.99.0.8/29"), 6),
        ("fd00::/125", (), 7),  # IPv6 has no broadcast
        ("fd00::/125", ("fd00::7/128", "fd00::2/127"), 4),
    ],
)
def test_what_is_left_of_a_pool_is_what_no_site_has(pool: str, taken: tuple[str, ...], left: int) -> None:
    assert numbers_left(eid(pool), map(eid, taken)) == left


def test_a_pool_that_is_used_up_is_told() -> None:
    hub = Hub()
    for number in range(6):
        hub.invite(f"host{number}")

    with pytest.raises(PoolUsedUp, match=r"10\.99\.0\.0/29 is used up"):
        hub.invite("one-more")


def test_a_pool_that_is_used_up_names_an_invitation_that_expired_and_holds_an_eid() -> None:
    hub = Hub()
    for number in range(6):
        hub.invite(f"host{number}", wall=number * DAY)

    with pytest.raises(PoolUsedUp, match="invitation of host0 expired unused: `lisphub revoke host0` frees") as used_up:
        hub.invite("one-more", wall=2.5 * DAY)

    assert "is used up" in str(used_up.value)
    hub.invitations.forget("host0")
    assert hub.invite("one-more", wall=2.5 * DAY)[0].eids == (eid("10.99.0.1/32"), eid("fd00:99::1/128"))


@pytest.mark.parametrize(
    ("taken", "why"),
    [
        ("10.99.0.0/29", r"10\.99\.0\.0/29 is used up"),
        ("10.0.0.0/8", r"10\.99\.0\.0/29 is used up"),
        ("fd00:99::/125", r"no number is free in all of 10\.99\.0\.0/29, fd00:99::/64"),
        ("fd00:99::/60", "fd00:99::/64 is used up"),
    ],
)
def test_a_configured_site_as_wide_as_a_pool_leaves_none_of_it(taken: str, why: str) -> None:
    hub = Hub()
    hub.invitations.on_configured(OFFER, [site(taken, name="all")])

    with pytest.raises(PoolUsedUp, match=why):
        hub.invite("laptop")


def test_eids_of_before_a_pool_became_smaller_are_kept_and_no_more_are_given() -> None:
    hub = Hub()
    first, second = (hub.invite(name)[0] for name in ("laptop", "phone"))
    hub.invitations.on_configured(replace(OFFER, pools=(eid("10.99.0.0/30"),)), [])

    with pytest.raises(PoolUsedUp, match=r"10\.99\.0\.0/30 is used up"):
        hub.invite("nas")
    with pytest.raises(PoolUsedUp, match=r"10\.99\.0\.0/30 is used up"):
        hub.invitations.renumber("laptop")
    assert [made.eids for made in hub.invitations] == [first.eids, second.eids]


def test_eids_are_free_in_every_pool_and_no_configured_one() -> None:
    taken = [eid("10.99.0.1/32"), eid("fd00:99::2/127"), eid("10.0.0.0/24")]

    assert next_eids(OFFER.pools, taken) == (eid("10.99.0.4/32"), eid("fd00:99::4/128"))
    with pytest.raises(PoolUsedUp):
        next_eids(OFFER.pools, [eid("10.0.0.0/8")])
