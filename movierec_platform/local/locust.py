"""Locust's load on the running API, in a process of its own (Locust patches whatever imports it), and what it measured.

The locustfile reads address and key of the API from the environment: they are in no process's arguments.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from movierec_platform.config import Settings, inherited_environment, variables_of
from movierec_platform.errors import CheckFailed, UsageError
from movierec_platform.local.client import credentials, get_recommendations
from movierec_platform.local.ports import LOOPBACK
from movierec_platform.local.run import on_first_signal

STOP_WITHIN_S = 15.0
POLL_S = 0.2
READ_BY_THE_LOCUSTFILE = ("MOVIEREC_HOME", "MOVIEREC_API_URL", "MOVIEREC_API_KEY")


@dataclass(frozen=True, slots=True)
class Load:
    """How many users there are at last, how many begin in a second, and for how long all goes on."""

    users: int
    spawn_rate: float
    duration_s: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What was asked of one endpoint, or of all, and how long the answers took."""

    name: str
    requests: int
    failures: int
    requests_per_s: float
    p50_ms: int
    p95_ms: int
    p99_ms: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Each endpoint that was asked, then all together; none if no request was made. `failed`: Locust's own verdict."""

    endpoints: Sequence[Endpoint]
    failed: bool


def require_locust_and_api(settings: Settings) -> None:
    """A load can begin. Raises UsageError without Locust or where the API refuses us, Transient when it is away."""
    if find_spec("locust") is None:
        raise UsageError("locust is not installed: pip install '.[load]'")
    get_recommendations(settings.api_url, 1, {"n": 1}, credentials(settings))


def run_load(
    settings: Settings,
    locustfile: Path,
    load: Load,
    report: Path,
    page_port: int | None = None,
    on_progress: Callable[[int], None] = lambda seconds: None,
) -> Measured:
    """What the load met once its time is over; Locust's HTML report is in the file then.

    With a `page_port` Locust waits there, on loopback, for somebody to start the load on its page. SIGINT and SIGTERM
    end it early, with all of that. `on_progress` hears of each second that passes. Raises CheckFailed when Locust ends
    before it has anything to report.
    """
    options = {"users": load.users, "spawn-rate": load.spawn_rate, "run-time": f"{load.duration_s}s", "html": report}
    where = {"web-host": LOOPBACK, "web-port": page_port} if page_port else {}
    command = [sys.executable, "-m", "locust", "--locustfile", str(locustfile), "--json"]
    command += [] if page_port else ["--headless"]
    command += [word for name, value in {**options, **where}.items() for word in (f"--{name}", str(value))]
    log = settings.home / "logs" / "locust.log"
    for path in (report, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    read = {name: text for name, text in variables_of(settings).items() if name in READ_BY_THE_LOCUSTFILE}
    with TemporaryFile() as printed, log.open("wb") as logged:
        status = _run_until_signal(command, {**inherited_environment(), **read}, printed, logged, on_progress)
        printed.seek(0)
        text = printed.read()
    if not text:
        raise CheckFailed(f"Locust ended with status {status} before it had anything to report; its log is {log}")
    return Measured(endpoints_of(json.loads(text)), failed=status != 0)


def _run_until_signal(
    command: Sequence[str],
    environment: Mapping[str, str],
    printed: IO[bytes],
    logged: IO[bytes],
    on_progress: Callable[[int], None],
) -> int:
    """The exit status of this command, which the first SIGINT or SIGTERM interrupts."""
    signals: list[int] = []
    began, seconds = time.monotonic(), 0
    with on_first_signal(signals.append):
        # In a session of its own: Ctrl-C in a terminal would reach it twice, and the second ends it without a report.
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=logged,
            start_new_session=True,
        )
        try:
            while child.poll() is None and not signals:
                time.sleep(POLL_S)
                if (passed := int(time.monotonic() - began)) > seconds:
                    seconds = passed
                    on_progress(seconds)
            if signals:
                child.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(STOP_WITHIN_S)
        finally:
            child.kill()
        return child.wait()


def endpoints_of(entries: Sequence[Mapping[str, Any]]) -> list[Endpoint]:
    """Locust's counts (its --json) by endpoint, in the order of their names, and all of them together at the end."""
    if not entries:
        return []
    begin = min(entry["start_time"] for entry in entries)
    last = max(entry["last_request_timestamp"] or begin for entry in entries)
    named = sorted((f"{entry['method']} {entry['name']}", entry) for entry in entries)
    everything = {
        "num_requests": sum(entry["num_requests"] for entry in entries),
        "num_failures": sum(entry["num_failures"] for entry in entries),
        "response_times": sum((_counts(entry) for entry in entries), Counter()),
    }
    return [_endpoint(name, entry, last - begin) for name, entry in [*named, ("all", everything)]]


def _endpoint(name: str, entry: Mapping[str, Any], seconds: float) -> Endpoint:
    counts = _counts(entry)
    return Endpoint(
        name=name,
        requests=entry["num_requests"],
        failures=entry["num_failures"],
        requests_per_s=entry["num_requests"] / seconds if seconds else 0.0,
        p50_ms=percentile(counts, 0.50),
        p95_ms=percentile(counts, 0.95),
        p99_ms=percentile(counts, 0.99),
    )


def _counts(entry: Mapping[str, Any]) -> Counter[int]:
    return Counter({round(float(ms)): count for ms, count in entry["response_times"].items()})


def percentile(counts: Mapping[int, int], share: float) -> int:
    """The value below which that share of these lies, as Locust counts it; 0 of none. `counts` by value."""
    values = sorted(counts)
    total = sum(counts.values())
    below = list(accumulate(counts[value] for value in values))
    return values[bisect_right(below, min(int(total * share), total - 1))] if total else 0
