"""The two messages of the handshake for sealed data (ours): their layout. The encrypted fields stay opaque here.

They travel in the keys of an LCAF of type 11 with suite 241, in an RLOC-probe and its answer.
"""

from __future__ import annotations

import hashlib
import hmac
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage

SUITE: Final = 241  # ours, unassigned at IANA
VERSION: Final = 1
FIRST_OCTETS: Final = 132
SECOND_OCTETS: Final = 80
STATIC_SEALED_OCTETS: Final = 48
OFFER_SEALED_OCTETS: Final = 28
CHOICE_SEALED_OCTETS: Final = 20
AES_128_GCM: Final = 1  # bits of the offer, and of the choice
CHACHA20_POLY1305: Final = 2

_MAC_LABEL: Final = b"lispmob mac1"
_MAC_OCTETS: Final = 16
_FIRST: Final = Struct(">BBHI32s48s28s")
_SECOND: Final = Struct(">BBHII32s20s")
_OFFER: Final = Struct(">QBBH")
_CHOICE: Final = Struct(">BBH")
_FIRST_TYPE: Final = 1
_SECOND_TYPE: Final = 2


class FirstMessage(msgspec.Struct, frozen=True):
    """From the initiator. `sender` is the index that packets to the initiator carry; 0 is invalid."""

    sender: int
    ephemeral_key: bytes
    sealed_static_key: bytes
    sealed_offer: bytes

    # |  Type = 1   | Version = 1 |          Reserved           |
    # |                      Sender's index                     |
    # |                   Ephemeral key (32)                    |
    # |                  Static key, sealed (48)                |
    # |                     Offer, sealed (28)                  |
    # |                         mac1 (16)                       |
    def encode(self, receiver: bytes) -> bytes:
        """The octets for the owner of the static public key `receiver`."""
        head = _FIRST.pack(
            _FIRST_TYPE, VERSION, 0, self.sender, self.ephemeral_key, self.sealed_static_key, self.sealed_offer
        )
        return head + _mac(receiver, head)

    @classmethod
    def decode(cls, data: bytes, receiver: bytes) -> FirstMessage:
        """Read it as the owner of the static public key `receiver`. Raises MalformedMessage before any costly step."""
        _check(data, FIRST_OCTETS, _FIRST_TYPE, receiver)
        _type, _version, _reserved, sender, ephemeral_key, static_key, offer = _FIRST.unpack_from(data)
        _check_index(sender)
        return cls(sender, ephemeral_key, static_key, offer)


class SecondMessage(msgspec.Struct, frozen=True):
    """From the responder. `receiver` is the index in the first message."""

    sender: int
    receiver: int
    ephemeral_key: bytes
    sealed_choice: bytes

    # |  Type = 2   | Version = 1 |          Reserved           |
    # |                      Sender's index                     |
    # |               Index of the first message                |
    # |                   Ephemeral key (32)                    |
    # |                     Choice, sealed (20)                 |
    # |                         mac1 (16)                       |
    def encode(self, receiver: bytes) -> bytes:
        """The octets for the owner of the static public key `receiver`."""
        head = _SECOND.pack(
            _SECOND_TYPE, VERSION, 0, self.sender, self.receiver, self.ephemeral_key, self.sealed_choice
        )
        return head + _mac(receiver, head)

    @classmethod
    def decode(cls, data: bytes, receiver: bytes) -> SecondMessage:
        """Read it as the owner of the static public key `receiver`. Raises MalformedMessage."""
        _check(data, SECOND_OCTETS, _SECOND_TYPE, receiver)
        _type, _version, _reserved, sender, index, ephemeral_key, choice = _SECOND.unpack_from(data)
        _check_index(sender)
        _check_index(index)
        return cls(sender, index, ephemeral_key, choice)


class Offer(msgspec.Struct, frozen=True):
    """What the initiator encrypts: a time in nanoseconds that only grows, and the AEADs that it supports, as bits."""

    timestamp_ns: int
    aeads: int

    def encode(self) -> bytes:
        """The octets before encryption."""
        return _OFFER.pack(self.timestamp_ns, self.aeads, 0, 0)

    @classmethod
    def decode(cls, data: bytes) -> Offer:
        """Read the decrypted octets. Raises MalformedMessage."""
        if len(data) != _OFFER.size:
            raise MalformedMessage("rx_lcaf", f"an offer of {len(data)} octets")
        timestamp_ns, aeads, _flags, _reserved = _OFFER.unpack(data)
        return cls(timestamp_ns, aeads)


def put_choice(aead: int) -> bytes:
    """What the responder encrypts: the bit of the chosen AEAD."""
    return _CHOICE.pack(aead, 0, 0)


def take_choice(data: bytes) -> int:
    """The bit of the chosen AEAD; `data` has the right length."""
    aead: int = _CHOICE.unpack(data)[0]
    return aead


def _mac(receiver: bytes, head: bytes) -> bytes:
    """The mac1: refuses a sender that does not know the receiver's key, for the cost of a hash."""
    return hmac.digest(hashlib.sha256(_MAC_LABEL + receiver).digest(), head, "sha256")[:_MAC_OCTETS]


def _check(data: bytes, octets: int, kind: int, receiver: bytes) -> None:
    if len(data) != octets:
        raise MalformedMessage("rx_lcaf", f"a handshake message of {len(data)} octets, not {octets}")
    if data[:2] != bytes((kind, VERSION)):
        raise MalformedMessage("rx_auth", f"a handshake message of type {data[0]}, version {data[1]}")
    if not hmac.compare_digest(data[-_MAC_OCTETS:], _mac(receiver, data[:-_MAC_OCTETS])):
        raise MalformedMessage("rx_auth", "a handshake message for another key")


def _check_index(index: int) -> None:
    if not index:
        raise MalformedMessage("rx_auth", "a handshake message with index 0")
