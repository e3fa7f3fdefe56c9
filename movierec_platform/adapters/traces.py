"""Traces of what happens to a batch of events, from the request to the graph, through OpenTelemetry's SDK.

Off unless `MOVIEREC_TRACES` is set. Where spans go, how many are kept and what else there is to say stands in
OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, ...). A span travels between processes
as the W3C's `traceparent`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from movierec_platform.config import Settings
from movierec_platform.errors import UsageError

if TYPE_CHECKING:
    from flask import Flask
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link

_provider: "TracerProvider | None" = None


@contextmanager
def exported_traces(settings: Settings, service: str) -> Iterator[None]:
    """The spans of what is inside are exported as those of this service, if the settings say so, all by its end.

    Raises UsageError where OpenTelemetry is not installed.
    """
    global _provider
    if not settings.traces:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from movierec_platform.adapters.http import http_session
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"MOVIEREC_TRACES is true and {missing.name} is not installed: pip install 'movierec-platform[traces]'"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=http_session())))
    _provider = provider
    try:
        yield
    finally:
        _provider = None
        provider.shutdown()


def trace_requests(app: "Flask") -> None:
    """Each request of this app is a span, the child of the one that its `traceparent` names."""
    if _provider is None:
        return
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    FlaskInstrumentor().instrument_app(app, tracer_provider=_provider, excluded_urls="/health,/metrics")  # type: ignore[no-untyped-call]


def current_trace() -> str | None:
    """The span at work here as a `traceparent`; None without one."""
    if _provider is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(name: str, traces: Sequence[str | None], **attributes: str | int) -> Iterator[None]:
    """What is inside is a span: the child of the one trace that there is, or linked to each of several."""
    if _provider is None:
        yield
        return
    parent, links = _origins(traces)
    tracer = _provider.get_tracer("movierec_platform")
    with tracer.start_as_current_span(name, parent, links=links, attributes=attributes):
        yield


def record_span(name: str, began_at_ns: int, trace: str | None, **attributes: str | int) -> None:
    """There was a span from then (epoch ns) until now, the child of this trace."""
    if _provider is None:
        return
    parent, _ = _origins([trace])
    tracer = _provider.get_tracer("movierec_platform")
    tracer.start_span(name, parent, start_time=began_at_ns, attributes=attributes).end(time.time_ns())


def _origins(traces: Sequence[str | None]) -> "tuple[Context, list[Link]]":
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    contexts = [
        TraceContextTextMapPropagator().extract({"traceparent": one}, Context())
        for one in dict.fromkeys(traces)
        if one is not None
    ]
    if len(contexts) == 1:
        return contexts[0], []
    return Context(), [Link(get_current_span(one).get_span_context()) for one in contexts]
