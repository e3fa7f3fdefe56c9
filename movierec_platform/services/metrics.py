"""What Prometheus reads of the whole platform at a scrape; `exposition` has the names and what they mean."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from movierec_platform.adapters.disk import MIB, free_bytes
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.adapters.lake import Lake, Size
from movierec_platform.adapters.leases import open_lease, slots_of
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import QUEUE_NAMES, Depth, QueueName, Queues
from movierec_platform.adapters.state import Drift, State
from movierec_platform.config import Settings
from movierec_platform.domain import freshness
from movierec_platform.domain.drains import LeaseView
from movierec_platform.domain.freshness import CounterKey
from movierec_platform.domain.gate import REASON_CODES
from movierec_platform.errors import MovierecError
from movierec_platform.services.exposition import DURABLE, LABEL_VALUES, METRICS
from movierec_platform.services.maintain import KEPT, REWRITTEN
from movierec_platform.services.note import COMPACTED, NIGHTLY
from movierec_platform.services.questioner import Kept, Questioner
from movierec_platform.services.versions import Evaluated, evaluations

POPULARITY, PUBLISHED = "popularity", "published, learned"
"""Models of an evaluation, as `judge` names them."""

Sample = tuple[tuple[str, ...], float]
"""(values of the labels, value)"""


class PlatformCollector(Collector):
    """What the durable counters, the queues, the graph, the lake and the leases tell, read at each scrape.

    A part that is down yields `movierec_part_up` 0 and none of its figures; the scrape succeeds.
    """

    def __init__(self, settings: Settings, graph: Graph, state: Callable[[], State]) -> None:
        """`state` opens the state database, or has it; it is called at each scrape."""
        queues, objects, lake = Queues.open(settings), open_objects(settings), Lake(settings)
        leases = {
            (name, str(slot)): open_lease(settings, name, slot)
            for name in QUEUE_NAMES
            for slot in range(slots_of(settings, name))
        }
        self._questioner = Questioner(
            {
                "state": lambda: state_figures(state()),
                "queues": lambda: {name: queues.named(name).depth() for name in QUEUE_NAMES},
                "graph": graph.publication,
                "objects": objects.ping,
                "lake": Kept(lambda: lake_figures(lake)),
                "leases": lambda: {slot: lease.view() for slot, lease in leases.items()},
            }
        )
        self._home, self._kept_free_bytes = settings.home, settings.min_free_mib * MIB
        self._empty_at_s = dict.fromkeys(QUEUE_NAMES, time.time())

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks nobody, and the figures are only known at a scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        answers = self._questioner.ask()
        ups = [((part,), float(not isinstance(answer, MovierecError))) for part, answer in answers.items()]
        yield _gauge("movierec_part_up", ups)
        yield _gauge("movierec_home_free_bytes", [((), free_bytes(self._home))])
        yield _gauge("movierec_home_kept_free_bytes", [((), self._kept_free_bytes)])
        publication: Publication | None = None
        if isinstance(answers["graph"], Publication):
            publication = answers["graph"]
            yield from _publication(publication, time.time())
        if isinstance(answers["queues"], dict):
            yield _depths(answers["queues"])
        if isinstance(answers["state"], StateFigures):
            yield from _state(answers["state"])
        if isinstance(answers["leases"], dict):
            yield from _leases(answers["leases"])
        if isinstance(answers["lake"], LakeFigures):
            yield from _tables(answers["lake"].sizes)
            yield from _quality(answers["lake"].evaluations, publication)
        if isinstance(answers["queues"], dict) and isinstance(answers["state"], StateFigures):
            yield self._lags(answers["queues"], answers["state"].worked_until_ms)

    def close(self) -> None:
        """Nobody is asked any more."""
        self._questioner.close()

    def _lags(self, depths: Mapping[QueueName, Depth], worked_until_ms: Mapping[QueueName, int | None]) -> Metric:
        """SQS does not tell a message's age but to its receiver: so at most since the queue was last seen empty, and
        since the latest event that was taken out of it was received."""
        now_s = time.time()
        ages = []
        for name, depth in depths.items():
            if not depth.total:
                self._empty_at_s[name] = now_s
            since_s = max(self._empty_at_s[name], (worked_until_ms.get(name) or 0) / 1000)
            ages.append(((name,), max(now_s - since_s, 0.0)))
        return _gauge("movierec_queue_oldest_event_age_seconds", ages)


@dataclass(frozen=True, slots=True)
class StateFigures:
    """What the state database tells. Times are epoch ms."""

    counters: Mapping[CounterKey, float]
    held: Mapping[str, int]
    worked_until_ms: Mapping[QueueName, int | None]
    drift: Drift | None
    set_aside: int | None
    compacted_at_ms: int | None
    nightly_at_ms: int | None


def state_figures(state: State) -> StateFigures:
    """All of it that is shown."""
    stages: dict[QueueName, str] = {"raw": "gate", "clean": "graph"}
    return StateFigures(
        counters=state.counters(),
        held=state.quarantine.by_reason(),
        worked_until_ms={queue: state.worked_until_ms(stage) for queue, stage in stages.items()},
        drift=state.drift(),
        set_aside=state.set_aside(),
        compacted_at_ms=state.marked(COMPACTED),
        nightly_at_ms=state.marked(NIGHTLY),
    )


@dataclass(frozen=True, slots=True)
class LakeFigures:
    """What the lake tells without its rows: the size of each table that there is, and how the versions were judged."""

    sizes: Mapping[str, Size]
    evaluations: Sequence[Evaluated]
    """The newest version last."""


def lake_figures(lake: Lake) -> LakeFigures:
    """All of it that is shown."""
    sizes = {table: lake.size(table) for table in sorted({*REWRITTEN, *KEPT})}
    return LakeFigures({table: size for table, size in sizes.items() if size is not None}, evaluations(lake))


def quality(judged: Sequence[Evaluated], published: str) -> dict[str, float]:
    """NDCG@10 by model: `when_published`, and `published` and `popularity` in the latest test of that version.

    Every night the published version is tested beside the newest, on ratings that it did not know.
    """
    found: dict[str, float] = {}
    for one in sorted(judged, key=lambda one: one.evaluated_at_ms):
        own = one.version == published
        ndcg = one.ndcg if own else _ndcg(one, PUBLISHED) if one.published == published else None
        popularity = _ndcg(one, POPULARITY)
        if ndcg is not None and popularity is not None:
            found |= {"published": ndcg, "popularity": popularity}
            if own:
                found["when_published"] = ndcg
    return found


def _ndcg(evaluated: Evaluated, model: str) -> float | None:
    value: float | None = evaluated.models.get(model, {}).get("ndcg", {}).get("value")
    return value


def _state(figures: StateFigures) -> Iterable[Metric]:
    yield from _counters(figures.counters)
    for name in freshness.DURATIONS:
        yield _duration(name, figures.counters)
    held = [((code,), float(figures.held.get(code, 0))) for code in sorted(REASON_CODES)]
    yield _gauge("movierec_quarantine_held_events", held)
    for name, at_ms in (("compaction", figures.compacted_at_ms), ("nightly", figures.nightly_at_ms)):
        yield _gauge(f"movierec_{name}_timestamp_seconds", [((), (at_ms or 0) / 1000)])
    yield _gauge("movierec_raw_objects_set_aside", [((), float(figures.set_aside or 0))])
    if figures.drift:
        yield _gauge("movierec_parity_drift_pairs", [((), figures.drift.pairs)])
        yield _gauge("movierec_parity_checked_timestamp_seconds", [((), figures.drift.compared_at_ms / 1000)])


def _publication(publication: Publication, now_s: float) -> Iterable[Metric]:
    yield _gauge("movierec_similarity_info", [((publication.version,), 1.0)])
    age_s = now_s - publication.published_at_ms / 1000
    yield _gauge("movierec_published_similarity_age_seconds", [((), age_s)])


def _depths(depths: Mapping[QueueName, Depth]) -> Metric:
    states = LABEL_VALUES["state"]
    samples = [((name, state), getattr(depth, state)) for name, depth in depths.items() for state in states]
    return _gauge("movierec_queue_messages", samples)


def _leases(views: Mapping[tuple[str, str], LeaseView]) -> Iterable[Metric]:
    held = [(slot, float(view.holder is not None)) for slot, view in views.items()]
    yield _gauge("movierec_drain_lease_held", held)
    worked = [(slot, view.last_work_s or 0.0) for slot, view in views.items()]
    yield _gauge("movierec_drain_work_timestamp_seconds", worked)


def _tables(sizes: Mapping[str, Size]) -> Iterable[Metric]:
    for what in ("rows", "bytes", "partitions"):
        yield _gauge(f"movierec_lake_{what}", [((table,), float(getattr(size, what))) for table, size in sizes.items()])


def _quality(judged: Sequence[Evaluated], publication: Publication | None) -> Iterable[Metric]:
    meant = {"newest": judged[-1].version} if judged else {}
    if publication is not None:
        meant["published"] = publication.version
        scores = quality(judged, publication.version)
        yield _gauge("movierec_similarity_ndcg", [((model,), score) for model, score in scores.items()])
    passed = {one.version: float(one.passed) for one in judged}
    known = [((model,), passed[version]) for model, version in meant.items() if version in passed]
    yield _gauge("movierec_similarity_passed", known)


def _gauge(name: str, samples: Iterable[Sample]) -> Metric:
    metric = GaugeMetricFamily(name, METRICS[name].meaning, labels=METRICS[name].labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _duration(name: str, counters: Mapping[CounterKey, float]) -> Metric:
    """The histogram whose buckets are stored apart: Prometheus wants each to count all those below it too."""
    buckets, below = [], 0.0
    for bound, count in freshness.bucket_counts(counters, name):
        below += count
        buckets.append(("+Inf" if bound == inf else f"{bound:g}", below))
    total = counters.get((f"{name}_sum", ()), 0.0)
    return HistogramMetricFamily(name, METRICS[name].meaning, buckets=buckets, sum_value=total)


def _counters(counters: Mapping[CounterKey, float]) -> Iterable[Metric]:
    """The durable counters, also those that nobody has counted yet: Prometheus sees no increase in a first value."""
    for name, exposed in DURABLE.items():
        if exposed.kind != "counter":
            continue
        values: dict[tuple[str, ...], float] = dict.fromkeys(
            product(*(LABEL_VALUES[label] for label in exposed.labels)), 0.0
        )
        for (counted, labels), value in counters.items():
            if counted == name:
                values[tuple(dict(labels).get(label, "") for label in exposed.labels)] = value
        family = CounterMetricFamily(name, exposed.meaning, labels=exposed.labels)
        for label_values, value in values.items():
            family.add_metric(label_values, value)
        yield family
