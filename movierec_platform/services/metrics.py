"""What Prometheus reads of the whole platform, and which of its parts answer."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from math import inf
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from movierec_platform.adapters.graph import Graph, Publication
from movierec_platform.adapters.objects import ObjectStore
from movierec_platform.adapters.queues import QUEUE_NAMES, Depth, QueueName, Queues
from movierec_platform.adapters.state import Drift, State
from movierec_platform.domain import freshness
from movierec_platform.domain.freshness import CounterKey
from movierec_platform.domain.gate import REASON_CODES
from movierec_platform.errors import MovierecError, Transient

ASK_TIMEOUT_S = 5.0
"""Half of Prometheus's default scrape timeout."""

Asked = Mapping[str, Callable[[], Any]]


class Questioner:
    """Asks the parts of the platform side by side; one that hangs costs `timeout_s`, never the others' answers."""

    def __init__(self, parts: Asked, timeout_s: float = ASK_TIMEOUT_S) -> None:
        self.parts = parts
        self._timeout_s = timeout_s
        # A thread for each: with a shared pool, questions that hang would in time take all of its threads.
        self._askers = {name: ThreadPoolExecutor(1, thread_name_prefix=f"ask-{name}") for name in parts}

    def ask(self) -> dict[str, Any]:
        """Each part's answer, or the MovierecError that it raised; Transient when it took too long."""
        asked = {name: self._askers[name].submit(_answer, question) for name, question in self.parts.items()}
        _, late = wait(asked.values(), timeout=self._timeout_s)
        for future in late:
            future.cancel()
        too_slow = Transient(f"no answer within {self._timeout_s:g} s")
        return {name: too_slow if future in late else future.result() for name, future in asked.items()}

    def close(self) -> None:
        """No more questions; one in flight is not waited for."""
        for asker in self._askers.values():
            asker.shutdown(wait=False, cancel_futures=True)


class PlatformCollector(Collector):
    """Durable counters, what is in quarantine, queue depths and the published version's age, read at each scrape.

    A part that is down yields `movierec_<part>_up 0` and none of its figures; the scrape succeeds.
    """

    def __init__(self, state: Callable[[], State], queues: Queues, graph: Graph, objects: ObjectStore) -> None:
        self._questioner = Questioner(
            {
                "state": lambda: state_figures(state()),
                "queues": lambda: {name: queues.named(name).depth() for name in QUEUE_NAMES},
                "graph": graph.publication,
                "objects": objects.ping,
            }
        )
        self._empty_at_s = dict.fromkeys(QUEUE_NAMES, time.time())

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks nobody, and the figures are only known at a scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        answers = self._questioner.ask()
        for part, answer in answers.items():
            yield _gauge(
                f"movierec_{part}_up", f"1 when the {part} answer", float(not isinstance(answer, MovierecError))
            )
        if isinstance(answers["graph"], Publication):
            yield _age(answers["graph"], time.time())
        if isinstance(answers["queues"], dict):
            yield _depths(answers["queues"])
        if isinstance(answers["state"], StateFigures):
            yield from _counters(answers["state"].counters)
            yield _freshness(answers["state"].counters)
            yield _held(answers["state"].held)
            if answers["state"].drift:
                yield from _drift(answers["state"].drift)
        if isinstance(answers["queues"], dict) and isinstance(answers["state"], StateFigures):
            yield self._lags(answers["queues"], answers["state"].worked_until_ms)

    def _lags(self, depths: Mapping[QueueName, Depth], worked_until_ms: Mapping[QueueName, int | None]) -> Metric:
        """SQS does not tell a message's age but to its receiver: so at most since the queue was last seen empty, and
        since the latest event that was taken out of it was received."""
        meaning = "since the oldest event that waits in the queue was received, at most; 0 when none waits"
        metric = GaugeMetricFamily("movierec_queue_oldest_event_age_seconds", meaning, labels=["queue"])
        now_s = time.time()
        for name, depth in depths.items():
            if not depth.total:
                self._empty_at_s[name] = now_s
            since_s = max(self._empty_at_s[name], (worked_until_ms.get(name) or 0) / 1000)
            metric.add_metric([name], max(now_s - since_s, 0.0))
        return metric


@dataclass(frozen=True, slots=True)
class StateFigures:
    """What the state database tells."""

    counters: Mapping[CounterKey, float]
    held: Mapping[str, int]
    worked_until_ms: Mapping[QueueName, int | None]
    drift: Drift | None


def state_figures(state: State) -> StateFigures:
    """All of it that is shown."""
    stages: dict[QueueName, str] = {"raw": "gate", "clean": "graph"}
    worked_until_ms = {queue: state.worked_until_ms(stage) for queue, stage in stages.items()}
    return StateFigures(state.counters(), state.quarantine.by_reason(), worked_until_ms, state.drift())


def _answer(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except MovierecError as error:
        return error


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _age(publication: Publication, now_s: float) -> Metric:
    age_s = now_s - publication.published_at_ms / 1000
    return _gauge("movierec_published_similarity_age_seconds", "since the similarity in use was published", age_s)


def _depths(depths: Mapping[QueueName, Depth]) -> Metric:
    metric = GaugeMetricFamily("movierec_queue_messages", "messages in an SQS queue, about", labels=["queue", "state"])
    for name, depth in depths.items():
        for state in ("visible", "in_flight", "delayed"):
            metric.add_metric([name, state], getattr(depth, state))
    return metric


def _held(by_reason: Mapping[str, int]) -> Metric:
    metric = GaugeMetricFamily(
        "movierec_quarantine_held_events", "refused events that are held, for people to look at", labels=["reason"]
    )
    for code in sorted(REASON_CODES):
        metric.add_metric([code], by_reason.get(code, 0))
    return metric


def _drift(drift: Drift) -> Iterable[Metric]:
    """How far the speed layer's graph was from the batch layer's lake."""
    differ = "pairs that differed between graph and lake when they were last compared"
    yield _gauge("movierec_parity_drift_pairs", differ, drift.pairs)
    when = "when graph and lake were last compared, since the epoch"
    yield _gauge("movierec_parity_checked_timestamp_seconds", when, drift.compared_at_ms / 1000)


def _freshness(counters: Mapping[CounterKey, float]) -> Metric:
    """The histogram whose buckets are stored apart: Prometheus wants each to count all those below it too."""
    buckets, below = [], 0.0
    for bound, count in freshness.bucket_counts(counters):
        below += count
        buckets.append(("+Inf" if bound == inf else f"{bound:g}", below))
    meaning = "from receiving an event to committing it in the graph"
    total = counters.get((f"{freshness.NAME}_sum", ()), 0.0)
    return HistogramMetricFamily(freshness.NAME, meaning, buckets=buckets, sum_value=total)


def _counters(counters: Mapping[CounterKey, float]) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    for (name, labels), value in sorted(counters.items()):
        if name.startswith(freshness.NAME):
            continue
        family = families.setdefault(name, CounterMetricFamily(name, "counted durably: survives every restart"))
        family.add_sample(f"{family.name}_total", dict(labels), value)
    return families.values()
