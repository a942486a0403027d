"""`python -m lispmob.lab.bench.flooding.flooder ADDRESS RATE SECONDS KIND`: floods a control port from one source.

KIND is `junk`, octets that are no message, or a message's octets in hexadecimal. It prints the packets a second that it
has sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from ipaddress import ip_address
from typing import Final

_PORT: Final = 4342
_TURN_S: Final = 0.002
_OCTETS: Final = 40


def flood(address: str, per_s: int, seconds: float, kind: str) -> float:
    """Send at an even pace; returns the packets a second that were sent."""
    payloads = [os.urandom(_OCTETS) for _ in range(64)] if kind == "junk" else [bytes.fromhex(kind)]
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect((address, _PORT))
        start, sent = time.monotonic(), 0
        while (now := time.monotonic()) < start + seconds:
            for _ in range(int((now - start) * per_s) - sent):
                with contextlib.suppress(ConnectionRefusedError):
                    one.send(payloads[sent % len(payloads)])
                sent += 1
            time.sleep(max(0.0, now + _TURN_S - time.monotonic()))
        return sent / (time.monotonic() - start)


if __name__ == "__main__":
    print(flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
