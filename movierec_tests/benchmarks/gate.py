"""Judging packed messages at once beside pydantic's `model_validate_json` of each event's bytes.

    python -m movierec_tests.benchmarks.gate [--events 6000] [--rounds 15]

Both sides end with the same verdicts (checked: event, reason, field and detail) and with the clean JSON of each
accepted event, written by the same function.

* ours: parse each message, `judge_all` its events, encode the accepted ones.
* pydantic: `model_validate_json` of each event's bytes with the gate's model, its verdict, encode the accepted ones.
* bare: `model_validate_json` with a model that has nothing but pydantic's own constraints, and no verdict: no reason
  codes, no half steps, no rule between type and rating, no time made milliseconds, no id, nothing encoded. Beside it
  ours leaves out the encoding too. It is no gate; it shows what the call alone costs.

The events are the traffic of the demo, with ids and times in milliseconds; `plain` ones have no id and their time in
seconds. Bad ones have the defects of that traffic. Rounds alternate; figures are medians of CPU seconds. The last line
printed is JSON with the ratios of events per CPU-second.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic import ValidationError as InvalidEvent

from movierec_platform.domain import gate
from movierec_platform.domain.envelope import encode, pack, unpack
from movierec_platform.domain.events import INT64_MAX, Event
from movierec_platform.domain.gate import Rejected, judge_all
from movierec_platform.local.traffic import Audience, Mix, events

NOW_MS = 1_790_000_000_000
TARGET = 1.5
Verdicts = list[Event | Rejected]


@dataclass(frozen=True)
class Workload:
    """The same events as packed messages and one by one."""

    name: str
    messages: Sequence[str]
    encoded: Sequence[bytes]

    @classmethod
    def of(cls, name: str, values: Sequence[dict[str, Any]]) -> "Workload":
        encoded = [encode(value) for value in values]
        return cls(name, pack("raw/key", NOW_MS, encoded, range(len(encoded))), encoded)


def workloads(total: int) -> list[Workload]:
    shares = {share: _traffic(total, share) for share in (0.0, 0.03, 0.2)}
    plain = [
        {**{name: value for name, value in event.items() if name != "event_id"}, "timestamp": NOW_MS // 1000}
        for event in shares[0.0]
    ]
    return [
        *(Workload.of(f"bad_{share:.0%}"[:-1], some) for share, some in shares.items()),
        Workload.of("plain", plain),
    ]


def _traffic(total: int, bad: float) -> list[dict[str, Any]]:
    audience = Audience(range(1, 100_000), range(1, 50_000), [1.0] * 49_999)
    mix = Mix(bad=bad, duplicate=0, late=0.05, seed=7)
    return [event for _, event in islice(events(audience, mix, lambda: NOW_MS), total)]


def ours(workload: Workload) -> tuple[Verdicts, list[bytes]]:
    verdicts = ours_without_encoding(workload)
    return verdicts, [verdict.to_json() for verdict in verdicts if isinstance(verdict, Event)]


def ours_without_encoding(workload: Workload) -> Verdicts:
    verdicts: Verdicts = []
    for message in workload.messages:
        envelope = unpack(message)
        assert envelope is not None
        verdicts += judge_all(envelope.events, envelope.received_at_ms)
    return verdicts


def pydantic_one_by_one(workload: Workload) -> tuple[Verdicts, list[bytes]]:
    verdicts: Verdicts = []
    clean = []
    for text in workload.encoded:
        verdict: Event | Rejected
        try:
            verdict = gate._accepted(gate._Submitted.model_validate_json(text), NOW_MS)
        except InvalidEvent as error:
            verdict = gate._rejection(error)
        verdicts.append(verdict)
        if isinstance(verdict, Event):
            clean.append(verdict.to_json())
    return verdicts, clean


class Bare(BaseModel):
    """Nothing that pydantic does not check by itself."""

    event_id: Annotated[str, Field(strict=True, min_length=1, max_length=128)] | None = None
    event_type: Literal["rating", "view", "retract"] = "rating"
    user_id: Annotated[int, Field(strict=True, gt=0, le=INT64_MAX)]
    movie_id: Annotated[int, Field(strict=True, gt=0, le=INT64_MAX)]
    rating: Annotated[float, Field(strict=True, ge=0.5, le=5)] | None = None
    timestamp: int | float | str | None = None
    session_id: Annotated[str, Field(strict=True, max_length=128)] | None = None
    recommendation_id: Annotated[str, Field(strict=True, max_length=128)] | None = None


def bare(workload: Workload) -> int:
    """How many are valid."""
    valid = 0
    for text in workload.encoded:
        try:
            Bare.model_validate_json(text)
            valid += 1
        except InvalidEvent:
            pass
    return valid


SIDES: dict[str, Callable[[Workload], object]] = {
    "ours": ours,
    "pydantic": pydantic_one_by_one,
    "ours, no encoding": ours_without_encoding,
    "bare": bare,
}


def measure(workload: Workload, rounds: int) -> dict[str, float]:
    """Events per CPU-second of each side: the median of its rounds, which alternate."""
    spent: dict[str, list[float]] = {name: [] for name in SIDES}
    for round_ in range(rounds + 1):
        for name, side in SIDES.items():
            begun = time.process_time()
            side(workload)
            if round_:  # the first one warms up
                spent[name].append(time.process_time() - begun)
    return {name: len(workload.encoded) / statistics.median(times) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=6_000, help="in a round of one side")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    result: dict[str, float] = {}
    for workload in workloads(given.events):
        (verdicts, clean), (expected, expected_clean) = ours(workload), pydantic_one_by_one(workload)
        if (verdicts, clean) != (expected, expected_clean):
            sys.exit(f"{workload.name}: the verdicts differ")
        rejected = sum(isinstance(verdict, Rejected) for verdict in verdicts)
        rate = measure(workload, given.rounds)
        result[f"{workload.name}_ratio"] = round(rate["ours"] / rate["pydantic"], 2)
        result[f"{workload.name}_bare_ratio"] = round(rate["ours, no encoding"] / rate["bare"], 2)
        result[f"{workload.name}_per_cpu_s"] = round(rate["ours"])
        print(
            f"{workload.name:>7}: {len(verdicts)} events in {len(workload.messages)} messages, {rejected} refused,"
            " verdicts identical; events per CPU-s: "
            + ", ".join(f"{name} {per_cpu_s:,.0f}" for name, per_cpu_s in rate.items())
        )
    for name in ("bad_0", "bad_3", "bad_20"):
        ratio = result[f"{name}_ratio"]
        print(f"{name}_ratio: {ratio} (target {TARGET}): {'reached' if ratio >= TARGET else 'MISSED'}")
    print(json.dumps({"benchmark": "gate", **result}))


if __name__ == "__main__":
    main()
