"""GET /metrics: what this process has answered, for Prometheus; labels are route templates, never ids."""

import os
from collections.abc import Iterable
from functools import cache

from flask import Response
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from movierec_platform.api.routes import Routes
from movierec_platform.services.exposition import METRICS

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RequestMetrics:
    """Counts of this process's requests and landed events, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            *_described("movierec_http_requests_total"), ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            *_described("movierec_http_request_seconds"),
            ["route", "method"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        # As many as there are series: finding one by its labels takes as long as adding to it.
        self._series = cache(self._find_series)
        self._landed = Counter(*_described("movierec_landed_events_total"), registry=self.registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request more; a method that HTTP does not define is counted as `other`."""
        method = method if method in METHODS else "other"
        requests, durations = self._series(route, method, status)
        requests.inc()
        durations.observe(seconds)

    def _find_series(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, method, str(status)), self._seconds.labels(route, method)

    def landed(self, events: int) -> None:
        """So many events more are durable."""
        self._landed.inc(events)


class OfThisProcess(Collector):
    """Everything in the registry, with the label `process`.

    Which of the API's processes answers a scrape is chance: without the label Prometheus would take what one has
    counted for what another has, and each change between them for a restart.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        process = str(os.getpid())
        for metric in self._registry.collect():
            metric.samples = [one._replace(labels={**one.labels, "process": process}) for one in metric.samples]
            yield metric


def _described(name: str) -> tuple[str, str]:
    return name, METRICS[name].meaning


def blueprint(metrics: RequestMetrics) -> Routes:
    """The route over these metrics."""
    routes = Routes("metrics", "What this process has answered.", "read")
    content = {"text/plain": {"schema": {"type": "string"}}}

    @routes.get("/metrics", responses={200: {"description": "Prometheus's text format", "content": content}})
    def exposition() -> Response:
        """Counts and durations of this process's requests, for Prometheus."""
        return Response(generate_latest(OfThisProcess(metrics.registry)), content_type=CONTENT_TYPE_LATEST)

    return routes
