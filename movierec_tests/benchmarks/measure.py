"""What the benchmarks of running servers share: quantiles, processor time of process families, the last line."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import psutil


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest value that is at least as great as a share `q` of them; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


def in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def latency_ms(seconds: Sequence[float]) -> dict[str, float | None]:
    """Count and quantiles of these latencies, in ms."""
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {"n": len(seconds), **{name: in_ms(quantile(seconds, q)) for name, q in named.items()}}


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Processor time of these processes and of those of their children that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def print_result(result: dict[str, Any]) -> None:
    """One line of JSON, with how busy the machine was."""
    print(json.dumps({**result, "cores": os.cpu_count(), "load_average": [round(one, 2) for one in os.getloadavg()]}))
