"""Synthetic but lifelike traffic: what clients of a film site would post, bad, repeated and late events included."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Any

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.http import http_session
from movierec_platform.config import Settings
from movierec_platform.errors import LandingBusy, Transient, UsageError
from movierec_platform.local.client import NO_HEADERS

RATINGS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
RATING_WEIGHTS = (1, 3, 2, 7, 4, 20, 11, 29, 8, 15)
"""Per cent of ratings at each step, about as MovieLens has them."""
TYPES = ("rating", "view", "retract")
TYPE_WEIGHTS = (85, 12, 3)
LATE_MS = 30 * 24 * 3600 * 1000
REQUEST_TIMEOUT_S = 30
BATCH_EVENTS = 50

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mix:
    """How the traffic is made: shares (0 to 1) of bad, duplicate and late events, and the seed of all choices."""

    bad: float
    duplicate: float
    late: float
    seed: int

    def __post_init__(self) -> None:
        if min(self.bad, self.duplicate, self.late) < 0 or self.bad + self.duplicate + self.late > 1:
            raise UsageError("the shares of bad, duplicate and late events are at least 0 and add up to 1 at most")


@dataclass(frozen=True, slots=True)
class Audience:
    """Who watches what: user ids, and movie ids with how often each is watched."""

    users: Sequence[int]
    movies: Sequence[int]
    movie_weights: Sequence[float]


@dataclass(slots=True)
class Posted:
    """What was posted, by kind, and what the receipts said. `bad` counts by the reason that the gate should give."""

    requests: int = 0
    good: int = 0
    duplicate: int = 0
    late: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    rejected: int = 0
    seconds: float = 0.0

    @property
    def events(self) -> int:
        return self.good + self.duplicate + self.late + sum(self.bad.values())

    def plus(self, other: "Posted") -> "Posted":
        """Both together."""
        return Posted(
            requests=self.requests + other.requests,
            good=self.good + other.good,
            duplicate=self.duplicate + other.duplicate,
            late=self.late + other.late,
            bad=self.bad + other.bad,
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
            seconds=self.seconds + other.seconds,
        )

    def as_json(self) -> dict[str, Any]:
        """The counts; `events` is their sum."""
        return {
            "events": self.events,
            "good": self.good,
            "bad": sum(self.bad.values()),
            "bad_by_reason": dict(sorted(self.bad.items())),
            "duplicate": self.duplicate,
            "late": self.late,
            "requests": self.requests,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.events / self.seconds, 1) if self.seconds else None,
        }


def events(audience: Audience, mix: Mix, now_ms: Callable[[], int]) -> Iterator[tuple[str, Event]]:
    """Endless (kind, event) pairs; a kind is good, duplicate, late, or the reason code of a bad event.

    A duplicate is an earlier good event again, byte for byte. Equal seeds make equal choices.
    """
    chance = random.Random(mix.seed)  # noqa: S311  # choices to be repeated, not secrets
    cumulative = list(accumulate(audience.movie_weights))
    recent: list[Event] = []
    for number in count():
        kind = chance.random()
        if kind < mix.duplicate and recent:
            yield "duplicate", chance.choice(recent)
            continue
        event: Event = {
            "event_id": f"traffic-{mix.seed}-{number}",
            "event_type": chance.choices(TYPES, TYPE_WEIGHTS)[0],
            "user_id": chance.choice(audience.users),
            "movie_id": chance.choices(audience.movies, cum_weights=cumulative)[0],
            "timestamp": now_ms(),
            "session_id": f"session-{chance.randrange(1000)}",
        }
        if event["event_type"] == "rating":
            event["rating"] = chance.choices(RATINGS, RATING_WEIGHTS)[0]
        if mix.duplicate <= kind < mix.duplicate + mix.bad:
            yield _spoilt(event, chance)
        elif mix.duplicate + mix.bad <= kind < mix.duplicate + mix.bad + mix.late:
            yield "late", {**event, "timestamp": event["timestamp"] - chance.randrange(3600_000, LATE_MS)}
        else:
            recent = [*recent[-199:], event]
            yield "good", event


def stream_of(settings: Settings, mix: Mix, without_user: int | None = None) -> Iterator[tuple[str, Event]]:
    """Endless traffic about the movies in the graph, by its users but one, and some that are new."""
    with Graph.open(settings) as graph:
        users, movies = [user for user in graph.user_ids() if user != without_user], graph.movie_popularity()
    if not movies:
        raise UsageError("the graph has no movies yet: run `movierec load` first")
    newcomers = range(max(users, default=0) + 1, max(users, default=0) + 1 + max(len(users) // 10, 10))
    audience = Audience([*users, *newcomers], [movie for movie, _ in movies], [1 + ratings for _, ratings in movies])
    return events(audience, mix, lambda: time.time_ns() // 1_000_000)


def post_traffic(
    api_url: str,
    stream: Iterator[tuple[str, Event]],
    total: int,
    rate: float,
    on_progress: Callable[[Posted], None] = lambda posted: None,
    batch_events: int = BATCH_EVENTS,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Posted:
    """What was posted: `total` events at `rate` a second (0: as fast as they are acknowledged).

    A 503 and a lost connection are tried again, as a client should: it may double events, which changes nothing.
    Raises Transient when the API stays away and UsageError when it refuses a request.
    """
    posted = Posted()
    started = time.monotonic()
    with http_session(headers) as session:
        while posted.events < total:
            batch = [next(stream) for _ in range(min(batch_events, total - posted.events))]
            answer = post_events(session, api_url, [event for _, event in batch])
            posted.requests += 1
            posted.accepted += answer["accepted"]
            posted.rejected += answer["rejected"]
            for kind, _ in batch:
                _add(posted, kind)
            posted.seconds = time.monotonic() - started
            on_progress(posted)
            if rate:
                time.sleep(max(0.0, posted.events / rate - posted.seconds))
    return posted


def post_events(session: requests.Session, api_url: str, batch: Sequence[Event]) -> dict[str, Any]:
    """The API's receipt for these events, tried up to eight times while the API answers 503 or not at all."""
    retry = Retrying(
        retry=retry_if_exception_type(Transient),
        stop=stop_after_attempt(8),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    receipt: dict[str, Any] = retry(_post, session, f"{api_url}/ingest", batch)
    return receipt


def _post(session: requests.Session, url: str, batch: Sequence[Event]) -> dict[str, Any]:
    try:
        answer = session.post(url, json=batch, timeout=REQUEST_TIMEOUT_S)
    except requests.RequestException as error:
        raise Transient(f"the API at {url} does not answer: {error}") from error
    if answer.status_code == 503:
        raise LandingBusy(f"the API at {url} cannot take events now: {answer.text}")
    if answer.status_code != 202:
        raise UsageError(f"the API at {url} refuses these events ({answer.status_code}): {answer.text}")
    receipt: dict[str, Any] = answer.json()
    return receipt


def _spoilt(event: Event, chance: random.Random) -> tuple[str, Event]:
    """(reason code that the gate will give, the event with one defect)."""
    as_rating = {**event, "event_type": "rating", "rating": 4.0}
    defects: tuple[tuple[str, Event], ...] = (
        ("missing_field", {name: value for name, value in event.items() if name != "user_id"}),
        ("wrong_type", {**event, "user_id": str(event["user_id"])}),
        ("wrong_type", {**event, "movie_id": -1}),
        ("unknown_event_type", {**event, "event_type": "like"}),
        ("rating_out_of_range", {**as_rating, "rating": 11}),
        ("rating_not_half_step", {**as_rating, "rating": 3.7}),
        ("rating_forbidden", {**event, "event_type": "view", "rating": 3.0}),
        ("timestamp_out_of_range", {**event, "timestamp": 86_400}),
        ("id_too_long", {**event, "event_id": "x" * 200}),
        ("unknown_movie", {**event, "movie_id": 2_000_000_000 + chance.randrange(1000)}),
    )
    return chance.choice(defects)


def _add(posted: Posted, kind: str) -> None:
    if kind in ("good", "duplicate", "late"):
        setattr(posted, kind, getattr(posted, kind) + 1)
    else:
        posted.bad[kind] += 1
