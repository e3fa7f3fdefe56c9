"""`create_app`: the Flask application over one set of clients, with a request id, an access log line and metrics."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

from flask import Flask
from flask_openapi3.openapi import OpenAPI

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.keys import KeysTable
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import open_queue
from movierec_platform.adapters.snapshot import SnapshotHolder
from movierec_platform.adapters.state import State
from movierec_platform.api import document, health, ingest, keys, movies, quarantine, recommendations
from movierec_platform.api import metrics as metrics_resource
from movierec_platform.api.access import require_keys
from movierec_platform.api.browsers import guard_browsers
from movierec_platform.api.errors import answer_errors
from movierec_platform.api.limits import RateLimits, limit_requests
from movierec_platform.api.metrics import RequestMetrics
from movierec_platform.api.observed import observe
from movierec_platform.api.page import browse, door, guide
from movierec_platform.api.page import operations as operations_page
from movierec_platform.config import Settings
from movierec_platform.domain.keys import Scope
from movierec_platform.services.circuit import Circuit, spared
from movierec_platform.services.histories import Histories
from movierec_platform.services.keys import Keys, Verifier
from movierec_platform.services.land import Lander
from movierec_platform.services.movies import Movies
from movierec_platform.services.operations import Operations
from movierec_platform.services.questioner import Questioner
from movierec_platform.services.recommend import Recommender
from movierec_platform.services.redrive import Redrive

log = logging.getLogger(__name__)

GRAPH_RETRY_S = 0.5
"""The driver tries a second time, a second later, and gives up: a request does not wait as long as a batch would."""

RETRY_STATE_AFTER_S = 5.0
"""Keys are not looked up for so long after the state database did not answer: a connect waits for 3 s."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes use; `app.extensions["movierec"]`."""

    graph: Graph
    snapshots: SnapshotHolder
    histories: Histories
    recommender: Recommender
    movies: Movies
    lander: Lander
    questioner: Questioner
    state: Callable[[], State]
    """Opened when it is first asked for: events are landed while Postgres is down."""
    redrive: Callable[[], Redrive]
    operations: Operations
    verifier: Verifier
    opened_later: ExitStack

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Clients of every part, connecting at first use; nothing is asked before `start`.

        Raises UsageError when the settings name no raw queue.
        """
        graph = Graph.open(settings, retry_s=GRAPH_RETRY_S)
        queue, objects = open_queue(settings, "raw"), open_objects(settings)
        opened_later = ExitStack()

        @cache
        def state() -> State:
            opened = State.open(settings)
            opened_later.callback(opened.close)
            return opened

        key_table = KeysTable(spared(Circuit(RETRY_STATE_AFTER_S), lambda table: state().turn(table)))
        lake = Lake(settings)
        snapshots = SnapshotHolder(graph, lake, settings.home / "snapshots", settings.snapshot_poll_s)
        histories = Histories(
            graph,
            poll_s=settings.history_poll_s,
            most_pairs=settings.history_cache_pairs,
            oldest_s=settings.history_oldest_s,
        )
        return cls(
            graph=graph,
            snapshots=snapshots,
            histories=histories,
            recommender=Recommender(snapshots, histories, settings.query_weight_power),
            movies=Movies(snapshots, graph.known_movies),
            lander=Lander(settings),
            questioner=Questioner(
                {"graph": graph.ping, "queue": queue.depth, "objects": objects.ping, "snapshot": snapshots.current}
            ),
            state=state,
            redrive=lambda: Redrive(state(), objects, queue),
            operations=Operations(settings, state, graph, lake),
            verifier=Verifier(lambda: key_table, settings.key_cache_s),
            opened_later=opened_later,
        )

    def start(self) -> None:
        """The snapshot is being loaded, and the change feed is being followed."""
        self.snapshots.start()
        self.histories.start()

    def close(self) -> None:
        """What was acknowledged is durable, and every client is closed."""
        self.lander.close()
        self.questioner.close()
        self.operations.close()
        self.histories.close()
        self.snapshots.close()
        self.graph.close()
        self.opened_later.close()
        log.info("stopped: everything acknowledged is durable")


def create_app(settings: Settings) -> OpenAPI:
    """The API over the parts that the settings name; whoever makes it calls `services_of(app).close()` in the end."""
    app = app_of(settings, Services.open(settings))
    services_of(app).start()
    return app


def app_of(settings: Settings, services: Services) -> OpenAPI:
    """The routes over these services, started or not."""
    app = document.openapi_app("movierec_platform.api")
    metrics = RequestMetrics()
    app.url_map.merge_slashes = False  # a path with // is not found, rather than redirected in HTML
    app.extensions["movierec"] = services
    resources = (
        ingest.blueprint(settings, services.lander, services.movies.unknown, metrics.landed),
        recommendations.blueprint(services.recommender),
        movies.blueprint(services.movies),
        quarantine.blueprint(services.redrive),
        *health.blueprints(services.questioner, settings.stack_id),
        metrics_resource.blueprint(metrics),
        keys.blueprint(lambda: Keys(services.state().keys), services.verifier.forget),
        document.blueprint(app, settings.keys_required),
        browse.blueprint(services.recommender, services.movies, services.histories),
        browse.ratings_blueprint(services.lander, metrics.landed),
        operations_page.blueprint(services.operations, services.redrive),
        guide.blueprint(),
        door.blueprint(),
    )
    for routes in resources:
        document.describe(app, routes)
    answer_errors(app)
    door.show_the_lost(app)
    observe(app, metrics.answered)
    guard_browsers(app, settings)
    _admit(app, settings, services.verifier, {routes.name: routes.scope for routes in resources})
    return app


def _admit(app: Flask, settings: Settings, verifier: Verifier, scopes: Mapping[str, Scope | None]) -> None:
    """Requests need the keys, and are as frequent, as the settings say; `scopes` by name of blueprint."""
    limits = RateLimits(settings.rate_limit) if settings.rate_limit else None
    if settings.keys_required:
        require_keys(app, verifier, scopes, limits)
    if limits:
        limit_requests(app, limits, frozenset(name for name, scope in scopes.items() if scope is None))


def services_of(app: Flask) -> Services:
    """What `create_app` opened for this app."""
    services: Services = app.extensions["movierec"]
    return services
