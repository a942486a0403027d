"""Two hosts of a bench, the connection between them, and a check that packets take the path of that name."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from lispmob.closing import Closing
from lispmob.lab.bench.wire import CABLE, Way
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.ping import ping
from lispmob.lab.process import Daemon, ProcessFailed

ETH_P_ALL: Final = 0x0003  # before the programs at the ingress; a socket for IP alone would see packets too late
ETH_P_IP: Final = 0x0800
_SILENCE_S: Final = 0.2


class Pair(Closing):
    """Hosts a and b, and others in between, each in a namespace. Leaving the `with` block removes them.

    A subclass builds what is between them in `_build`, and adds its processes to `_daemons`.
    """

    def __init__(self, directory: Path, way: Way, prefix: str, between: Sequence[str] = ()) -> None:
        """Return when packets pass in both directions. Raises ProcessFailed, and the exceptions of `_build`."""
        self.way = way
        self._directory = directory
        self._daemons: list[Daemon] = []
        self._open = contextlib.ExitStack()
        spaces = self._open.enter_context(NamespaceSet(prefix))
        try:
            self.a, self.b, *self._between = (spaces.make(f"bench-{host}") for host in ("a", "b", *between))
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything. Idempotent."""
        self._open.close()

    @property
    def _hosts(self) -> tuple[Namespace, Namespace]:
        return self.a, self.b

    def _build(self) -> None:
        """Lay cables, start processes, and wait until packets pass in both directions."""
        raise NotImplementedError

    def _run(self, daemon: Daemon) -> None:
        """Stop the daemon when the pair is closed."""
        self._open.callback(daemon.stop)
        self._daemons.append(daemon)

    def _count(self, count: int, is_wanted: Callable[[bytes], bool], what: str, protocol: int = ETH_P_IP) -> int:
        """How many of `count` pings reach b in IP packets that are wanted. Raises ProcessFailed when not all do."""
        with self.b.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as cable:
            cable.bind((CABLE, protocol))
            cable.settimeout(_SILENCE_S)
            ping(self.a, self.way.far, self.way.near, count=count)
            seen = 0
            with contextlib.suppress(TimeoutError):
                while seen < count:
                    packet, (_, kind, *_) = cable.recvfrom(65535)
                    seen += kind == ETH_P_IP and is_wanted(packet)
        if seen < count:
            raise ProcessFailed(f"{self.way.name}: {seen} of {count} packets {what}")
        return seen

    def _wait_until(self, is_so: Callable[[], bool], what: str, patience_s: float) -> None:
        """Return when `is_so`. Raises ProcessFailed with the end of the first process's log after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            for daemon in self._daemons:
                daemon.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.way.name}: {what}\n{self._daemons[0].log_tail()}")
            time.sleep(0.02)

    def _is_answered(self) -> bool:
        return not ping(self.a, self.way.far, self.way.near, count=1, timeout_s=0.3).lost
