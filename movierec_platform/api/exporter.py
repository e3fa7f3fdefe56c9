"""The exporter: GET /metrics, what the platform tells at a scrape, and GET /health/live. Few ask it, and not often."""

import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flask import Blueprint, Flask, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from movierec_platform.api.access import require_keys
from movierec_platform.api.browsers import refuse_pages
from movierec_platform.api.errors import answer_errors
from movierec_platform.config import STACK_HEADER
from movierec_platform.services.keys import Verifier

CLIENT_TIMEOUT_S = 10.0
"""After which a client that says nothing, or does not take its answer, is cut off."""
MOST_CLIENTS, MOST_OF_ONE = 64, 8
"""Connections at one time, in all and of one address: with one more the oldest is closed."""


def create_exporter(
    registry: CollectorRegistry, verifier: Verifier | None, names: Collection[str], stack_id: str = ""
) -> Flask:
    """The application. With a verifier /metrics needs a key with the scope `read`, and to be alive needs none; without,
    it answers by these names alone, and no page of another site. `/health/live` tells the id of the stack."""
    app = Flask("movierec_exporter", static_folder=None)
    metrics, health = Blueprint("metrics", __name__), Blueprint("health", __name__)

    @metrics.get("/metrics")
    def exposition() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    @health.get("/health/live")
    def live() -> tuple[dict[str, str], dict[str, str]]:
        return {"status": "live"}, {STACK_HEADER: stack_id}

    app.register_blueprint(metrics)
    app.register_blueprint(health)
    answer_errors(app)
    if verifier is None:
        refuse_pages(app, names)
    else:
        require_keys(app, verifier, {"metrics": "read", "health": None})
    return app


def serve_until(stop: threading.Event, app: Flask, host: str, port: int) -> None:
    """The application is served, a thread for each client, until the event is set."""
    kind = _Server6 if ":" in host else _Server
    with make_server(host, port, app, kind, _Handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.1), name="exporter")
        thread.start()
        stop.wait()
        server.shutdown()
        thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # at the end a client that dawdles is not waited for

    def __init__(self, *arguments: Any) -> None:
        self._open: dict[socket.socket, str] = {}
        """Connections in the order in which they came, with the address of each."""
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = address = client_address[0]
            of_one = [one for one, whose in self._open.items() if whose == address]
            crowded = of_one if len(of_one) > MOST_OF_ONE else list(self._open)[: len(self._open) - MOST_CLIENTS]
            with suppress(OSError):  # its client has closed it meanwhile
                for oldest in crowded[:1]:
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def address_string(self) -> str:
        """The client's address as it is: looking up its name could take long."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: each scrape would be a line."""
