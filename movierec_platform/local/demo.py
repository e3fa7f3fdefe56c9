"""`movierec demo`: the whole platform at work on real ratings, every claim checked.

Each step does one thing through the doors that a user has (HTTP, Dagster, the graph) and adds figures and checks to the
report; the closing table and demo.json are that report.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import chain, islice
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from movierec_platform.adapters.dagster import graphql
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.queues import QUEUE_NAMES, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.freshness import CounterKey, bucket_counts, quantile
from movierec_platform.errors import CheckFailed
from movierec_platform.local.client import credentials, get_recommendations, wait_until_served
from movierec_platform.local.progress import progress, run_progress
from movierec_platform.local.run import keep as keep_running
from movierec_platform.local.run import leave, on_first_signal, start, stop
from movierec_platform.local.stack import Stack
from movierec_platform.local.tables import print_table
from movierec_platform.local.traffic import Event, Mix, Posted, post_traffic, stream_of
from movierec_platform.services.compact import stale_ranges
from movierec_platform.services.launch import RunResult, launch_and_wait, load_config, range_tags
from movierec_platform.services.verify import verify

SHARE_BAD, SHARE_DUPLICATE, SHARE_LATE = 0.03, 0.05, 0.05
FIRST_EVENTS = 50
"""Posted first, and waited for: they wake the sensors, which launch the drain runs."""
RATE = 200.0
"""Events a second."""
NEW_RATINGS = 8
TOP = 5
DRAIN_TIMEOUT_S = 120.0
POLL_S = 0.2


@dataclass(slots=True)
class Report:
    """The figures of the demo, and its checks: (claim, whether it holds, what was seen)."""

    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[tuple[str, bool, str]] = field(default_factory=list)

    def check(self, claim: str, holds: bool, seen: str) -> None:
        self.checks.append((claim, holds, seen))

    @property
    def failed(self) -> list[str]:
        return [claim for claim, holds, _ in self.checks if not holds]


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the durable counters and the quarantine say at one time."""

    counters: dict[CounterKey, float]
    quarantined: dict[str, int]

    def since(self, before: "_Ledger") -> "_Ledger":
        """What was added in between."""
        counters = {key: value - before.counters.get(key, 0.0) for key, value in self.counters.items()}
        quarantined = {code: n - before.quarantined.get(code, 0) for code, n in self.quarantined.items()}
        return _Ledger(counters, {code: n for code, n in quarantined.items() if n})

    def count(self, name: str) -> int:
        """The sum of the counter over its labels."""
        return int(sum(value for (key, _), value in self.counters.items() if key == name))


def run_demo(settings: Settings, console: Console, user_id: int, events: int, keep: bool) -> None:
    """Shows the platform and checks what it claims; `$MOVIEREC_HOME/demo.json` has the figures.

    Raises CheckFailed when a claim does not hold.
    """
    began = time.monotonic()
    with on_first_signal(leave), Stack(settings) as stack:
        start(stack, console)
        report = Report({"seconds_to_ready": round(stack.seconds_to_ready, 1)})
        _Demo(stack, console, user_id, report).run(events)
        report.figures["seconds"] = round(time.monotonic() - began, 1)
        _conclude(report, stack, console)
        if keep:
            keep_running(stack, console)
        else:
            stop(stack, console)
    if report.failed:
        raise CheckFailed(f"the demo claims what does not hold: {'; '.join(report.failed)}")


