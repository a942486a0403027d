"""The applications of a host, with their UDP and TCP sockets: each method is a command of engine_process.py."""

from __future__ import annotations

import socket
import threading
import time

IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2  # <linux/in.h>
UDP_SEGMENT = 103  # <linux/udp.h>


class Applications:
    """Sockets by name, and what they have received."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}
        self._received: dict[str, list[bytes]] = {}

    def udp_mark(self, *, name: str, mark: int) -> None:
        self._sockets[name].setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)

    def udp_open(self, *, name: str, address: str, port: int, may_fragment: bool = False) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if may_fragment and family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)  # DF clear
        sock.bind((address, port))
        self._sockets[name] = sock
        heard = self._received[name] = []

        def listen() -> None:
            while True:
                try:
                    heard.append(sock.recv(65535))
                except ConnectionRefusedError:
                    continue
                except OSError:
                    return

        threading.Thread(target=listen, daemon=True).start()

    def udp_send(
        self,
        *,
        name: str,
        to: str,
        port: int,
        sizes: list[int] | None = None,
        first: int = 0,
        count: int = 1,
        pause_s: float = 0,
    ) -> list[str]:
        """Send datagrams that begin with their number, from `first` on; returns the errors."""
        errors: list[str] = []
        for number in range(first, first + count):
            size = sizes[number % len(sizes)] if sizes else 64
            try:
                self._sockets[name].sendto(number.to_bytes(4, "big").ljust(size, b"x"), (to, port))
            except OSError as error:
                errors.append(str(error.strerror))
            if pause_s:
                time.sleep(pause_s)
        return errors

    def udp_burst(self, *, name: str, to: str, port: int, count: int, size: int, sets_df: bool = False) -> None:
        """Send `count` numbered datagrams of `size` octets as one super-packet (UDP_SEGMENT)."""
        sock = self._sockets[name]
        if sets_df:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        sock.sendto(b"".join(number.to_bytes(4, "big").ljust(size, b"x") for number in range(count)), (to, port))
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)

    def udp_received(self, *, name: str, count: int, timeout_s: float = 3.0) -> list[list[int]]:
        """[number, size] of each received datagram, once there are `count`, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        while len(self._received[name]) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return [[int.from_bytes(datagram[:4], "big"), len(datagram)] for datagram in list(self._received[name])]

    def tcp_serve(self, *, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)

        def serve() -> None:
            with listener, listener.accept()[0] as peer:
                total = 0
                while octets := peer.recv(65536):
                    total += len(octets)
                peer.sendall(total.to_bytes(8, "big"))

        threading.Thread(target=serve, daemon=True).start()

    def tcp_send(self, *, source: str, to: str, port: int, octets: int, mark: int = 0) -> int:
        """Send so many octets, and return how many the other side reports."""
        with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as peer:
            peer.settimeout(10)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            peer.bind((source, 0))
            peer.connect((to, port))
            block = b"y" * 65536
            for start in range(0, octets, len(block)):
                peer.sendall(block[: octets - start])
            peer.shutdown(socket.SHUT_WR)
            return int.from_bytes(peer.recv(8), "big")

    def tcp_listen(self, *, name: str, address: str, port: int) -> None:
        """Accept one connection, and keep the octets that arrive; tcp_arrived() counts them."""
        listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        heard = self._received[name] = []

        def listen() -> None:
            with listener, listener.accept()[0] as peer:
                while octets := peer.recv(65536):
                    heard.append(octets)

        threading.Thread(target=listen, daemon=True).start()

    def tcp_open(self, *, name: str, source: str, to: str, port: int) -> None:
        self._sockets[name] = socket.create_connection((to, port), timeout=5, source_address=(source, 0))

    def tcp_write(self, *, name: str, octets: int) -> None:
        """Write so many octets, without waiting for their arrival."""
        self._sockets[name].sendall(b"z" * octets)

    def tcp_arrived(self, *, name: str, octets: int, timeout_s: float) -> int:
        """The number of octets that arrived, once there are `octets`, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        while sum(map(len, self._received[name])) < octets and time.monotonic() < deadline:
            time.sleep(0.005)
        return sum(map(len, self._received[name]))

    def tcp_connect(self, *, source: str, to: str, port: int) -> str:
        """The error of connect(), "" for none."""
        try:
            socket.create_connection((to, port), timeout=5, source_address=(source, 0)).close()
        except OSError as error:
            return type(error).__name__ if error.errno is None else str(error.strerror)
        return ""
