"""The section of hub.conf for invitations, and the files of further sites."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import field

from lispmob.config.eid import Eid
from lispmob.config.names import read_domain
from lispmob.config.reader import Section
from lispmob.config.values import Address, FieldError, duration, or_word, plain
from lispmob.hub.inviting.invitations import Offer
from lispmob.hub.inviting.pool import LARGEST_BITS, next_eids
from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import why_no_eid

WIDEST_IPV4: Final = 8  # ours: as 10.0.0.0/8


def _domain(text: str) -> str:
    """What lispd.conf of an invited node takes."""
    if not (domain := read_domain(text)):
        raise ValueError
    return domain


Domain = Annotated[str | None, or_word("none", plain(_domain, "a domain such as home.example, or none"))]


class InvitationsSection(Section, frozen=True, kw_only=True):
    """The settings of invited nodes. `addresses`: of this hub, as they reach it."""

    addresses: tuple[Address, ...] = ()
    pools: tuple[Eid, ...] = ()
    overlay_prefixes: tuple[Eid, ...] = ()
    domain: Domain = None
    valid_s: Annotated[float, duration("h", 60, 366 * 86400)] = field(name="valid", default=86400.0)

    def __post_init__(self) -> None:
        for index, pool in enumerate(self.pools):
            if pool.width - pool.mask_len < 2:
                raise FieldError(
                    f"pools[{index}]", f"{pool} is too small for a pool: use a /30 (IPv4) or a /126 (IPv6) at least"
                )
            if any(pool.covers(other) or other.covers(pool) for other in self.pools[:index]):
                raise FieldError(f"pools[{index}]", f"{pool} overlaps a pool before it")
            if pool.width == 32 and pool.mask_len < WIDEST_IPV4:
                raise FieldError(f"pools[{index}]", f"{pool} is too large for a pool: use a /{WIDEST_IPV4} at most")
            (first,) = next_eids((pool,), ())
            if (why := why_no_eid(first.network)) is not None:
                raise FieldError(f"pools[{index}]", f"{pool} begins with {why} addresses, which cannot be EIDs")
            if pool.mask_len < pool.width - 64 and pool.width - pool.mask_len > LARGEST_BITS:
                raise FieldError(f"pools[{index}]", f"{pool} is too large for a pool: use a /64 at most")

    def to_offer(self, known_by: tuple[IpAddress, ...], lisp_sec: str) -> Offer:
        """The settings for the machine. `known_by` is used if the section names no address."""
        return Offer(
            addresses=self.addresses or known_by,
            pools=self.pools,
            overlay_prefixes=self.overlay_prefixes,
            domain=self.domain,
            valid_s=self.valid_s,
            lisp_sec=lisp_sec,
        )
