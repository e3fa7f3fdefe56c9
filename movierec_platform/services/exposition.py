"""Every metric of the platform: its type, its labels with all that they can be, and what it means.

The exporter, the API and the page of the documentation take it from here: nothing is shown that is not described.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from movierec_platform.adapters.queues import QUEUE_NAMES
from movierec_platform.domain.gate import REASON_CODES

ENDINGS = ("idle", "max_runtime", "failed", "canceled", "dead")
"""Of a drain run. `dead`: its worker was killed, and the sensor noticed."""
SERVERS = ("aws", "graph", "stream", "batch", "dagster", "daemon", "api", "metrics")
"""Of the local stack. Elsewhere, whoever keeps the servers running counts how often he starts them again."""
PARTS = ("state", "queues", "graph", "objects", "lake", "leases")

LABEL_VALUES: Mapping[str, tuple[str, ...]] = {
    "part": PARTS,
    "reason": tuple(sorted(REASON_CODES)),
    "queue": QUEUE_NAMES,
    "state": ("visible", "in_flight", "delayed"),
    "because": ENDINGS,
    "server": SERVERS,
}
"""What these labels can be; a counter with such labels alone is there from the first scrape on, at 0."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """A metric. A counter's name ends in `_total`, a histogram has the suffixes `_bucket`, `_sum` and `_count`."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()


def _counter(meaning: str, *labels: str) -> Exposed:
    return Exposed("counter", meaning, labels)


def _gauge(meaning: str, *labels: str) -> Exposed:
    return Exposed("gauge", meaning, labels)


def _histogram(meaning: str, *labels: str) -> Exposed:
    return Exposed("histogram", meaning, labels)


DURABLE: Mapping[str, Exposed] = {
    "movierec_events_landed_total": _counter("events that reached the gate: landed by the API, or by it"),
    "movierec_events_accepted_total": _counter("events that the gate passed on to the graph"),
    "movierec_events_rejected_total": _counter("events refused by the gate, or (unknown_movie) by the graph", "reason"),
    "movierec_events_ingested_total": _counter("events committed in the graph"),
    "movierec_events_quarantined_total": _counter("refused events that came into quarantine", "reason"),
    "movierec_events_redriven_total": _counter("events sent from the quarantine to the gate again", "reason"),
    "movierec_events_discarded_total": _counter("events in quarantine that somebody gave up", "reason"),
    "movierec_fields_ignored_total": _counter("fields of accepted events that no event has"),
    "movierec_drain_runs_started_total": _counter("drain runs that began", "queue"),
    "movierec_drain_runs_ended_total": _counter("drain runs that ended, and why", "queue", "because"),
    "movierec_server_restarts_total": _counter("times that the local stack started a server again", "server"),
    "movierec_freshness_seconds": _histogram("from receiving an event to committing it in the graph"),
    "movierec_gate_seconds": _histogram("from receiving an event to its verdict being in a queue"),
    "movierec_compaction_seconds": _histogram("what a compaction run took, of one day or more"),
}
"""Counted in the state database by whoever does the work: they survive every restart."""

OBSERVED: Mapping[str, Exposed] = {
    "movierec_part_up": _gauge("1 when this part of the platform answers the exporter, else 0", "part"),
    "movierec_home_free_bytes": _gauge("space left on the disk of the exporter's home"),
    "movierec_home_kept_free_bytes": _gauge("what a local stack keeps free of it; below it, posts get 503"),
    "movierec_queue_messages": _gauge("messages in an SQS queue, about", "queue", "state"),
    "movierec_queue_oldest_event_age_seconds": _gauge(
        "since the oldest event that waits in the queue was received, at most; 0 when none waits", "queue"
    ),
    "movierec_quarantine_held_events": _gauge("refused events that are held, for people to look at", "reason"),
    "movierec_drain_lease_held": _gauge("1 while a drain run holds the lease of this slot, else 0", "queue", "slot"),
    "movierec_drain_work_timestamp_seconds": _gauge(
        "when a drain run in this slot last had work, since the epoch; 0 before the first", "queue", "slot"
    ),
    "movierec_lake_rows": _gauge("rows of a table of the lake, by its log", "table"),
    "movierec_lake_bytes": _gauge("bytes of the files that are the table now", "table"),
    "movierec_lake_partitions": _gauge("partitions of the table; 1 where it is not partitioned", "table"),
    "movierec_compaction_timestamp_seconds": _gauge("when a compaction last ended well, since the epoch; 0: never"),
    "movierec_nightly_timestamp_seconds": _gauge(
        "when the nightly last ended with its similarity in readers' hands, since the epoch; 0: never"
    ),
    "movierec_similarity_info": _gauge("1; the version of the similarity that readers use", "version"),
    "movierec_published_similarity_age_seconds": _gauge("since the similarity in use was published"),
    "movierec_similarity_ndcg": _gauge(
        "NDCG@10 of the published version in its latest test, of popularity in the same, and when_published", "model"
    ),
    "movierec_similarity_passed": _gauge("1 when the gate passed the published, or the newest, version", "model"),
    "movierec_parity_drift_pairs": _gauge("pairs that differed between graph and lake when they were last compared"),
    "movierec_raw_objects_set_aside": _gauge("raw objects that could not be read, or not wholly, when last looked at"),
    "movierec_parity_checked_timestamp_seconds": _gauge("when graph and lake were last compared, since the epoch"),
}
"""Looked up by the exporter at a scrape, those of the lake at most once a minute."""

ANSWERED: Mapping[str, Exposed] = {
    "movierec_http_requests_total": _counter("requests answered", "route", "method", "status", "process"),
    "movierec_http_request_seconds": _histogram("time to answer a request", "route", "method", "process"),
    "movierec_landed_events_total": _counter("events acknowledged by this process", "process"),
}
"""Counted by each API process for itself, since it started; `process` is its number."""

METRICS: Mapping[str, Exposed] = {**DURABLE, **OBSERVED, **ANSWERED}
