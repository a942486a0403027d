"""`python -m lispmob.datapath.bench.static_pair SIDE CIPHER RLOC RLOC EID EID`: one side of a pair without control
plane.

For the laboratory, which measures the cost of sealing. SIDE is 0 or 1, CIPHER a cipher or "none"; addresses are those
of side 0, then of side 1. Both sides compute the same keys from the minute of the monotonic clock, which they share, so
the keys are of no use beyond one machine. Says "ready" once its TUN device is there. Exit code 69: this build seals
nothing.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from lispmob.datapath import marshal, sealing
from lispmob.datapath.engine import Disposition, Engine, EngineConfig, ForwardingEntry, ForwardingLocator, Uplink
from lispmob.datapath.model import AeadName, SealedSession
from lispmob.wire.address import EidPrefix

EXIT_NO_CIPHER: Final = 69
_CABLE: Final = "eth0"
_TUN: Final = "lisp0"
_TUN_MTU: Final = 1440
_PEER: Final = 1
_KEY_S: Final = 60  # of the 180 seconds that a key may be used
_LEAD_S: Final = 2  # side 1 has the next key so long before side 0 sends with it


def session(side: int, number: int, aead: AeadName, there: EidPrefix) -> SealedSession:
    """The session of one minute; side 0 began the exchange."""
    out, back = (hashlib.sha256(f"{word} {number}".encode()).digest() for word in ("out", "back"))
    send_key, receive_key = (out, back) if side == 0 else (back, out)
    own, other = 2 * number + 1 + side, 2 * number + 2 - side
    return SealedSession(_PEER, own, other, send_key, receive_key, aead, 0, (there,), is_confirmed=side == 0)


def serve(side: int, aead: AeadName | None, rlocs: Sequence[IPv4Address], eids: Sequence[IPv4Address]) -> None:
    """Runs until the process is ended."""
    own, there = EidPrefix.host(eids[side]), EidPrefix.host(eids[1 - side])
    engine = Engine(EngineConfig(_TUN, (own,), tun_mtu_bytes=_TUN_MTU))
    engine.open()
    engine.start()
    engine.set_uplinks([Uplink(socket.if_nametoindex(_CABLE), _CABLE, (rlocs[side],))])
    peer = 0 if aead is None else _PEER
    locators = (ForwardingLocator(rlocs[1 - side]),)
    engine.table.install(ForwardingEntry(there, Disposition.ENCAPSULATE, locators, peer=peer, must_seal=peer != 0))
    print("ready", flush=True)  # noqa: T201
    number = 0
    while True:
        now = (int(time.monotonic()) + (_LEAD_S if side == 1 else 0)) // _KEY_S
        if aead is not None and now != number:
            engine.sessions.install(session(side, number := now, aead, there))
        engine.drain()
        time.sleep(0.25)


def main(argv: Sequence[str]) -> int:
    side, cipher, *addresses = argv
    rlocs, eids = (tuple(map(IPv4Address, pair)) for pair in (addresses[:2], addresses[2:]))
    aead = next((name for name in marshal.AEADS if name == cipher), None)
    if aead is not None and not sealing.can_seal():
        print(sealing.MISSING, file=sys.stderr)  # noqa: T201
        return EXIT_NO_CIPHER
    serve(int(side), aead, rlocs, eids)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
