"""EIDs of messages: an address field and a mask length, converted from and to IP prefixes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix, MacAddress
from lispmob.wire.lcaf import take_address
from lispmob.wire.lcaf_contents import contains
from lispmob.wire.lcaf_types import InstanceId, Lcaf, UnknownLcaf, VendorSpecific, WireAddress
from lispmob.wire.reader import Reader


def take_eid(reader: Reader, mask_len: int) -> WireAddress:
    """Read the address of an EID-Prefix. The caller has read `mask_len`, in bits.

    Host bits are kept as sent. Raises MalformedMessage also for `rx_mask`, a mask longer than the address, and for an
    LCAF of unknown type as EID (RFC 9306: drop the message).
    """
    eid = take_address(reader)
    if isinstance(eid, Lcaf):
        if isinstance(eid, UnknownLcaf):
            raise MalformedMessage("rx_lcaf", f"the EID is of the unknown LCAF type {eid.type}")
        refuse_vendor(eid)
    limit = _bits(eid.address if isinstance(eid, InstanceId) else eid)
    if limit is not None and mask_len > limit:
        raise MalformedMessage("rx_mask", f"mask length {mask_len} for an address of {limit} bits")
    return eid


def take_known_address(reader: Reader) -> WireAddress:
    """Read an address that is no EID-Prefix, such as a locator: keeps an unknown LCAF, refuses a vendor's."""
    address = take_address(reader)
    if isinstance(address, Lcaf):
        refuse_vendor(address)
    return address


def to_prefix(eid: WireAddress, mask_len: int) -> EidPrefix | None:
    """The IP prefix, host bits cleared, in its Instance-ID; None when the EID is not an IP prefix."""
    match eid:
        case IPv4Address() | IPv6Address():
            return EidPrefix.make(eid, mask_len)
        case InstanceId(instance_id, IPv4Address() | IPv6Address() as address):
            return EidPrefix.make(address, mask_len, instance_id)
    return None


def from_prefix(prefix: EidPrefix) -> WireAddress:
    """The address field for a prefix: plain in Instance-ID 0, an Instance-ID LCAF in any other."""
    if prefix.instance_id:
        return InstanceId(prefix.instance_id, prefix.address)
    return prefix.address


def refuse_vendor(address: Lcaf) -> None:
    """Raise for a vendor's LCAF anywhere in the address: we know no OUI, so RFC 9306 has us drop the message."""
    if contains(address, VendorSpecific):
        raise MalformedMessage("rx_lcaf", "a vendor-specific LCAF of an unknown vendor")


def _bits(address: WireAddress) -> int | None:
    match address:
        case IPv4Address():
            return 32
        case IPv6Address():
            return 128
        case MacAddress():
            return 48
    return None
