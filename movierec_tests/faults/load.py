"""Clients that post without end, whatever dies, and keep the books of what was acknowledged."""

import http.client
import json
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from movierec_tests.faults.oracle import Fact

USERS, MOVIES = 300, 100
HOT_USERS, HOT_MOVIES = 30, 10
"""Half of all events are about these few, so that pairs collide a lot."""
BATCH_EVENTS = 40
CLIENTS = 8
TIMEOUT_S = 30.0
GIVE_UP = 0.15
"""Chance that a client gives a request up after a failure instead of posting it again."""
MONTH_MS = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One request, posted until it was acknowledged or given up; `batch_id` is None if it was never acknowledged."""

    events: list[Any]
    batch_id: str | None
    attempts: int


class Traffic:
    """Events, each with a name of its own, and what each of them must do: a fact for the graph, or a refusal."""

    def __init__(self, seed: int) -> None:
        self.facts: dict[str, Fact] = {}
        """What an event says, by name; its time is None where the time received counts."""
        self.refusals: dict[str, str] = {}
        """Reason code by name."""
        self._chance = random.Random(seed)
        self._number = 0
        self._recent: deque[Any] = deque(maxlen=2_000)
        self._shuffled: list[Any] = []

    def batch(self) -> list[Any]:
        """The next events. One in ten was posted before, byte for byte; the others come out of order."""
        chance = self._chance
        while len(self._shuffled) < 10 * BATCH_EVENTS:
            self._shuffled.append(self._next())
        batch = []
        for _ in range(BATCH_EVENTS):
            if chance.random() < 0.1 and self._recent:
                batch.append(chance.choice(self._recent))
                continue
            place = chance.randrange(len(self._shuffled))
            self._shuffled[place], self._shuffled[-1] = self._shuffled[-1], self._shuffled[place]
            batch.append(self._shuffled.pop())
            self._recent.append(batch[-1])
        return batch

    def _next(self) -> Any:
        chance = self._chance
        self._number += 1
        name = f"fault-{self._number}"
        hot = chance.random() < 0.5
        user_id = chance.randint(1, HOT_USERS if hot else USERS)
        movie_id = chance.randint(1, HOT_MOVIES if hot else MOVIES)
        kind = chance.choices(("rating", "view", "retract"), (75, 15, 10))[0]
        at_ms = time.time_ns() // 1_000_000
        if chance.random() < 0.1:
            at_ms -= chance.randrange(MONTH_MS)  # late
        event: dict[str, Any] = {"event_id": name, "user_id": user_id, "movie_id": movie_id}
        if kind != "rating" or chance.random() < 0.5:
            event["event_type"] = kind
        if kind == "rating":
            event["rating"] = chance.randint(1, 10) / 2
        form = chance.random()
        if form < 0.3:  # whole seconds, so that events of one pair meet at the same instant
            at_ms -= at_ms % 1000
            event["timestamp"] = at_ms // 1000
        elif form < 0.4:
            event["timestamp"] = datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).isoformat()
        elif form < 0.95:
            event["timestamp"] = at_ms
        if chance.random() < 0.1:
            return self._spoilt(event, name)
        self.facts[name] = Fact(
            kind, user_id, movie_id, event.get("rating"), at_ms if "timestamp" in event else None, name
        )
        return event

    def _spoilt(self, event: dict[str, Any], name: str) -> Any:
        """The event with one defect, that it must be refused for."""
        reason, bad = self._chance.choice(
            (
                ("missing_field", {key: value for key, value in event.items() if key != "user_id"}),
                ("wrong_type", {**event, "movie_id": str(event["movie_id"])}),
                ("wrong_type", {**event, "user_id": -1}),
                ("wrong_type", {**event, "timestamp": "yesterday"}),
                ("unknown_event_type", {**event, "event_type": "like"}),
                ("rating_out_of_range", {**event, "event_type": "rating", "rating": 11}),
                ("rating_not_half_step", {**event, "event_type": "rating", "rating": 3.7}),
                ("rating_forbidden", {**event, "event_type": "view", "rating": 3.0}),
                ("timestamp_out_of_range", {**event, "timestamp": 86_400}),
                ("id_too_long", {**event, "event_id": name + "é" * 150}),
                ("unknown_movie", {**event, "movie_id": 2_000_000_000 + self._number}),
                ("not_an_object", name),
            )
        )
        self.refusals[name_of(bad)] = reason
        return bad


def name_of(event: Any) -> str:
    """The name of an event, good or bad."""
    return event if isinstance(event, str) else event["event_id"]


class Load:
    """Clients in threads that post at this rate in all; after an outage they post what is overdue.

    A client posts a request again until it is acknowledged, or gives it up: then nobody knows whether it took effect.
    """

    def __init__(self, api_url: str, events_per_s: float, seed: int) -> None:
        self.api_url = api_url
        """Set anew when the API has moved."""
        self.traffic = Traffic(seed)
        self.requests: list[Request] = []
        self.seconds = 0.0
        self._chance = random.Random(seed + 1)
        self._events_per_s = events_per_s
        self._turn = threading.Lock()
        self._turns = 0
        self._stopping = threading.Event()
        self._began_s = time.monotonic()
        self._threads = [threading.Thread(target=self._post_forever, name="client") for _ in range(CLIENTS)]

    @property
    def acknowledged(self) -> int:
        """Events in requests that were acknowledged."""
        return sum(len(one.events) for one in list(self.requests) if one.batch_id is not None)

    @property
    def unacknowledged(self) -> int:
        """Events in requests that were given up."""
        return sum(len(one.events) for one in list(self.requests) if one.batch_id is None)

    def start(self) -> None:
        self._began_s = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No request is under way any more."""
        if not self._stopping.is_set():
            self.seconds = time.monotonic() - self._began_s
            self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _post_forever(self) -> None:
        while True:
            with self._turn:
                due_s = self._began_s + self._turns * BATCH_EVENTS / self._events_per_s
                self._turns += 1
                events = self.traffic.batch()
            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                return
            self.requests.append(self._posted(events))

    def _posted(self, events: list[Any]) -> Request:
        body = json.dumps(events, ensure_ascii=False).encode()
        attempts = 0
        while True:
            attempts += 1
            batch_id = _post(self.api_url, body)
            if batch_id is not None:
                return Request(events, batch_id, attempts)
            if self._chance.random() < GIVE_UP or self._stopping.wait(0.2):
                return Request(events, None, attempts)


def _post(api_url: str, body: bytes) -> str | None:
    """The id of the batch if it was acknowledged; None when nobody answered, or refused for now (503)."""
    address = urlsplit(api_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/ingest", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status == 503:
            return None
        assert response.status == 202, (response.status, answer)
        batch_id: str = json.loads(answer)["batch_id"]
        return batch_id
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
