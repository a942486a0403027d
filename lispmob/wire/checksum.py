"""The Internet checksum (RFC 1071)."""

from __future__ import annotations


def internet_checksum(data: bytes) -> int:
    """The checksum of some octets; 0 over octets that include their own, correct, checksum.

    2**16 leaves the remainder 1 when divided by 0xffff. So the octets, read as one number, have the same remainder as
    the sum of their 16-bit words, which is what one's-complement addition computes.
    """
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data)
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return 0xFFFF - total
