"""Figures as Prometheus reads them. The only file that imports prometheus-client (the extra `metrics`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lispmob.errors import LispError
from lispmob.metrics.family import Family

try:
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise LispError(
        "figures for Prometheus need the library prometheus-client: apt install python3-prometheus-client, or pip "
        "install 'lispmob[metrics]'"
    ) from None


class _Figures(Collector):
    """`read` is called for each scrape. One that fails gives `up` 0, and no figures."""

    def __init__(self, up: str, read: Callable[[], Iterable[Family]]) -> None:
        self._up = up
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
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


def serve(address: str, port: int, up: str, read: Callable[[], Iterable[Family]]) -> tuple[int, Callable[[], None]]:
    """Answer GET /metrics; the port, and what ends it. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(up, read))
    server, thread = start_http_server(port, addr=address, registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop
