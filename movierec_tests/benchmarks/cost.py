"""What a million events cost on AWS: objects, messages and bytes as the platform makes them, at list prices.

    python -m movierec_tests.benchmarks.cost

Lifelike events are packed with the platform's own code for commits of 1 to 1,000 events; the last line is JSON. The
prices are those of us-east-1 (S3 Standard, SQS standard queues, beyond the free tier); change PRICES for other regions.
"""

import json
from itertools import islice

from rich.console import Console
from rich.table import Table

from movierec_platform.domain.envelope import encode, pack, raw_key, raw_object
from movierec_platform.domain.gate import judge_all
from movierec_platform.local.traffic import Audience, Mix, events

EVENTS = 1_000_000
AT_MS = 1_790_000_000_000
PRICES = {
    "put": 0.005 / 1000,
    "get": 0.0004 / 1000,
    "sqs_request": 0.40 / 1e6,
    "gb_month": 0.023,
    "gb_month_cold": 0.004,
}
"""US dollars: a PUT, a GET, a request to SQS of up to 64 KiB, a GB for a month in S3 Standard and Glacier Instant."""
BILLED_BYTES = 64 * 1024
BATCH_ENTRIES, BATCH_BYTES = 10, 256 * 1024


def main() -> None:
    audience = Audience(range(1, 100_001), range(1, 50_001), [1 / rank for rank in range(1, 50_001)])
    stream = events(audience, Mix(bad=0.01, duplicate=0.01, late=0.01, seed=1), lambda: AT_MS)
    sample = [event for _, event in islice(stream, 10_000)]
    table = Table("events a commit", "S3 put", "SQS", "compaction", "bytes an event", "$ a month", "$ in all")
    costs = [cost_of(sample, size) for size in (1, 10, 100, 1_000)]
    for one in costs:
        table.add_row(*(f"{value:,.4g}" for value in one.values()))
    Console().print(table)
    print(json.dumps({"events": EVENTS, "prices_usd": PRICES, "costs": costs}))


def cost_of(sample: list[dict[str, object]], commit_events: int) -> dict[str, float]:
    """US dollars for EVENTS events that are landed `commit_events` at a time."""
    commits = [sample[start : start + commit_events] for start in range(0, len(sample), commit_events)]
    raw_bytes, requests = 0, 0
    for commit in commits:
        encoded = [encode(event) for event in commit]
        key = raw_key(AT_MS, "0" * 32)
        raw_bytes += len(raw_object(encoded, AT_MS, source="api"))
        accepted = [verdict.to_json() for verdict in judge_all(commit, AT_MS) if hasattr(verdict, "to_json")]
        for bodies in (
            pack(key, AT_MS, encoded, range(len(encoded))),
            pack(key, AT_MS, accepted, range(len(accepted))),
        ):
            requests += sum(queue_requests(len(body)) for body in bodies)
    scale = EVENTS / len(sample)
    put = len(commits) * scale * PRICES["put"]
    sqs = requests * scale * PRICES["sqs_request"]
    compaction = len(commits) * scale * PRICES["get"]
    kept = raw_bytes * scale / 1e9
    return {
        "commit_events": commit_events,
        "put_usd": round(put, 4),
        "sqs_usd": round(sqs, 4),
        "compaction_usd": round(compaction, 4),
        "bytes_per_event": round(raw_bytes / len(sample), 1),
        "kept_usd_per_month": round(kept * PRICES["gb_month"], 5),
        "usd_per_million": round(put + sqs + compaction, 4),
    }


def queue_requests(message_bytes: int) -> float:
    """Requests that SQS bills for one message: sent, received and deleted in full batches where they fit."""
    together = max(1, min(BATCH_ENTRIES, BATCH_BYTES // message_bytes))
    moved = -(-together * message_bytes // BILLED_BYTES)
    return (2 * moved + 1) / together


if __name__ == "__main__":
    main()
