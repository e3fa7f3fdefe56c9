"""Traces: off they cost nothing and need nothing; on, a receiver of OpenTelemetry's protocol sees a batch whole."""

import gzip
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State
from movierec_platform.adapters.traces import current_trace, exported_traces, span, trace_requests
from movierec_platform.api.app import create_app, services_of
from movierec_platform.errors import UsageError
from movierec_platform.services.gate import Gate
from movierec_platform.services.ingest_graph import GraphIngest
from movierec_tests.api.conftest import ANA

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver(ThreadingHTTPServer):
    """Takes traces as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receives)
        self.spans: dict[str, tuple[str, Span]] = {}
        """(service, span) by name."""


class Receives(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans.update({one.name: (named["service.name"], one) for one in scope.spans})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def test_a_batch_is_one_trace_from_its_request_to_the_graph(platform, receiver):
    settings = platform.settings.model_copy(update={"traces": True})
    queues, state = Queues.open(settings), State.open(settings)
    with exported_traces(settings, "movierec-api"):
        app = create_app(settings)
        trace_requests(app)
        event = {"user_id": ANA, "movie_id": 2, "rating": 4.0}
        posted = app.test_client().post("/ingest", json=event, headers={"traceparent": CALLER})
        assert app.test_client().get("/health/live").status_code == 200
        services_of(app).close()
    for name, service, work in (
        ("raw", "movierec-quality-gate", Gate(queues, open_objects(settings), state).pass_on),
        ("clean", "movierec-graph-ingest", GraphIngest(queues, platform.graph, state, 100).write),
    ):
        with exported_traces(settings, service):
            work(queues.named(name).receive(wait_s=5))
    state.close()
    spans = receiver.spans
    assert {name: service for name, (service, _) in spans.items()} == {
        "POST /ingest": "movierec-api",
        "land": "movierec-api",
        "gate": "movierec-quality-gate",
        "ingest_graph": "movierec-graph-ingest",
    }
    assert {one.trace_id.hex() for _, one in spans.values()} == {CALLER.split("-")[1]}
    request, land = spans["POST /ingest"][1], spans["land"][1]
    assert request.parent_span_id.hex() == CALLER.split("-")[2]
    assert land.parent_span_id == request.span_id
    assert {spans[name][1].parent_span_id for name in ("gate", "ingest_graph")} == {land.span_id}
    assert all(one.start_time_unix_nano <= one.end_time_unix_nano for _, one in spans.values())
    batches = {
        attribute.value.string_value
        for name in ("land", "gate", "ingest_graph")
        for attribute in spans[name][1].attributes
        if attribute.key == "batch_id"
    }
    assert batches == {posted.json["batch_id"]}


def test_what_several_requests_share_is_linked_to_each(platform, receiver):
    other = CALLER.replace("0af7", "1af7")
    traced = platform.settings.model_copy(update={"traces": True})
    with exported_traces(traced, "movierec-api"), span("land", [CALLER, None, other, CALLER], events=3):
        pass
    _, land = receiver.spans["land"]
    assert land.parent_span_id == b""
    assert [one.trace_id.hex() for one in land.links] == [CALLER.split("-")[1], other.split("-")[1]]


def test_without_traces_nothing_is_imported_or_carried(platform, app):
    with exported_traces(platform.settings, "movierec-api"), span("land", [CALLER]):
        assert current_trace() is None
    before = app.wsgi_app
    trace_requests(app)
    assert app.wsgi_app is before


def test_traces_without_opentelemetry_say_what_to_install(platform, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traced = platform.settings.model_copy(update={"traces": True})
    refusal = pytest.raises(UsageError, match=r"pip install 'movierec-platform\[traces\]'")
    with refusal, exported_traces(traced, "movierec-api"):
        pass
