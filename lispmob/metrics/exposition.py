"""Figures in Prometheus's format. The only file that imports prometheus-client (the extra `metrics`)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any, Final

from lispmob.errors import LispError
from lispmob.metrics.family import Family

try:
    from prometheus_client import CollectorRegistry, MetricsHandler, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise LispError(
        "figures for Prometheus need the library prometheus-client: apt install python3-prometheus-client, or pip "
        "install 'lispmob[metrics]'"
    ) from None


MOST: Final = 16  # ours: connections
PATIENCE_S: Final = 5.0  # ours: for the next octets of a request


class _Figures(Collector):
    """`read` is called for each scrape. If it fails, `up` is 0 and there are no figures."""

    def __init__(self, up: str, read: Callable[[], Iterable[Family]]) -> None:
        self._up = up
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The current figures."""
        try:
            found = list(self._read())
        except LispError:
            found = []
        yield GaugeMetricFamily(self._up, "1 when the daemon answers.", value=1.0 if found else 0.0)
        for family in found:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.samples:
                metric.add_metric(labels, value)
            yield metric


def text_of(up: str, families: Iterable[Family]) -> str:
    """The text exposition format."""
    found = list(families)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(up, lambda: found))
    return generate_latest(registry).decode()


class _Server(ThreadingHTTPServer):
    """A thread for each connection; at the limit the oldest is closed, so that idle clients keep no others out.

    The library's own server takes as many as come, and Debian 12's version of it cannot be stopped.
    """

    daemon_threads = True

    def __init__(self, place: tuple[str, int], handler: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self._open: dict[socket.socket, None] = {}
        self._changing = threading.Lock()
        super().__init__(place, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count a new connection."""
        with self._changing:
            self._open[request] = None
            leaves = next(iter(self._open)) if len(self._open) > MOST else None
            if leaves is not None:
                del self._open[leaves]
        if leaves is not None:
            with contextlib.suppress(OSError):
                leaves.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a closed connection."""
        with self._changing:
            self._open.pop(request, None)
        super().shutdown_request(request)


def serve(address: str, port: int, up: str, read: Callable[[], Iterable[Family]]) -> tuple[int, Callable[[], None]]:
    """Answer GET /metrics; returns the port, and a function that ends it. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(up, read))
    handler: Any = MetricsHandler.factory(registry)
    handler.timeout = PATIENCE_S
    server = _Server((address, port), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop
