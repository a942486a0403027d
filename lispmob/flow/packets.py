"""The protocol of lispd and programs for flows: a JSON object per packet, on a Unix socket (SOCK_SEQPACKET).

    -> {"v":1,"id":7,"method":"allocate","params":{"name":"backup.nas"}}
    <- {"v":1,"id":7,"result":{"flow":3,"peer":"10.99.0.2",...}}        with the flow's socket (SCM_RIGHTS)
    <- {"v":1,"id":7,"error":{"code":"no-such-name","message":"..."}}
    <- {"v":1,"event":{"kind":"call","fields":{...}}}                   with a socket if the flow is open already

Standard library only: programs that use flows need nothing else.
"""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lispmob.flow.quality import FlowClass, Quality, Wish

VERSION: Final = 1
DEFAULT_SOCKET: Final = Path("/run/lispmob/flow.sock")
MAX_PACKET_OCTETS: Final = 65536
MAX_DESCRIPTORS: Final = 1

_CLASSES: Final = {flow_class.name.lower(): flow_class for flow_class in FlowClass}


def pack(packet: dict[str, Any]) -> bytes:
    """The octets of a packet."""
    return json.dumps({"v": VERSION, **packet}, separators=(",", ":"), ensure_ascii=False).encode()


def unpack(octets: bytes) -> dict[str, Any]:
    """A packet from its octets. Raises ValueError when it is no JSON object of this version."""
    packet = json.loads(octets)
    if not isinstance(packet, dict) or packet.get("v") != VERSION:
        raise ValueError(f"a packet of version {VERSION} is expected")
    return packet


def send(one: socket.socket, packet: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a packet, with descriptors. Raises OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    one.sendmsg([pack(packet)], rights, socket.MSG_NOSIGNAL)


def receive(one: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a packet and its descriptors; empty when the other side has closed. Raises OSError."""
    octets, descriptors, _flags, _ = socket.recv_fds(one, MAX_PACKET_OCTETS, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    return octets, descriptors


def quality_to_json(quality: Quality) -> dict[str, Any]:
    """A wish as programs write it; fields without a wish are left out."""
    known = quality.flow_class in _CLASSES.values()
    shown = {
        "class": FlowClass(quality.flow_class).name.lower() if known else str(quality.flow_class),
        "cheap": bool(quality.flags & Wish.CHEAP),
        "only": bool(quality.flags & Wish.ONLY),
        "delay_ms": quality.delay_ms,
        "loss": quality.loss,
        "rate_kbit": quality.rate_kbit,
    }
    return {key: value for key, value in shown.items() if value}


def quality_from_json(value: object) -> Quality:
    """Read a wish: a class alone, or an object. Raises ValueError with a sentence."""
    if value is None:
        return Quality()
    given = {"class": value} if isinstance(value, str) else value
    if not isinstance(given, dict):
        raise ValueError("qos: the name of a class, or an object")
    if unknown := set(given) - {"class", "cheap", "only", "delay_ms", "loss", "rate_kbit"}:
        raise ValueError(f"qos: unknown: {', '.join(sorted(map(str, unknown)))}")
    word = given.get("class", "default")
    if word not in _CLASSES:
        raise ValueError(f"qos: {word!r} is not {', '.join(_CLASSES)}")
    numbers = [given.get(key, 0) for key in ("delay_ms", "loss", "rate_kbit")]
    if any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise ValueError("qos: delay_ms, loss and rate_kbit are whole numbers")
    flags = (Wish.CHEAP if given.get("cheap") else 0) | (Wish.ONLY if given.get("only") else 0)
    try:
        return Quality(_CLASSES[word], flags, *numbers)
    except ValueError:
        raise ValueError("qos: delay_ms is 0 to 65535, loss 0 to 10000 of 10000, rate_kbit 0 to 4294967295") from None
