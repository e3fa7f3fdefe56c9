"""The whole platform at a fixed rate: from POST to visible in the graph, what it costs, and what gives way first.

A stack in a temporary home with MovieLens loaded takes lifelike traffic (3 % bad, 5 % sent twice, 2 % late) from a
client process. Freshness is read twice: from the platform's own histogram, and by a prober that posts one rating and
looks at the graph until it is there. In the end the ledger has to add up: acknowledged = landed = ingested + refused.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import orjson
import psutil
import requests

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.queues import QUEUE_NAMES, QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, load_settings
from movierec_platform.domain.freshness import CounterKey, bucket_counts, quantile
from movierec_platform.local.processes import family
from movierec_platform.local.stack import Stack
from movierec_platform.local.traffic import Mix, post_events, post_traffic, stream_of
from movierec_platform.services.launch import launch_and_wait, load_config
from movierec_tests.benchmarks.measure import cpu_seconds, in_ms, latency_ms, print_result
from movierec_tests.benchmarks.poster import PostingReport, post_in_own_process

MIX = Mix(bad=0.03, duplicate=0.05, late=0.02, seed=20240501)
TARGET_P95_S = 1.0
LIMIT_RATES = (500, 1000, 1500, 2000, 3000, 4000, 6000)
LIMIT_SECONDS = 20
ACHIEVED_SHARE = 0.95
"""Of the rate asked for; below it the API does not keep up."""
WARM_EVENTS, WARM_RATE = 500, 100.0
SAMPLE_S = 1.0
ROW_S = 5.0
PROBE_EVERY_S = 0.5
PROBE_POLL_S = 0.005
PROBE_TIMEOUT_S = 30.0
PROBES_AT_ONCE = 64
PROBE_USER = 2_000_000_000
"""The first of the prober's users; each probe has a new one, so that its history has one movie."""
DRAIN_TIMEOUT_S = 300.0
DRAIN_RUNS: dict[QueueName, str] = {"raw": "gate run", "clean": "ingest run", "dlq": "quarantine run"}

