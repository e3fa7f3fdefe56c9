"""A client that posts prepared requests at a fixed rate, in a process of its own: its processor time is told apart.

Open loop: a request is due at its time whatever became of those before it, and its latency counts from when it was due.
A refusal (503) is counted and not tried again.
"""

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import orjson

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was due (s since the start), how long after that it was answered, and what."""

    due_s: float
    latency_s: float
    status: int
    accepted: int = 0
    rejected: int = 0


@dataclass(slots=True)
class PostingReport:
    """What became of all requests; `status` 0 in an answer is a lost connection."""

    answers: list[Answer] = field(default_factory=list)
    began_s: float = 0.0
    """Monotonic; the same clock in all processes of this machine."""
    seconds: float = 0.0
    cpu_s: float = 0.0

    def acknowledged(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 202]


def post_in_own_process(
    api_url: str, bodies: Sequence[bytes], requests_per_s: float, connections: int
) -> PostingReport:
    """The report, once each of these bodies was posted to /ingest."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_post_and_tell, args=(theirs, api_url, bodies, requests_per_s, connections))
    process.start()
    theirs.close()
    try:
        report: PostingReport = ours.recv()
    finally:
        process.join()
    return report


def _post_and_tell(
    channel: "Connection[PostingReport, None]",
    api_url: str,
    bodies: Sequence[bytes],
    requests_per_s: float,
    connections: int,
) -> None:
    channel.send(post(api_url, bodies, requests_per_s, connections))


def post(api_url: str, bodies: Sequence[bytes], requests_per_s: float, connections: int) -> PostingReport:
    """As `post_in_own_process`, in this process."""
    began_s, cpu_before_s = time.monotonic(), time.process_time()
    report = PostingReport(began_s=began_s)
    turn = count()

    def work() -> None:
        address = urlsplit(api_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        while (number := next(turn)) < len(bodies):
            due_s = number / requests_per_s
            time.sleep(max(0.0, began_s + due_s - time.monotonic()))
            try:
                connection.request("POST", "/ingest", bodies[number], {"Content-Type": "application/json"})
                response = connection.getresponse()
                body = response.read()
                status = response.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status, body = 0, b""
            latency_s = time.monotonic() - began_s - due_s
            receipt = orjson.loads(body) if status == 202 else {"accepted": 0, "rejected": 0}
            report.answers.append(Answer(due_s, latency_s, status, receipt["accepted"], receipt["rejected"]))
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(connections)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report.cpu_s = time.process_time() - cpu_before_s
    report.seconds = time.monotonic() - began_s
    return report
