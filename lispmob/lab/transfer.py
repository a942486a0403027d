"""Process: an end of a TCP transfer at full speed; and the class that starts both ends and measures the time."""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

from lispmob.lab.probe import Party
from lispmob.lab.process import Tool

_CHUNK: Final = 65_536
_PORT: Final = 47_002


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """The role of a process: the receiver listens on `local`, the sender connects to `remote` and sends `octets`."""

    is_receiver: bool
    local: str
    remote: str
    octets: int
    timeout_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """The result: octets that arrived, and seconds since the connection was made."""

    wanted: int
    arrived: int
    took_s: float

    @property
    def is_complete(self) -> bool:
        """True when all octets arrived in time."""
        return self.arrived == self.wanted


class Sending:
    """A transfer that runs until `finish`."""

    def __init__(
        self, sender: Party, receiver: Party, octets: int, *, timeout_s: float = 15.0, pause_s: float = 0.0
    ) -> None:
        """`pause_s`: between pieces of 64 KiB. Raises ProcessFailed when an end cannot start or connect."""
        plans = [
            TransferPlan(is_receiver, str(one.address), str(other.address), octets, timeout_s, pause_s)
            for is_receiver, one, other in ((True, receiver, sender), (False, sender, receiver))
        ]
        self._receiver = Tool(receiver.namespace, "lispmob.lab.transfer", asdict(plans[0]), timeout_s=timeout_s + 10)
        try:
            self._sender = Tool(sender.namespace, "lispmob.lab.transfer", asdict(plans[1]), timeout_s=timeout_s + 10)
        except BaseException:
            self._receiver.kill()
            raise

    def finish(self) -> Transfer:
        """Wait for its end."""
        try:
            return Transfer(**self._receiver.finish())
        finally:
            self._sender.kill()
            self._receiver.kill()


def transfer(sender: Party, receiver: Party, octets: int, *, timeout_s: float = 15.0) -> Transfer:
    """Send `octets` from one party to the other. Raises ProcessFailed when no connection is made."""
    return Sending(sender, receiver, octets, timeout_s=timeout_s).finish()


def _receive(plan: TransferPlan) -> Transfer:
    arrived, began = 0, time.monotonic()
    with socket.create_server((plan.local, _PORT), family=_family(plan.local)) as listener:
        print("ready", flush=True)
        listener.settimeout(plan.timeout_s)
        connection, _ = listener.accept()
        began = time.monotonic()
        with connection:
            while arrived < plan.octets and (left := began + plan.timeout_s - time.monotonic()) > 0:
                connection.settimeout(left)
                try:
                    data = connection.recv(_CHUNK)
                except TimeoutError:
                    break
                if not data:
                    break
                arrived += len(data)
    return Transfer(plan.octets, arrived, time.monotonic() - began)


def _send(plan: TransferPlan) -> None:
    with socket.socket(_family(plan.local), socket.SOCK_STREAM) as connection:
        connection.bind((plan.local, 0))
        connection.settimeout(8.0)
        connection.connect((plan.remote, _PORT))
        connection.settimeout(plan.timeout_s)
        print("ready", flush=True)
        left = plan.octets
        while left > 0:
            connection.sendall(bytes(min(left, _CHUNK)))
            left -= _CHUNK
            time.sleep(plan.pause_s)
        sys.stdin.read()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def main() -> None:
    plan = TransferPlan(**json.loads(sys.argv[1]))
    if plan.is_receiver:
        print(json.dumps(asdict(_receive(plan))))
    else:
        _send(plan)


if __name__ == "__main__":
    main()
