"""Reads a program's request that lispd adopt an existing flow: its parameters, and the flow's socket."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

from lispmob.flow import packets
from lispmob.flow.adoption import Adoption, NotAdoptable
from lispmob.flow.auth import IpAddress
from lispmob.flow.name import check_name


def read_adoption(params: dict[str, Any], one: socket.socket) -> Adoption:
    """Check the parameters against the flow's socket. Raises NotAdoptable, or ValueError for a bad quality."""
    own, peer = _ends(one)
    nonces = params.get("nonces")
    if not isinstance(nonces, list) or len(nonces) != 2:
        raise NotAdoptable("nonces: those of caller and holder, each of 16 hexadecimal digits")
    caller_nonce, holder_nonce = (_nonce(nonce) for nonce in nonces)
    if params.get("peer") != str(peer[0]):
        raise NotAdoptable(f"peer: the socket is connected to {peer[0]}")
    role, name = params.get("role"), params.get("name")
    if role not in ("caller", "holder"):
        raise NotAdoptable("role: caller or holder")
    if not isinstance(name, str):
        raise NotAdoptable("name: a text is needed")
    return Adoption(
        check_name(name),
        role == "caller",
        *own,
        *peer,
        caller_nonce,
        holder_nonce,
        _whole(params, "control_port", 1),
        _whole(params, "lifetime_s", 0),
        packets.quality_from_json(params.get("qos")),
    )


def _ends(one: socket.socket) -> tuple[tuple[IpAddress, int], tuple[IpAddress, int]]:
    """The local and the remote end of a connected UDP socket."""
    try:
        if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_DGRAM:
            raise NotAdoptable("the descriptor is no UDP socket")
        own, peer = one.getsockname(), one.getpeername()
    except OSError as error:
        raise NotAdoptable(f"the descriptor is no connected socket: {error.strerror}") from None
    return (ip_address(own[0].partition("%")[0]), int(own[1])), (ip_address(peer[0].partition("%")[0]), int(peer[1]))


def _nonce(text: object) -> bytes:
    try:
        nonce = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        nonce = b""
    if len(nonce) != 8 or not any(nonce):
        raise NotAdoptable("nonces: those of caller and holder, each of 16 hexadecimal digits")
    return nonce


def _whole(params: dict[str, Any], key: str, least: int) -> int:
    value = params.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 65535:
        raise NotAdoptable(f"{key}: a number from {least} to 65535")
    return value
