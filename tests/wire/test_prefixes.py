"""EID-Prefixes from octets."""

from __future__ import annotations

import pytest

from lispmob.wire.address import EidPrefix


@pytest.mark.parametrize("text", ["10.1.0.1/32", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::1/128", "2001:db8::/32", "::/0"])
@pytest.mark.parametrize("instance_id", [0, 7, 0xFFFFFF])
def test_a_prefix_is_the_same_when_made_of_its_octets(text: str, instance_id: int) -> None:
    prefix = EidPrefix.parse(f"[{instance_id}]{text}")

    assert EidPrefix.of_octets(prefix.address.packed, prefix.mask_len, instance_id) == prefix


@pytest.mark.parametrize(
    ("octets", "mask_len"), [(0, 0), (3, 8), (5, 8), (15, 8), (17, 8), (32, 8), (4, 33), (16, 129)]
)
def test_octets_that_are_no_address_make_no_prefix(octets: int, mask_len: int) -> None:
    with pytest.raises(ValueError, match="no prefix"):
        EidPrefix.of_octets(bytes(octets), mask_len)