class _Demo:
    """The steps, over one running stack."""

    def __init__(self, stack: Stack, console: Console, user_id: int, report: Report) -> None:
        self._stack = stack
        self._settings = stack.settings
        self._console = console
        self._user_id = user_id
        self._report = report
        self._state = State.open(self._settings)
        self._queues = Queues.open(self._settings)

    def run(self, events: int) -> None:
        self._step("Load MovieLens into the lake and the graph")
        self._batch("load_movielens", load_config(self._settings.archive))
        self._step("Learn the movie similarity and publish it")
        first_version = self._learn()
        before = self._recommend(f"Recommendations for user {self._user_id} before")

        self._step(f"Post {events:,} events, {SHARE_BAD:.0%} bad and {SHARE_DUPLICATE:.0%} sent twice")
        ratings = self._new_ratings(before)
        posted, ledger = self._post(events, ratings)
        self._check_ledger(posted, ledger)
        self._check_visible(ratings)
        after = self._recommend(f"Recommendations for user {self._user_id} after those ratings")
        self._compare(before, after, ratings)

        self._step("Learn again, with what was posted")
        second_version = self._learn()
        self._report.check(
            "a new similarity is published and served", second_version != first_version, f"version {second_version}"
        )
        self._recommend(f"Recommendations for user {self._user_id} the next day")

        self._step("Prove that graph and lake agree")
        self._check_parity()
        memory = sum(self._stack.memory_bytes().values())
        self._report.figures["memory_gb"] = round(memory / 1e9, 2)
        self._state.close()

    def _step(self, what: str) -> None:
        self._stack.check()
        self._console.print(f"\n[bold]{what}[/bold]")

    def _batch(self, job_name: str, run_config: dict[str, Any], tags: Mapping[str, str] | None = None) -> RunResult:
        """Runs a batch job in Dagster; a run that fails ends the demo."""
        with run_progress(self._console) as on_progress:
            result = launch_and_wait(self._settings, job_name, run_config, on_progress, tags=tags)
        rows = ", ".join(f"{asset} {count:,}" for asset, count in result.rows.items())
        self._console.print(f"  Dagster run {result.run_id[:8]}: {result.seconds:.1f} s; rows: {rows}")
        seconds = self._report.figures.setdefault("job_seconds", {}).setdefault(job_name, [])
        seconds.append(round(result.seconds, 1))
        self._report.figures.setdefault("rows", {}).update(result.rows)
        self._report.check(f"{job_name} succeeds in Dagster", True, f"run {result.run_id[:8]}")
        return result

    def _learn(self) -> str:
        """Runs the nightly job on all that was posted; the published version, once the API serves it."""
        for first, last in stale_ranges(self._settings, datetime.now(timezone.utc).date()):
            self._batch("compaction", {}, range_tags(first, last))
        version: str = self._batch("nightly", {}).metadata["similarity_graph"]["version"]
        wait_until_served(self._settings.api_url, version, self._stack.check, credentials(self._settings))
        return version

    def _recommend(self, title: str) -> list[dict[str, Any]]:
        """The user's 100 best, of which the first are printed."""
        answer = get_recommendations(self._settings.api_url, self._user_id, {"n": 100}, credentials(self._settings))
        self._console.print(f"\n{title} ({answer['strategy']}):", highlight=False)
        for item in answer["items"][:TOP]:
            line = f"  {item['rank']}. {item['title']} (Coincidencias: {item['coincidencias']})"
            self._console.print(line, markup=False)
        return list(answer["items"])

    def _new_ratings(self, recommended: list[dict[str, Any]]) -> list[Event]:
        """Five stars for some unseen movies of the genre that is common among the hundred best but not in the top."""
        top = {genre for item in recommended[:TOP] for genre in item["genres"]}
        below = recommended[TOP:]
        genres = Counter(genre for item in below for genre in item["genres"] if genre not in top)
        genre = genres.most_common(1)[0][0] if genres else below[0]["genres"][0]
        chosen = [item for item in below if genre in item["genres"]][:NEW_RATINGS]
        self._console.print(f"  user {self._user_id} gives {len(chosen)} {genre} movies five stars")
        self._report.figures["new_ratings"] = {"genre": genre, "movies": [item["title"] for item in chosen]}
        now_ms = time.time_ns() // 1_000_000
        return [
            {
                "event_id": f"demo-{now_ms}-{item['item_id']}",
                "user_id": self._user_id,
                "movie_id": item["item_id"],
                "rating": 5.0,
                "timestamp": now_ms,
            }
            for item in chosen
        ]

    def _post(self, events: int, ratings: list[Event]) -> tuple[Posted, _Ledger]:
        """What was posted, and what the ledger added once gate, ingest and quarantine were through."""
        mix = Mix(bad=SHARE_BAD, duplicate=SHARE_DUPLICATE, late=SHARE_LATE, seed=time.time_ns() // 1_000_000_000)
        traffic = stream_of(self._settings, mix, without_user=self._user_id)
        stream = chain(islice(traffic, FIRST_EVENTS), _among(traffic, ratings))
        start_ledger = self._ledger()
        began = time.monotonic()
        first = post_traffic(self._settings.api_url, stream, FIRST_EVENTS, RATE, headers=credentials(self._settings))
        self._wait_until_through(start_ledger, first.events)
        first_s = time.monotonic() - began
        self._console.print(f"  the sensors launched gate and ingest; the first events took {first_s:.1f} s")

        warm_ledger = self._ledger()
        with progress(self._console, "  posting", events - FIRST_EVENTS) as advance:
            posted = post_traffic(
                self._settings.api_url,
                stream,
                events - FIRST_EVENTS,
                RATE,
                lambda so_far: advance(so_far.events),
                headers=credentials(self._settings),
            )
        self._wait_until_through(start_ledger, first.events + posted.events)
        end_ledger = self._ledger()
        total = first.plus(posted)
        self._report.figures["posted"] = total.as_json()
        self._freshness(end_ledger.since(warm_ledger), first_s)
        self._check_launched()
        return total, end_ledger.since(start_ledger)

    def _freshness(self, ledger: _Ledger, first_s: float) -> None:
        """Received to committed, once the drains run."""
        buckets = bucket_counts(ledger.counters)
        p50, p95 = (quantile(buckets, q) for q in (0.5, 0.95))
        self._report.figures["freshness"] = {"first_events_s": round(first_s, 1), "p50_s": p50, "p95_s": p95}
        self._console.print(f"  POST to visible in the graph: p50 {_ms(p50)}, p95 {_ms(p95)}")

    def _check_launched(self) -> None:
        answer = graphql(self._settings.dagster_url, _DRAIN_RUNS, {})
        jobs = Counter(run["jobName"] for run in answer["runsOrError"]["results"] if "movierec/queue" in _tags(run))
        wanted = {"quality_gate", "graph_ingest", "quarantine"}
        self._report.check("the sensors launched the drain runs", wanted <= jobs.keys(), ", ".join(sorted(jobs)))

    def _check_ledger(self, posted: Posted, ledger: _Ledger) -> None:
        landed, accepted = ledger.count("movierec_events_landed_total"), ledger.count("movierec_events_accepted_total")
        refused, ingested = (
            ledger.count("movierec_events_rejected_total"),
            ledger.count("movierec_events_ingested_total"),
        )
        table = Table("reason", "posted", "in quarantine", title="quarantine")
        for code in sorted(posted.bad.keys() | ledger.quarantined.keys()):
            table.add_row(code, str(posted.bad[code]), str(ledger.quarantined.get(code, 0)))
        print_table(self._console, table)
        self._report.figures["quarantine"] = ledger.quarantined
        self._report.figures["ledger"] = {
            "landed": landed,
            "accepted_by_gate": accepted,
            "ingested": ingested,
            "rejected": refused,
        }
        self._report.check(
            "every bad event is in quarantine for its reason",
            ledger.quarantined == dict(posted.bad),
            f"{sum(ledger.quarantined.values())} events",
        )
        self._report.check(
            "posted = landed = in the graph + in quarantine",
            posted.events == landed == ingested + refused,
            f"{posted.events} = {landed} = {ingested} + {refused}",
        )

    def _check_visible(self, ratings: list[Event]) -> None:
        with Graph.open(self._settings) as graph:
            seen = {watched.movie_id: watched.rating for watched in graph.history(self._user_id)}
        visible = sum(seen.get(rating["movie_id"]) == rating["rating"] for rating in ratings)
        claim = f"user {self._user_id}'s new ratings are in the graph"
        self._report.check(claim, visible == len(ratings) > 0, f"{visible} of {len(ratings)}")

    def _compare(self, before: list[dict[str, Any]], after: list[dict[str, Any]], ratings: list[Event]) -> None:
        rated = {rating["movie_id"] for rating in ratings}
        old_rank = {item["item_id"]: item["rank"] for item in before}
        moves = Table("rank", Column("movie", overflow="fold"), "before", title="what changed")
        for item in after[:TOP]:
            old = old_rank.get(item["item_id"])
            moves.add_row(str(item["rank"]), item["title"], "new" if old is None else f"was {old}")
        print_table(self._console, moves)
        changed = [item["item_id"] for item in before[:TOP]] != [item["item_id"] for item in after[:TOP]]
        self._report.check("the top changes with the new ratings", changed, f"{TOP} movies compared")
        seen_again = rated & {item["item_id"] for item in after}
        self._report.check(
            "what was just rated is not recommended", not seen_again, f"{len(seen_again)} of {len(rated)}"
        )

    def _check_parity(self) -> None:
        began = time.monotonic()
        parity = verify(self._settings)
        seen = f"{parity.graph_pairs:,} pairs in {time.monotonic() - began:.1f} s, {parity.differing_pairs} differ"
        self._console.print(f"  {seen}")
        self._report.figures["parity"] = {"pairs": parity.graph_pairs, "differing_pairs": parity.differing_pairs}
        self._report.check("graph equals lake", parity.equal, seen)

    def _ledger(self) -> _Ledger:
        return _Ledger(self._state.counters(), self._state.quarantine.by_reason())

    def _wait_until_through(self, before: _Ledger, events: int) -> None:
        """Returns when the counters have all of these events and the queues are empty."""

        def through() -> bool:
            added = self._ledger().since(before)
            done = added.count("movierec_events_ingested_total") + sum(added.quarantined.values())
            return done >= events and not any(self._queues.named(name).depth().total for name in QUEUE_NAMES)

        self._wait("gate and ingest", DRAIN_TIMEOUT_S, through)

    def _wait(self, what: str, timeout_s: float, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_s
        with self._console.status(f"waiting for {what} ..."):
            while not is_done():
                self._stack.check()
                if time.monotonic() > deadline:
                    raise CheckFailed(f"waited {timeout_s:.0f} s for {what} in vain; see {self._settings.home}/logs")
                time.sleep(POLL_S)


_DRAIN_RUNS = "{ runsOrError(limit: 50) { ... on Runs { results { jobName tags { key } } } } }"


def _tags(run: dict[str, Any]) -> set[str]:
    return {tag["key"] for tag in run["tags"]}


def _among(traffic: Iterator[tuple[str, Event]], ratings: list[Event]) -> Iterator[tuple[str, Event]]:
    """The traffic with the ratings among it, one after every ten events."""
    for rating in ratings:
        yield from islice(traffic, 10)
        yield "good", rating
    yield from traffic


def _conclude(report: Report, stack: Stack, console: Console) -> None:
    """Prints the closing table and writes demo.json."""
    claim, seen = Column("claim", overflow="fold"), Column("seen", overflow="fold")
    table = Table(claim, "holds", seen, title=f"demo in {report.figures['seconds']} s")
    for name, holds, found in report.checks:
        table.add_row(name, "[green]yes[/green]" if holds else "[red]NO[/red]", found)
    console.print()
    print_table(console, table)
    checks = [{"claim": claim, "holds": holds, "seen": seen} for claim, holds, seen in report.checks]
    path = stack.settings.home / "demo.json"
    path.write_text(json.dumps({**report.figures, "checks": checks}, indent=2, ensure_ascii=False) + "\n")
    console.print(f"figures: {path}", markup=False)


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1000:.0f} ms"
