"""Texts of requests as values, or an ApiError that names the parameter."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from lispmob.api.backend import ApiError
from lispmob.api.mapping.backend import StaticLocator
from lispmob.api.schema import RemoteLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc

MAX_INSTANCE_ID: Final = (1 << 24) - 1  # RFC 9300: what a data header can carry
MAX_LOCATORS: Final = 32


def read_address(name: str, text: str) -> IpAddress:
    """An EID or an RLOC. Raises ApiError."""
    with contextlib.suppress(ValueError):
        if "%" not in text:  # neither of them has a zone
            return ip_address(text)
    raise ApiError("params", f"{name}: {text[:60]!r} is not an IPv4 or IPv6 address", "EINVAL")


def read_prefix(text: str) -> EidPrefix:
    """An EID-Prefix, its Instance-ID in brackets. Raises ApiError."""
    try:
        prefix = EidPrefix.parse(text)
        written = ip_address(text.rpartition("]")[2].partition("/")[0])
    except ValueError:
        raise ApiError("params", f"prefix: {text[:60]!r} is not an EID-Prefix such as 192.0.2.0/24", "EINVAL") from None
    if written != prefix.address:
        iid = f"[{prefix.instance_id}]" if prefix.instance_id else ""
        raise ApiError(
            "params",
            f"prefix: {text[:60]} has bits beyond the prefix length; write {prefix}, or {iid}{written} for that host",
            "EINVAL",
        )
    if prefix.instance_id > MAX_INSTANCE_ID:
        what = f"prefix: the Instance-ID {prefix.instance_id} is not 0 to {MAX_INSTANCE_ID}"
        raise ApiError("params", what, "EINVAL")
    return prefix


def read_locators(locators: Sequence[RemoteLocator]) -> tuple[StaticLocator, ...]:
    """RLOCs with their numbers, at most MAX_LOCATORS. Raises ApiError."""
    found = []
    for index, locator in enumerate(locators):
        address = read_address(f"locators[{index}].address", locator.address)
        if not may_be_rloc(address):
            what = f"locators[{index}].address: {address} is not the address of one host"
            raise ApiError("params", what, "EINVAL")
        for name, value in (("priority", locator.priority), ("weight", locator.weight)):
            if not 0 <= value <= 255:
                raise ApiError("params", f"locators[{index}].{name}: {value} is not 0 to 255", "EINVAL")
        found.append(StaticLocator(address, locator.priority, locator.weight, locator.is_reachable))
    if len(found) > MAX_LOCATORS:
        raise ApiError("params", f"locators: a mapping has at most {MAX_LOCATORS}", "EINVAL")
    return tuple(found)
