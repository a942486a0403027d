"""Info-Request and Info-Reply: a node learns its translated address, and its RTRs (NAT-traversal drafts)."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.eid import take_eid, take_known_address
from lispmob.wire.header import MessageType, has_bit, open_message, put_authentication, take_authentication
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import NatTraversal, WireAddress
from lispmob.wire.reader import Reader

_IS_REPLY: Final = 4
_REPLY_WORD: Final = MessageType.INFO << 28 | 1 << 31 - _IS_REPLY
_REQUEST_WORD: Final = MessageType.INFO << 28
_FIXED_OCTETS: Final = 16
_LCAF_OCTETS: Final = 8  # AFI, Rsvd1, Flags, Type, Rsvd2, Length
_LISPERS_LENGTH: Final = 16  # the Length that lispers.net sends, whatever follows


def is_info_reply(data: bytes) -> bool:
    """Whether a message of type 7 is a reply (R)."""
    return len(data) > 0 and bool(data[0] & 0x08)


class InfoRequest(msgspec.Struct, frozen=True):
    """A node asks for its translated address. lispers.net sends no authentication or EID, and a host name as `tail`."""

    nonce: int
    eid: WireAddress
    mask_len: int
    key_id: int = 0
    algorithm_id: int = 0
    authentication: bytes = b""
    ttl_min: int = 0
    tail: WireAddress = None

    def encode(self) -> bytes:
        """The message's octets."""
        return _put_common(_REQUEST_WORD, self) + put_address(self.tail)

    @classmethod
    def decode(cls, data: bytes) -> InfoRequest:
        """Read an Info-Request. Raises MalformedMessage. Does not verify the authentication; `auth.verify` does."""
        reader, word = open_message(data, MessageType.INFO, _FIXED_OCTETS)
        if has_bit(word, _IS_REPLY):
            raise MalformedMessage("rx_type", "an Info-Reply where an Info-Request is read")
        nonce, key_id, algorithm_id, authentication, ttl_min, mask_len, eid = _take_common(reader)
        tail = take_known_address(reader)
        reader.expect_end()
        return cls(nonce, eid, mask_len, key_id, algorithm_id, authentication, ttl_min, tail)


class InfoReply(msgspec.Struct, frozen=True):
    """The address and port that the Map-Server saw, and for how many minutes the RTRs may be used.

    EID and nonce are those of the request.
    """

    nonce: int
    eid: WireAddress
    mask_len: int
    nat: NatTraversal
    key_id: int = 0
    algorithm_id: int = 0
    authentication: bytes = b""
    ttl_min: int = 0

    def encode(self) -> bytes:
        """The message's octets."""
        return _put_common(_REPLY_WORD, self) + put_address(self.nat)

    @classmethod
    def decode(cls, data: bytes) -> InfoReply:
        """Read an Info-Reply. Raises MalformedMessage. Does not verify the authentication; `auth.verify` does."""
        reader, word = open_message(data, MessageType.INFO, _FIXED_OCTETS)
        if not has_bit(word, _IS_REPLY):
            raise MalformedMessage("rx_type", "an Info-Request where an Info-Reply is read")
        nonce, key_id, algorithm_id, authentication, ttl_min, mask_len, eid = _take_common(reader)
        body = Reader(_with_true_length(reader.take_rest()))
        nat = take_known_address(body)
        if not isinstance(nat, NatTraversal):
            raise MalformedMessage("rx_lcaf", "an Info-Reply without a NAT-traversal LCAF")
        body.expect_end()
        return cls(nonce, eid, mask_len, nat, key_id, algorithm_id, authentication, ttl_min)


#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |Type=7 |R|                    Reserved                         |
# |                            Nonce (64)                         |
# |    Key ID     | Algorithm ID  |  Authentication Data Length   |
# ~                     Authentication Data                       ~
# |                        TTL, in minutes                        |
# |   Reserved    | EID mask-len  |        EID-Prefix-AFI         |
# |                         EID-Prefix ...                        |
# |   AFI 0, or a host name (request); NAT-traversal LCAF (reply) |
def _take_common(reader: Reader) -> tuple[int, int, int, bytes, int, int, WireAddress]:
    nonce = int.from_bytes(reader.take_bytes(8))
    key_id, algorithm_id, authentication = take_authentication(reader)
    ttl_min = reader.take_u32()
    mask_len = reader.take_u16() & 0xFF
    return nonce, key_id, algorithm_id, authentication, ttl_min, mask_len, take_eid(reader, mask_len)


def _put_common(word: int, message: InfoRequest | InfoReply) -> bytes:
    return b"".join(
        (
            word.to_bytes(4),
            message.nonce.to_bytes(8),
            put_authentication(message.key_id, message.algorithm_id, message.authentication),
            message.ttl_min.to_bytes(4),
            message.mask_len.to_bytes(2),
            put_address(message.eid),
        )
    )


def _with_true_length(lcaf: bytes) -> bytes:
    """The LCAF that ends an Info-Reply, with its Length corrected where lispers.net sent a wrong one."""
    length = len(lcaf) - _LCAF_OCTETS
    if length <= _LISPERS_LENGTH or length > 0xFFFF or lcaf[6:8] != _LISPERS_LENGTH.to_bytes(2):
        return lcaf
    return lcaf[:6] + length.to_bytes(2) + lcaf[8:]
