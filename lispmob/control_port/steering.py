"""Distributes datagrams to several processes behind one port: a program for the kernel (SO_REUSEPORT, classic BPF).

Sockets bound to one address with SO_REUSEPORT are numbered as they were bound. The program answers with a number:

    Map-Register           by its first EID, so that a node's registers reach the same process from anywhere
    Map-Request in an ECM  by its source (of IPv6 the /64), so that one process counts an asker's requests
    data (type 0)          1: the socket that the RTR's datapath reads, if there is one
    all others             0: the first process is the RTR, answers invitations, and forwards to the others

A data packet without N, L, E and V begins with four zero bits (RFC 9300, 5.1), where a control message has its type,
which is never 0. A node sends data to this port when a filter or a NAT on the path spoils port 4341
(`natt/data_way.py`).

For an unused number the kernel chooses a process. No answer becomes wrong: the registrations are shared.
"""

from __future__ import annotations

import socket
from array import array
from struct import Struct
from typing import Final

_SO_ATTACH_REUSEPORT_CBPF: Final = 51  # <asm-generic/socket.h>
_INSTRUCTION: Final = Struct("@HBBI")  # struct sock_filter, <linux/filter.h>
_PROGRAM: Final = Struct("@HP")  # struct sock_fprog

# <linux/bpf_common.h>, <linux/filter.h>
_LD_W, _LD_H, _LD_B = 0x20, 0x28, 0x30  # absolute
_LDX_W, _LDX_H = 0x40, 0x48  # at X and an offset
_ADD, _AND, _RSH, _MUL, _MOD, _XOR_X = 0x04, 0x54, 0x74, 0x24, 0x94, 0xAC
_JA, _JEQ, _JSET = 0x05, 0x15, 0x45
_RET_K, _RET_A = 0x06, 0x16
_ST, _LDX_MEM, _TAX = 0x02, 0x61, 0x07
_NET: Final = 0xFFF00000  # SKF_NET_OFF: from the network header on

_DATA, _MAP_REGISTER, _ECM = 0, 3, 8
_FOR_RTR: Final = 0x01  # of a Map-Register's first octet
_RELAYED: Final = 0x60  # of an ECM's second octet: to an RTR, or by one
_AFI_IPV4, _AFI_IPV6, _AFI_LCAF = 1, 2, 16387
# In a Map-Register behind its authentication data: 16 octets before that, and 10 of the record before the AFI
_LENGTH_AT, _AFI_AT, _EID_AT = 14, 26, 28
_SPREAD: Final = 0x9E3779B1  # multiplied by, neighbours are far from each other


def program(processes: int, family: int, *, has_data: bool = False) -> list[tuple[int, int, int, int]]:
    """The instructions (code, jump if true, jump if false, operand) for so many processes.

    `has_data`: the second socket is the datapath's, and those of the other processes come after it.
    """
    past_data = [(_JEQ, 1, 0, 0), (_ADD, 0, 0, 1)] if has_data else []
    spread = [(_MUL, 0, 0, _SPREAD), (_RSH, 0, 0, 16), (_MOD, 0, 0, processes), *past_data, (_RET_A, 0, 0, 0)]
    if family == 4:
        by_source = [(_LD_W, 0, 0, _NET + 12), *spread]
    else:
        by_source = [(_LD_W, 0, 0, _NET + 8), (_TAX, 0, 0, 0), (_LD_W, 0, 0, _NET + 12), (_XOR_X, 0, 0, 0), *spread]
    first = (_RET_K, 0, 0, 0)
    ecm = [(_LD_B, 0, 0, 1), (_JSET, 0, 1, _RELAYED), first, *by_source]
    ipv4 = [(_LDX_W, 0, 0, _EID_AT), *spread]
    ipv6 = [*_folded(_EID_AT, _EID_AT + 4, _EID_AT + 8, _EID_AT + 12), *spread]
    lcaf = [*_folded(_EID_AT + 6, _EID_AT + 12), *spread]
    register = [
        (_LD_B, 0, 0, 0),
        (_JSET, 0, 1, _FOR_RTR),
        first,
        (_LD_H, 0, 0, _LENGTH_AT),
        (_TAX, 0, 0, 0),
        (_ST, 0, 0, 0),
        (_LDX_H, 0, 0, _AFI_AT),
        (_JEQ, 0, len(ipv4), _AFI_IPV4),
        *ipv4,
        (_JEQ, 0, len(ipv6), _AFI_IPV6),
        *ipv6,
        (_JEQ, 0, len(lcaf), _AFI_LCAF),
        *lcaf,
        first,
    ]
    return [
        (_LD_B, 0, 0, 0),
        (_RSH, 0, 0, 4),
        *(((_JEQ, 0, 1, _DATA), (_RET_K, 0, 0, 1)) if has_data else ()),
        (_JEQ, 0, len(register), _MAP_REGISTER),
        *register,
        (_JEQ, 0, len(ecm), _ECM),
        *ecm,
        first,
    ]


def _folded(*places: int) -> list[tuple[int, int, int, int]]:
    """The words at these places behind X, as one. X is in M[0], and is free afterwards."""
    found = [(_LDX_W, 0, 0, places[0])]
    for place in places[1:]:
        found += [(_ST, 0, 0, 1), (_LDX_MEM, 0, 0, 0), (_LDX_W, 0, 0, place), (_LDX_MEM, 0, 0, 1), (_XOR_X, 0, 0, 0)]
    return found


def steer(one: socket.socket, processes: int, *, has_data: bool = False) -> None:
    """Have the kernel follow the program for all sockets of this one's address. Raises OSError."""
    code = program(processes, 4 if one.family == socket.AF_INET else 6, has_data=has_data)
    room = array("B", b"".join(_INSTRUCTION.pack(*instruction) for instruction in code))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, _PROGRAM.pack(len(code), room.buffer_info()[0]))
