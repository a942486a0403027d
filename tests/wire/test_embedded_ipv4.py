"""IPv4-embedded IPv6 addresses: the place of the IPv4 address, and how the prefix of a translator is found."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.wire.embedded_ipv4 import (
    IPV4_ONLY,
    LENGTHS,
    Pref64,
    embed,
    extract,
    may_be_prefix,
    prefix_of,
    take_pref64,
)

ADDRESS = IPv4Address("192.0.2.33")


@pytest.mark.parametrize(
    ("prefix", "embedded"),  # RFC 6052, 2.4
    [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ],
)
def test_the_examples_of_rfc_6052_come_out(prefix: str, embedded: str) -> None:
    assert embed(IPv6Network(prefix), ADDRESS) == IPv6Address(embedded)


prefixes = st.builds(
    lambda number, length: IPv6Network((number & ~(0xFF << 56), length), strict=False),
    st.integers(0, 2**128 - 1),
    st.sampled_from(LENGTHS),
)


@given(prefixes, st.integers(0, 2**32 - 1).map(IPv4Address))
def test_what_was_embedded_is_extracted(prefix: IPv6Network, address: IPv4Address) -> None:
    assert extract(prefix, embed(prefix, address)) == address


@given(prefixes, st.integers(0, 2**128 - 1).map(IPv6Address))
def test_an_address_outside_of_the_prefix_embeds_nothing(prefix: IPv6Network, address: IPv6Address) -> None:
    assert (extract(prefix, address) is None) == (address not in prefix)


def test_an_ipv4_address_embeds_nothing() -> None:
    assert extract(IPv6Network("64:ff9b::/96"), ADDRESS) is None


@pytest.mark.parametrize("prefix", ["64:ff9b::/64", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:0:1::/96"])
@pytest.mark.parametrize("known", IPV4_ONLY)
def test_the_prefix_is_found_by_the_name_that_has_no_ipv6_address(prefix: str, known: IPv4Address) -> None:
    network = IPv6Network(prefix)

    assert prefix_of(embed(network, known)) == network


@pytest.mark.parametrize(
    "answer",
    [
        "192.0.0.170",  # not translated at all
        "2001:db8::1",  # a login page that answers every name with its own address
        "64:ff9b::198.51.100.1",  # another address embedded
        "2001:db8:c000:aa:c0:0:aa00::",  # matches a /32 and a /64: ambiguous
        "2001:db8:1:2:100:0:c000:aa",  # octet 8 is not zero
    ],
)
def test_an_answer_that_embeds_nothing_for_sure_gives_no_prefix(answer: str) -> None:
    assert prefix_of(IPv4Address(answer) if "." in answer and ":" not in answer else IPv6Address(answer)) is None


@pytest.mark.parametrize("prefix", ["2001:db8:1:2::/65", "64:ff9b::/128", "2001:db8:0:0:100::/96", "::/0"])
def test_a_prefix_of_another_length_or_form_is_refused(prefix: str) -> None:
    assert not may_be_prefix(IPv6Network(prefix))
    with pytest.raises(ValueError, match="prefix of a translator"):
        embed(IPv6Network(prefix), ADDRESS)


@pytest.mark.parametrize(("code", "length"), list(enumerate((96, 64, 56, 48, 40, 32))))
def test_a_router_says_the_prefix_and_for_how_long(code: int, length: int) -> None:
    prefix = IPv6Network((IPv6Address("2001:db8:a1b2:c300::").packed, length), strict=False)
    option = bytes([38, 2]) + (75 << 3 | code).to_bytes(2) + prefix.network_address.packed[:12]

    assert take_pref64(option) == Pref64(prefix, 600)


@pytest.mark.parametrize(
    "option",
    [
        b"",
        bytes([38, 2, 0, 8]) + bytes(8),  # too short
        bytes([25, 2, 0, 8]) + bytes(12),  # another option
        bytes([38, 3, 0, 8]) + bytes(12),  # states another length
        bytes([38, 2, 0, 7]) + bytes(12),  # no such length code
        bytes([38, 2, 0, 8]) + bytes(8) + b"\1\0\0\0",  # octet 8 is not zero
    ],
)
def test_anything_else_of_a_router_is_no_prefix(option: bytes) -> None:
    assert take_pref64(option) is None


@given(st.binary(max_size=40))
def test_no_octets_of_a_router_do_harm(option: bytes) -> None:
    said = take_pref64(option)

    assert said is None or may_be_prefix(said.prefix)
