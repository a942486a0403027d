"""The IP packets of one interface of a namespace, as they pass."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from types import TracebackType
from typing import Self

from lispmob.lab.namespace import Namespace

ETH_P_ALL = 3
BUFFER_OCTETS = 4 << 20
BACKLOG = 10_000


class Capture:
    """Collects in `packets` what passes during the `with` block, in both directions; or only what is sent."""

    def __init__(self, namespace: Namespace, interface: str, *, sent_only: bool = False) -> None:
        self.packets: list[bytes] = []
        self._sent_only = sent_only
        self._tap = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
        self._tap.bind((interface, ETH_P_ALL))
        self._tap.settimeout(0.1)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(5)
        self._tap.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(BACKLOG):  # what came before the end and was not read yet
                self._take()
        self._tap.close()

    def _run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                self._take()

    def _take(self) -> None:
        try:
            packet, (_, _, direction, *_) = self._tap.recvfrom(65_535)
        except OSError as error:
            if error.errno != errno.ENETDOWN:  # reported once; the interface may come up again
                raise
            return
        is_wanted = direction == socket.PACKET_OUTGOING or not self._sent_only
        if is_wanted and packet[0] >> 4 in (4, 6):
            self.packets.append(packet)