Counters = dict[CounterKey, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time (monotonic s)."""

    at_s: float
    depths: dict[QueueName, int]
    counters: Counters
    cpu_s: dict[str, float]
    memory_bytes: dict[str, int]
    machine_busy: float
    """Share of all cores that was busy since the sample before, with whatever else runs on this machine."""


@dataclass
class Window:
    """One stretch of load, as seen from all sides."""

    rate: float
    posting: PostingReport
    samples: list[Sample]
    probes_s: list[float]
    probes_posted: int
    freshness: list[tuple[float, float]]
    """Buckets of the platform's histogram, of all that was posted in this window."""

    def freshness_s(self, q: float) -> float | None:
        return quantile(self.freshness, q)

    def achieved_per_s(self) -> float:
        """Events acknowledged a second."""
        return sum(answer.accepted for answer in self.posting.acknowledged()) / self.posting.seconds

    def keeps_up(self) -> bool:
        p95 = self.freshness_s(0.95)
        return self.achieved_per_s() >= ACHIEVED_SHARE * self.rate and p95 is not None and p95 < TARGET_P95_S

    def under_load(self) -> list[Sample]:
        """The samples until the last answer; after it the stack drains."""
        return [one for one in self.samples if one.at_s <= self.posting.began_s + self.posting.seconds]

    def cpu_share(self) -> dict[str, float]:
        """Cores used by each part on average under load, the greatest first."""
        first, *_, last = self.under_load()
        seconds = last.at_s - first.at_s
        shares = {part: (last.cpu_s[part] - first.cpu_s[part]) / seconds for part in first.cpu_s}
        shares["load client"] = self.posting.cpu_s / self.posting.seconds
        return {part: round(share, 3) for part, share in sorted(shares.items(), key=lambda one: -one[1])}

    def stage_s(self) -> dict[str, float]:
        """Mean seconds an event spends before each stage is done with it: mean backlog / rate (Little's law)."""
        backlog = [_backlog(sample.counters, self.samples[0].counters) for sample in self.under_load()[1:]]
        rate = self.achieved_per_s()
        return {stage: round(statistics.fmean(one[stage] for one in backlog) / rate, 3) for stage in ("gate", "ingest")}

    def bottleneck(self) -> str:
        """What gives way first, named by its signs: a queue that grows, or the API that does not keep up."""
        if self.achieved_per_s() < ACHIEVED_SHARE * self.rate:
            return "api: it acknowledges less than was posted"
        stage, waits = max(self.stage_s().items(), key=lambda one: one[1])
        part, cores = next(iter(self.cpu_share().items()))
        return (
            f"events wait longest for {stage} ({waits} s); {part} uses most ({cores} cores); "
            f"all of this {sum(self.cpu_share().values()):.2f} cores, other programs {self.others_cores():.2f}"
        )

    def others_cores(self) -> float:
        """Cores that programs of other people used: much of it, and the window says little about the platform."""
        busy = statistics.fmean(sample.machine_busy for sample in self.under_load()[1:])
        return round(max(0.0, busy * (os.cpu_count() or 1) - sum(self.cpu_share().values())), 2)


class Watch:
    """Samples the stack every second, in a thread, from entering to leaving."""

    def __init__(self, stack: Stack, state: State, queues: Queues) -> None:
        self._state, self._queues = state, queues
        self._parts = _parts(stack)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.samples: list[Sample] = []

    def __enter__(self) -> "Watch":
        psutil.cpu_percent()
        self.samples.append(self._sample())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.samples.append(self._sample())

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.samples.append(self._sample())

    def _sample(self) -> Sample:
        memory = {part: sum(_rss(one) for one in processes) for part, processes in self._parts.items()}
        return Sample(
            at_s=time.monotonic(),
            depths={name: self._queues.named(name).depth().total for name in QUEUE_NAMES},
            counters=self._state.counters(),
            cpu_s={part: cpu_seconds(processes) for part, processes in self._parts.items()},
            memory_bytes=memory,
            machine_busy=psutil.cpu_percent() / 100,
        )


class Prober:
    """Posts one rating of a new user every half second, and looks at the graph until each is there."""

    def __init__(self, settings: Settings, movie_id: int, first_user: int) -> None:
        self._api_url, self._movie_id = settings.api_url, movie_id
        self._users = count(first_user)
        self._graph = Graph.open(settings)
        self._pool = ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe")
        self._probes: list[Future[float | None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober")

    @property
    def visible_s(self) -> list[float]:
        """Of each probe that was found, seconds from before its POST."""
        return [seconds for probe in self._probes if (seconds := probe.result()) is not None]

    @property
    def posted(self) -> int:
        return len(self._probes)

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()
        self._graph.close()

    def _run(self) -> None:
        while not self._stop.wait(PROBE_EVERY_S):
            self._probes.append(self._pool.submit(self._probe, next(self._users)))

    def _probe(self, user_id: int) -> float | None:
        """Seconds until the graph shows the rating, at most 2 % too much; None when it takes more than 30."""
        event = {"event_id": f"probe-{user_id}", "user_id": user_id, "movie_id": self._movie_id, "rating": 4.0}
        began_s = time.monotonic()
        with requests.Session() as session:
            post_events(session, self._api_url, [event])
        while not self._graph.history(user_id):
            if (waited_s := time.monotonic() - began_s) > PROBE_TIMEOUT_S:
                return None
            time.sleep(max(PROBE_POLL_S, waited_s / 50))
        return time.monotonic() - began_s


@dataclass
class Bench:
    """A running stack with MovieLens loaded and its drains at work."""

    stack: Stack
    state: State
    queues: Queues
    traffic: Iterator[tuple[str, dict[str, Any]]]
    movie_id: int
    start: Counters = field(default_factory=dict)
    posted: int = 0
    """Events that were acknowledged, ever."""
    bad: Counter[str] = field(default_factory=Counter)
    """Those of them that have to end in quarantine, by reason."""
    probe_user: int = PROBE_USER

    def load(self, rate: float, seconds: float, batch: int, connections: int) -> Window:
        """The stack under this load, and drained afterwards."""
        total = round(rate * seconds / batch)
        batches = [list(islice(self.traffic, batch)) for _ in range(total)]
        bodies = [orjson.dumps([event for _, event in one]) for one in batches]
        before = self.state.counters()
        prober = Prober(self.stack.settings, self.movie_id, self.probe_user)
        watch = Watch(self.stack, self.state, self.queues)
        with watch, prober:
            posting = post_in_own_process(self.stack.settings.api_url, bodies, rate / batch, connections)
        self.probe_user += prober.posted
        self.posted += prober.posted + sum(answer.accepted for answer in posting.acknowledged())
        self.wait_until_drained()
        return Window(
            rate,
            posting,
            watch.samples,
            prober.visible_s,
            prober.posted,
            bucket_counts(_since(self.state.counters(), before)),
        )

    def warm_up(self) -> float:
        """The drain runs are at work; seconds until the first events were through."""
        self.start = self.state.counters()
        began_s = time.monotonic()
        posted = post_traffic(self.stack.settings.api_url, self.traffic, WARM_EVENTS, WARM_RATE)
        self.posted += posted.accepted
        self.wait_until_drained()
        return time.monotonic() - began_s

    def wait_until_drained(self) -> None:
        """Returns when all that was acknowledged is in graph or quarantine, or after five minutes."""
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self.stack.check()
            if self.ledger()["adds_up"]:
                return
            time.sleep(0.5)

    def ledger(self) -> dict[str, Any]:
        """Since the start: what was acknowledged, and where it is."""
        counters = _since(self.state.counters(), self.start)
        landed = _count(counters, "movierec_events_landed_total")
        ingested = _count(counters, "movierec_events_ingested_total")
        quarantined = sum(self.state.quarantine.by_reason().values())
        depths = {name: self.queues.named(name).depth().total for name in QUEUE_NAMES}
        return {
            "acknowledged": self.posted,
            "landed": landed,
            "ingested": ingested,
            "quarantined": quarantined,
            "waiting_messages": sum(depths.values()),
            "adds_up": self.posted == landed == ingested + quarantined and not any(depths.values()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="sustained", description="The whole stack at a fixed rate.")
    parser.add_argument("--rate", type=float, default=1000, help="events a second (default 1000)")
    parser.add_argument("--seconds", type=float, default=120, help="how long (default 120)")
    parser.add_argument(
        "--batch", type=int, default=[10], nargs="+", help="events in a POST; several: one after another"
    )
    parser.add_argument("--connections", type=int, default=8, help="of the client (default 8)")
    parser.add_argument("--find-limit", action="store_true", help="step the rate up until p95 is a second or more")
    options = parser.parse_args()
    with _bench() as bench:
        if options.find_limit:
            windows = _find_limit(bench, options.batch[0], options.connections)
        else:
            windows = [
                _measured(bench, options.rate, options.seconds, one, options.connections) for one in options.batch
            ]
        ledger = bench.ledger()
        print("ledger:", ", ".join(f"{name} {value}" for name, value in ledger.items()))
    results = [_figures(window) for window in windows]
    held = [result for result, window in zip(results, windows, strict=True) if window.keeps_up()]
    print_result(
        {
            "benchmark": "sustained",
            "windows": results,
            "highest_rate_held": max((result["rate"] for result in held), default=None),
            "target_p95_s": TARGET_P95_S,
            "meets_target": len(held) == len(results),
            "ledger": ledger,
        }
    )


def _find_limit(bench: Bench, batch: int, connections: int) -> list[Window]:
    """A window for each rate, the first that is not held the last."""
    windows: list[Window] = []
    for rate in LIMIT_RATES:
        windows.append(_measured(bench, rate, LIMIT_SECONDS, batch, connections))
        if not windows[-1].keeps_up():
            break
    return windows


def _measured(bench: Bench, rate: float, seconds: float, batch: int, connections: int) -> Window:
    print(f"\n{rate:g} events/s for {seconds:g} s, {batch} in a POST, {connections} connections")
    window = bench.load(rate, seconds, batch, connections)
    _print_rows(window)
    for name, value in _figures(window).items():
        print(f"  {name}: {value}")
    return window


def _figures(window: Window) -> dict[str, Any]:
    answers = window.posting.answers
    memory = {part: max(one.memory_bytes[part] for one in window.samples) for part in window.samples[0].memory_bytes}
    return {
        "rate": window.rate,
        "achieved_per_s": round(window.achieved_per_s(), 1),
        "freshness_ms": {f"p{q * 100:g}": in_ms(window.freshness_s(q)) for q in (0.5, 0.95, 0.99)},
        "probe_ms": latency_ms(window.probes_s),
        "probes_lost": window.probes_posted - len(window.probes_s),
        "ack_ms": latency_ms([one.latency_s for one in window.posting.acknowledged()]),
        "refused_503": sum(one.status == 503 for one in answers),
        "failed": sum(one.status not in (202, 503) for one in answers),
        "depth_max": {name: max(one.depths[name] for one in window.samples) for name in QUEUE_NAMES},
        "stage_s": window.stage_s(),
        "cores_used": window.cpu_share(),
        "cores_used_by_others": window.others_cores(),
        "cpu_ms_per_1000_events": {
            part: round(share * 1e6 / window.achieved_per_s(), 1) for part, share in window.cpu_share().items()
        },
        "peak_rss_mb": {part: round(one / 1e6) for part, one in memory.items()},
        "bottleneck": window.bottleneck(),
    }


def _print_rows(window: Window) -> None:
    """A line for every five seconds: latency, depth and processor over time."""
    names = [name for name in list(window.cpu_share())[:7] if name != "load client"]
    print("     s fresh p50  p95 ms 202 p95   raw clean   dlq  busy  cores used")
    rows: list[list[Sample]] = [[window.samples[0]]]
    for sample in window.samples[1:]:
        rows[-1].append(sample)
        if sample.at_s - rows[-1][0].at_s >= ROW_S:
            rows.append([sample])
    for row in rows:
        if len(row) > 1:
            _print_row(window, row, names)


def _print_row(window: Window, row: list[Sample], names: list[str]) -> None:
    first, last = row[0], row[-1]
    buckets = bucket_counts(_since(last.counters, first.counters))
    since_s, until_s = (one.at_s - window.posting.began_s for one in (first, last))
    acks = [one.latency_s for one in window.posting.acknowledged() if since_s <= one.due_s < until_s]
    depths = [max(one.depths[name] for one in row[1:]) for name in QUEUE_NAMES]
    busy = statistics.fmean(one.machine_busy for one in row[1:])
    cores = [(last.cpu_s[name] - first.cpu_s[name]) / (last.at_s - first.at_s) for name in names]
    shown = [in_ms(quantile(buckets, q)) for q in (0.5, 0.95)]
    print(
        f"  {until_s:4.0f} {shown[0] or '-':>9} {shown[1] or '-':>7} {latency_ms(acks)['p95'] or '-':>7}",
        *(f"{depth:5d}" for depth in depths),
        f"{busy:5.0%} ",
        *(f"{name} {core:.2f} " for name, core in zip(names, cores, strict=True)),
    )


@contextmanager
def _bench() -> Iterator[Bench]:
    """A stack in a temporary home, loaded and warm; nothing of it is left afterwards."""
    ports = {f"{name}_port": 0 for name in ("api", "metrics", "dagster", "bolt", "aws")}
    with (
        tempfile.TemporaryDirectory(prefix="movierec-sustained-") as folder,
        Stack(load_settings({"home": Path(folder) / "home", **ports})) as stack,
    ):
        settings = stack.start()
        print(f"stack ready in {stack.seconds_to_ready:.1f} s")
        loaded = launch_and_wait(settings, "load_movielens", load_config(settings.archive), lambda *_: None)
        print(f"MovieLens loaded in {loaded.seconds:.1f} s: {loaded.rows}")
        with Graph.open(settings) as graph:
            movie_id = graph.movie_popularity()[0][0]
        state = State.open(settings)
        bench = Bench(stack, state, Queues.open(settings), stream_of(settings, MIX), movie_id)
        try:
            print(f"first {WARM_EVENTS} events through after {bench.warm_up():.1f} s")
            yield bench
        finally:
            state.close()


def _parts(stack: Stack) -> dict[str, list[psutil.Process]]:
    """The processes of each part: every server with what it started, each drain run apart, and this process."""
    parts = {server.name: family(server.process.pid) for server in stack.servers}
    leases = {str(stack.settings.home / "leases" / f"{queue}-0"): part for queue, part in DRAIN_RUNS.items()}
    for process in list(parts["stream"]):
        with suppress(psutil.NoSuchProcess):
            for file in process.open_files():
                if file.path in leases:
                    parts.setdefault(leases[file.path], []).append(process)
                    parts["stream"] = [one for one in parts["stream"] if one != process]
    return {**parts, "this benchmark": [psutil.Process()]}


def _rss(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        rss: int = process.memory_info().rss
        return rss
    return 0


def _since(counters: Counters, before: Counters) -> Counters:
    return {key: value - before.get(key, 0.0) for key, value in counters.items()}


def _count(counters: Counters, name: str, keep: Callable[[str], bool] = lambda labels: True) -> int:
    """The sum of this counter over those of its labels' values that are kept."""
    return int(sum(n for (key, labels), n in counters.items() if key == name and keep(labels[0][1] if labels else "")))


def _backlog(counters: Counters, before: Counters) -> dict[str, int]:
    """Events that wait for each stage. `before` was taken when nothing waited."""
    added = _since(counters, before)
    accepted = _count(added, "movierec_events_accepted_total")
    refused_by_gate = _count(added, "movierec_events_rejected_total", lambda reason: reason != "unknown_movie")
    unknown = _count(added, "movierec_events_rejected_total", lambda reason: reason == "unknown_movie")
    return {
        "gate": _count(added, "movierec_events_landed_total") - accepted - refused_by_gate,
        "ingest": accepted - unknown - _count(added, "movierec_events_ingested_total"),
    }


if __name__ == "__main__":
    main()
