"""Real traffic between two hosts: requests over UDP and their answers, and the rate of a TCP stream."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Final

from lispmob.lab.namespace import Namespace

QUESTIONS: Final = 20
_FREEBIND: Final = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}  # linux/in.h, linux/in6.h


@contextmanager
def answering(host: Namespace, address: str) -> Iterator[None]:
    """Return every UDP datagram to port 7 of this address."""
    ear = host.socket(_family(address), socket.SOCK_DGRAM)
    ear.setsockopt(*_FREEBIND[ip_address(address).version], 1)  # the EID may come later
    ear.bind((address, 7))
    ear.settimeout(0.1)
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                octets, sender = ear.recvfrom(2048)
                ear.sendto(octets, sender)
            except OSError:
                continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        ear.close()


def answered(host: Namespace, source: str, to: str, count: int = QUESTIONS, octets: int = 600) -> int:
    """How many of so many requests are answered, each sent once."""
    with host.socket(_family(source), socket.SOCK_DGRAM) as mouth:
        mouth.bind((source, 0))
        mouth.settimeout(0.5)
        found = 0
        for number in range(count):
            mouth.sendto(number.to_bytes(2) * (octets // 2), (to, 7))
            try:
                found += mouth.recv(2048)[:2] == number.to_bytes(2)
            except TimeoutError:
                continue
        return found


def mbit_s(client: Namespace, server: Namespace, to: str, source: str, seconds: float = 1.0) -> float:
    """The rate of one TCP stream from client to server, by what the server received."""
    listener = subprocess.Popen(
        server.argv("iperf3", "-s", "-1", "-B", to), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.3)
        line = ("iperf3", "-c", to, "-B", source, "-t", str(seconds), "-J", "--connect-timeout", "3000")
        report = json.loads(client.run(*line, timeout_s=seconds + 20))
    finally:
        listener.kill()
        listener.wait()
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
