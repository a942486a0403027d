"""Asks a hub over UDP to redeem an invitation, or for settings (adapter)."""

from __future__ import annotations

import select
import socket
import time
from typing import Final

from lispmob.errors import LispError, MalformedMessage
from lispmob.joining.exchange import Exchange, Joined, JoinRefused, Verdict
from lispmob.joining.invitation import Address
from lispmob.wire.header import CONTROL_PORT

ASKED_AT_S: Final = (0.0, 0.5, 1.5, 3.5, 7.0)  # ours: seconds from the start
PATIENCE_S: Final = 10.0
UNPROVED_S: Final = 1.0  # ours: how long to wait for a better answer than one without a MAC


class HubSilent(LispError):
    """No answer came; the text says what came instead."""


class HubUnproved(LispError):
    """Answers came, and their sender did not prove to be the hub; the text is its addresses."""


def redeem(
    exchange: Exchange, addresses: tuple[Address, ...], port: int = CONTROL_PORT, patience_s: float = PATIENCE_S
) -> Joined:
    """Ask every address of the hub; returns its answer. Raises JoinRefused, HubUnproved, HubSilent."""
    sockets, errors = _connected(addresses, port)
    try:
        return _Asking(exchange, sockets, errors, patience_s).run()
    finally:
        for sock in sockets:
            sock.close()


class _Asking:
    def __init__(
        self,
        exchange: Exchange,
        sockets: dict[socket.socket, Address],
        errors: dict[str, str],
        patience_s: float,
    ) -> None:
        self._exchange = exchange
        self._sockets = sockets
        self._errors = errors
        self._refused: JoinRefused | None = None
        self._unproved: dict[str, None] = {}  # in order, each once
        self._ends_at = time.monotonic() + patience_s

    def run(self) -> Joined:
        """Ask, and repeat, until an answer proves that its sender has the secret."""
        began = time.monotonic()
        due = list(ASKED_AT_S)
        while (now := time.monotonic()) < self._ends_at and self._sockets:
            if due and now >= began + due[0]:
                due.pop(0)
                self._send()
            until = min(self._ends_at, began + due[0] if due else self._ends_at)
            readable, _, _ = select.select(list(self._sockets), [], [], max(0.0, until - now))
            for sock in readable:
                if (joined := self._receive(sock)) is not None:
                    return joined
        if self._refused is not None:
            raise self._refused
        if self._unproved:
            raise HubUnproved(", ".join(self._unproved))
        listed = ", ".join(f"{place}: {why}" for place, why in self._errors.items())
        raise HubSilent(listed)

    def _send(self) -> None:
        for one, address in self._sockets.items():
            try:
                one.send(self._exchange.question)
            except OSError as error:
                self._errors[str(address)] = error.strerror or str(error)

    def _receive(self, one: socket.socket) -> Joined | None:
        address = str(self._sockets[one])
        try:
            return self._exchange.on_answer(one.recv(2048))
        except OSError as error:  # an ICMP error, which any host can send: ask again
            self._errors[address] = error.strerror or str(error)
        except MalformedMessage as error:
            self._errors[address] = f"an answer that is not the hub's ({error.why})"
            if error.counter == "rx_auth":
                self._unproved[address] = None
        except JoinRefused as refused:
            if refused.verdict is not Verdict.UNKNOWN:
                raise
            if self._refused is None:
                self._refused = refused
                self._ends_at = min(self._ends_at, time.monotonic() + UNPROVED_S)
        return None


def _connected(addresses: tuple[Address, ...], port: int) -> tuple[dict[socket.socket, Address], dict[str, str]]:
    sockets: dict[socket.socket, Address] = {}
    errors: dict[str, str] = {}
    for address in addresses:
        errors[str(address)] = "no answer"
        one = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            one.setblocking(False)
            one.connect((str(address), port))
            sockets[one] = address
        except OSError as error:
            one.close()
            errors[str(address)] = error.strerror or str(error)
    return sockets, errors
