"""Runs the API and the metrics exporter, each a process that ends well on SIGTERM: `movierec serve api|metrics`."""

import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from movierec_platform.adapters.log_lines import log_lines
from movierec_platform.adapters.traces import exported_traces, trace_requests
from movierec_platform.api.front import serve_worker
from movierec_platform.config import Settings, is_loopback
from movierec_platform.domain.browsers import OWN_NAMES, listed
from movierec_platform.errors import MovierecError, Transient, UsageError

if TYPE_CHECKING:  # the worker imports the application; the process that only watches it stays small
    from flask import Flask

CONNECTIONS = 1024
"""More wait until one is closed, which an idle one is after IDLE_S."""
IDLE_S = 30
MAX_HEAD_BYTES = 64 * 1024
"""Of a request line and its headers together. Twice as much may pass, since the server looks at it between two reads;
beyond, as with more than 100 headers, it answers 431, or 414 where it is the address."""
OWN_FILES = 256
"""Open files beside the connections: the clients of S3, SQS, graph and state, logs, libraries."""
STOP_TIMEOUT_S = 20


def serve_api(settings: Settings) -> None:
    """Serves the API until SIGTERM or SIGINT: then requests in flight are answered and the lander is closed.

    Worker processes with threads: the requests of one share group commits, all share one snapshot. Raises UsageError
    for an address that is busy, or that others reach while there is no key.
    """
    if settings.keys_required:
        _check_keys(settings, settings.api_host)
    _check_address(settings.api_host, settings.api_port)
    log_lines(settings)
    server = Granian(
        "movierec_platform.api.app:create_app",
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        workers=settings.api_workers,
        backpressure=_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=IDLE_S * 1000, max_buffer_size=MAX_HEAD_BYTES),
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_TIMEOUT_S,
        websockets=False,
        # Its lines are among ours, in our form.
        log_dictconfig={"incremental": True, "handlers": {}, "loggers": {"_granian": {}}},
    )
    server.serve(spawn_target=partial(_work, settings), target_loader=partial(_load, settings), wrap_loader=False)


def serve_exporter(settings: Settings) -> None:
    """Serves `/metrics` for Prometheus until SIGTERM or SIGINT. Raises UsageError as `serve_api` does.

    Where others reach it, a scrape needs a key with the scope `read`.
    """
    reached = not is_loopback(settings.metrics_host)
    if reached:
        _check_keys(settings, settings.metrics_host)
    _check_address(settings.metrics_host, settings.metrics_port)
    _leave_pandas_out()
    from prometheus_client import CollectorRegistry, ProcessCollector

    from movierec_platform.adapters.graph import Graph
    from movierec_platform.adapters.state import State
    from movierec_platform.api.exporter import create_exporter, serve_until
    from movierec_platform.services.keys import Verifier
    from movierec_platform.services.metrics import PlatformCollector

    log_lines(settings)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    registry = CollectorRegistry()
    with Graph.open(settings, retry_s=1.0) as graph:
        state = cache(partial(State.open, settings))  # opened at a scrape: the exporter starts while Postgres is down
        collector = PlatformCollector(settings, graph, state)
        registry.register(collector)
        for _ in collector.collect():  # the first time takes longest: clients are made, tables are opened
            pass
        ProcessCollector(registry=registry)
        verifier = Verifier(lambda: state().keys, settings.key_cache_s) if reached else None
        names = {settings.metrics_host, *OWN_NAMES, *listed(settings.allowed_hosts)}
        app = create_exporter(registry, verifier, names, settings.stack_id)
        serve_until(stop, app, settings.metrics_host, settings.metrics_port)
        collector.close()


def _load(settings: Settings) -> "Flask":
    from movierec_platform.api.app import create_app

    return create_app(settings)


def _work(
    settings: Settings, worker_id: int, process_name: str | None, load: "Callable[[], Flask]", *granian: Any
) -> None:
    """Granian's worker around our application, closed once the last request in flight has been answered.

    Granian has no hook for that in the worker, and a forked process runs no `atexit` function.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):  # those inherited from the parent would be ignored until it serves
        signal.signal(signum, signal.SIG_DFL)
    write_log = log_lines(settings)
    _leave_pandas_out()
    from movierec_platform.api.app import services_of

    opened = ExitStack()
    opened.callback(write_log)
    try:
        opened.enter_context(exported_traces(settings, "movierec-api"))
        app = load()
        trace_requests(app)
    except MovierecError as error:
        print(f"movierec: {error}", file=sys.stderr)
        sys.exit(3 if isinstance(error, Transient) else 2)
    # What is here now stays: looking through it for garbage would hold every request up for 0.1 s, time and again.
    gc.collect()
    gc.freeze()
    threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
    try:
        serve_worker(app, settings.request_timeout_s, worker_id, process_name, *granian)
    finally:
        services_of(app).close()
        opened.close()


def _leave_pandas_out() -> None:
    """The neo4j driver and pyarrow import pandas where it is installed: 65 MB that nothing in these processes uses."""
    sys.meta_path.insert(0, _NoPandas())


class _NoPandas(MetaPathFinder):
    """Answers `import pandas` as if it were not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out of this process", name=fullname)


def _stop_with_parent() -> None:
    """When the parent is killed the worker stops too, else it would hold the port with nobody to stop it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _check_keys(settings: Settings, host: str) -> None:
    """Raises UsageError when nobody could come in, StateUnavailable when that cannot be seen."""
    from movierec_platform.adapters.state import State
    from movierec_platform.services.keys import Keys

    state = State.open(settings)
    try:
        if Keys(state.keys).any_active():
            return
    finally:
        state.close()
    why, instead = "MOVIEREC_REQUIRE_KEYS is true", "unset it"
    if not is_loopback(host):
        why, instead = f"{host} is reachable from other machines", "listen on 127.0.0.1 or ::1"
    raise UsageError(
        f"{why} and there is no active API key: make one with `movierec keys create NAME --scope read`, or {instead}"
    )


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Granian shares a busy port with whoever has it (SO_REUSEPORT), and requests would go to either.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def _connections() -> int:
    """How many connections this process can take; without a free file, granian would try to accept without a pause."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, soft - OWN_FILES)
    return CONNECTIONS
