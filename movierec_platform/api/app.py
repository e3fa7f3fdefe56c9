"""`create_app`: the Flask application over one set of clients, with a request id, an access log line and metrics."""

import logging
import random
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import open_queue
from movierec_platform.adapters.snapshot import SnapshotHolder
from movierec_platform.adapters.state import State
from movierec_platform.api import health, ingest, quarantine, recommendations
from movierec_platform.api import metrics as metrics_resource
from movierec_platform.api.errors import Problem, answer_errors
from movierec_platform.api.metrics import RequestMetrics
from movierec_platform.config import Settings
from movierec_platform.services.land import Lander
from movierec_platform.services.metrics import Questioner
from movierec_platform.services.recommend import Recommender
from movierec_platform.services.redrive import Redrive

log = logging.getLogger(__name__)
access_log = logging.getLogger("movierec_platform.access")

GRAPH_RETRY_S = 0.5
"""The driver tries a second time, a second later, and gives up: a request does not wait as long as a batch would."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes use; `app.extensions["movierec"]`."""

    graph: Graph
    snapshots: SnapshotHolder
    recommender: Recommender
    lander: Lander
    questioner: Questioner
    redrive: Callable[[], Redrive]
    """Opens the state database when it is first asked for: events are landed while Postgres is down."""
    opened_later: ExitStack

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Clients of every part, connecting at first use; the snapshot is being loaded.

        Raises UsageError when the settings name no raw queue.
        """
        graph = Graph.open(settings, retry_s=GRAPH_RETRY_S)
        queue, objects = open_queue(settings, "raw"), open_objects(settings)
        opened_later = ExitStack()

        @cache
        def redrive() -> Redrive:
            state = State.open(settings)
            opened_later.callback(state.close)
            return Redrive(state, objects, queue)

        snapshots = SnapshotHolder(graph, Lake(settings), settings.snapshot_poll_s)
        snapshots.start()
        return cls(
            graph=graph,
            snapshots=snapshots,
            recommender=Recommender(graph, snapshots),
            lander=Lander(settings),
            questioner=Questioner(
                {"graph": graph.ping, "queue": queue.depth, "objects": objects.ping, "snapshot": snapshots.current}
            ),
            redrive=redrive,
            opened_later=opened_later,
        )

    def close(self) -> None:
        """What was acknowledged is durable, and every client is closed."""
        self.lander.close()
        self.questioner.close()
        self.recommender.close()
        self.snapshots.close()
        self.graph.close()
        self.opened_later.close()
        log.info("stopped: everything acknowledged is durable")


def create_app(settings: Settings) -> Flask:
    """The API over the parts that the settings name; whoever makes it calls `services_of(app).close()` in the end."""
    app = Flask("movierec_platform.api", static_folder=None)
    services = Services.open(settings)
    metrics = RequestMetrics()
    app.url_map.merge_slashes = False  # a path with // is not found, rather than redirected in HTML
    app.extensions["movierec"] = services
    app.register_blueprint(ingest.blueprint(settings, services.lander, metrics.landed))
    app.register_blueprint(recommendations.blueprint(services.recommender))
    app.register_blueprint(quarantine.blueprint(services.redrive))
    app.register_blueprint(health.blueprint(services.questioner))
    app.register_blueprint(metrics_resource.blueprint(metrics))
    answer_errors(app)
    _observe(app, metrics)
    app.before_request(_refuse_foreign_pages)
    return app


def services_of(app: Flask) -> Services:
    """What `create_app` opened for this app."""
    services: Services = app.extensions["movierec"]
    return services


def _refuse_foreign_pages() -> None:
    """A page of another site that the user has open cannot post here: browsers name that site in Origin."""
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD", "OPTIONS") and origin and urlsplit(origin).netloc != request.host:
        raise Problem(403, "foreign-origin", f"pages of {origin} may not post to {request.host}")


def _observe(app: Flask, metrics: RequestMetrics) -> None:
    """Every answer carries X-Request-ID (the client's, if it gave one), is counted, and has one line in the log."""

    @app.before_request
    def begin() -> None:
        g.started_s = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        # Not a secret, so no system call: a uuid4 is a tenth of what a small request costs.
        g.request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.started_s
        route = request.url_rule.rule if request.url_rule else "unmatched"
        metrics.answered(route, request.method, response.status_code, seconds)
        response.headers["X-Request-ID"] = g.request_id
        line = {
            "method": request.method[:16],
            "route": route,
            "status": response.status_code,
            "ms": round(seconds * 1000, 2),
            "request_id": g.request_id,
        }
        access_log.info(line)
        return response
