"""The Locust load against the API, in a process of its own: Locust patches all that it is imported into. Takes 3 s."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import inherited_environment
from movierec_platform.domain.envelope import raw_events
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_tests.api.conftest import MOVIES, Platform

LOCUSTFILE = Path(__file__).parent.parent / "load" / "locustfile.py"


@pytest.fixture
def api_url(app: Flask) -> Iterator[str]:
    """The application over HTTP, in a thread of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_locust_posts_in_every_form_and_what_is_acknowledged_is_landed(api_url: str, platform: Platform) -> None:
    options = ["--headless", "--users", "10", "--spawn-rate", "10", "--run-time", "5s", "--tags", "write", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options],
        env={**inherited_environment(), "MOVIEREC_API_URL": api_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    requests = {one["name"]: one["num_requests"] for one in json.loads(done.stdout)}
    kinds = {f"POST /ingest, {kind}" for kind in ("one event", "a batch", "gzip NDJSON")}
    assert requests.keys() == kinds

    objects = open_objects(platform.settings)
    landed = [line for key in objects.keys("raw/") for line in raw_events(objects.get(key))]
    verdicts = [judge(event, received_at_ms) for event, received_at_ms in landed]
    accepted = [verdict for verdict in verdicts if isinstance(verdict, Event)]
    assert len(landed) >= requests["POST /ingest, one event"] + 500 * requests["POST /ingest, gzip NDJSON"]
    assert 0.9 * len(landed) < len(accepted) < len(landed)
    # an unknown movie passes the gate: it is the graph ingest that finds it
    assert {event.movie_id for event in accepted if event.movie_id < 2_000_000_000} <= MOVIES.keys()
