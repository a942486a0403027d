"""EIDs for invited nodes: the lowest number that is free in every pool. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lispmob.errors import LispError
from lispmob.wire.address import EidPrefix, IpAddress

LARGEST_BITS: Final = 32  # ours: of an IPv6 pool only this much is used


class PoolUsedUp(LispError):
    """No EID is left."""


def next_eids(pools: Sequence[EidPrefix], taken: Iterable[EidPrefix]) -> tuple[EidPrefix, ...]:
    """One EID of each pool, all with the same number in it: 10.99.0.7 and fd00:99::7. Raises PoolUsedUp.

    `taken` are assigned EID-Prefixes. Number 0, and the last one of an IPv4 pool, are no hosts.
    """
    if not pools:
        raise PoolUsedUp("there is no pool of EIDs: name one in hub.conf, 'invitations: {pools: [10.99.0.0/24]}'")
    held = list(taken)
    ranges = sorted(_taken_numbers(pools, held))
    number = 1
    for first, last in ranges:
        if first > number:
            break
        number = max(number, last + 1)
    if number > min(map(_last, pools)):
        full = [pool for pool in pools if not numbers_left(pool, held)]
        what = f"the pool {full[0]} is used up" if full else f"no number is free in all of {', '.join(map(str, pools))}"
        raise PoolUsedUp(f"{what}: revoke a site, or name a larger pool in hub.conf")
    return tuple(_eid(pool, number) for pool in pools)


def numbers_left(pool: EidPrefix, taken: Iterable[EidPrefix]) -> int:
    """How many EIDs a pool has left."""
    left, number = 0, 1
    for first, last in sorted(_taken_numbers((pool,), taken)):
        left += max(0, first - number)
        number = max(number, last + 1)
    return left + max(0, _last(pool) + 1 - number)


def _taken_numbers(pools: Sequence[EidPrefix], taken: Iterable[EidPrefix]) -> Iterable[tuple[int, int]]:
    """The numbers in a pool that assigned prefixes cover, as first and last."""
    others = list(taken)
    for pool in pools:
        base = int(pool.network.network_address)
        for other in others:
            if other.covers(pool):
                yield 0, _last(pool)
            elif pool.covers(other):
                first = int(other.network.network_address) - base
                yield first, first + (1 << (other.width - other.mask_len)) - 1


def _last(pool: EidPrefix) -> int:
    size = 1 << min(pool.width - pool.mask_len, LARGEST_BITS)
    return size - 2 if pool.width == 32 else size - 1


def _eid(pool: EidPrefix, number: int) -> EidPrefix:
    address: IpAddress = pool.network.network_address + number
    return EidPrefix.host(address, pool.instance_id)
