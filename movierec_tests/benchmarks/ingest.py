"""POST /ingest beside a plain Flask handler that makes one `put_object` and one `send_message` for each event.

    python -m movierec_tests.benchmarks.ingest [--seconds 3] [--rounds 2]

Both are real server processes (granian, as many threads) before the same emulator, and take turns. An event counts when
it was answered 202: then it is in the object store and in the queue, which is checked at the end. The last line printed
is JSON with the ratios, of events per CPU-second of the server's processes, and with the absolute rates.
"""

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path

import boto3
from botocore.config import Config
from flask import Flask, Response, request
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from pydantic import SecretStr

from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings, inherited_environment, load_settings, variables_of
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.local.processes import family
from movierec_platform.local.server import Command
from movierec_platform.local.web import ApiServer
from movierec_tests.benchmarks.connections import drive

SEED_THREADS = 32
TARGETS = {"single_ratio": 5.0, "batch_100_ratio": 20.0, "single_per_s": 974.0, "batch_1000_per_s": 18_660.0}


@dataclass(frozen=True)
class Load:
    """Requests of `events` each over `connections` that are kept alive, each sending the next when it has an answer."""

    name: str
    events: int
    connections: int


SINGLE, BATCH_100, BATCH_1000 = Load("single", 1, 32), Load("batch_100", 100, 8), Load("batch_1000", 1_000, 8)


@dataclass
class Measured:
    """What one side did under one load, in all its turns."""

    events: int = 0
    refused: int = 0
    seconds: float = 0.0
    server_cpu_s: float = 0.0
    emulator_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def per_cpu_s(self) -> float:
        return self.events / self.server_cpu_s

    @property
    def per_s(self) -> float:
        return self.events / self.seconds


class SeedServer(ApiServer):
    """The plain handler, as a process."""

    name = "seed"
    probe = "/"

    def command(self) -> Command:
        ours = super().command()
        return Command([sys.executable, "-m", __spec__.name, "--serve"], ours.environment)


def seed_app(settings: Settings) -> Flask:
    """One object and one message for each event: clients made once, connections kept."""
    given = {
        "endpoint_url": settings.aws_endpoint_url,
        "region_name": settings.aws_region,
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": "opens-nothing",
        "config": Config(max_pool_connections=SEED_THREADS, s3={"addressing_style": "path"}),
    }
    s3, sqs = boto3.client("s3", **given), boto3.client("sqs", **given)
    app = Flask("seed")

    @app.post("/ingest")
    def ingest() -> Response:
        body = request.get_json()
        events = body if isinstance(body, list) else [body]
        for event in events:
            text = json.dumps(event)
            s3.put_object(Bucket=settings.bucket, Key=f"raw/{uuid.uuid4()}.json", Body=text.encode())
            sqs.send_message(QueueUrl=settings.raw_queue_url, MessageBody=text)
        return Response(json.dumps({"accepted": len(events)}), 202, mimetype="application/json")

    @app.get("/")
    def alive() -> str:
        return "alive"

    return app


def serve_seed() -> None:
    settings = load_settings()
    server = Granian(
        "seed",
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        blocking_threads=SEED_THREADS,
        websockets=False,
    )
    server.serve(target_loader=lambda: seed_app(settings), wrap_loader=False)


def answers_into(load: Load, into: Measured) -> Callable[[int, float], None]:
    """Adds what was answered to one request."""

    def answered(status: int, latency_s: float) -> None:
        if status == 202:
            into.events += load.events
            into.latencies_ms.append(latency_s * 1000)
        else:
            into.refused += load.events

    return answered


def _request(load: Load, number: int) -> bytes:
    events = [
        {"user_id": 1 + number, "movie_id": 1 + index, "rating": 4.5, "timestamp": 1_714_565_000 + index}
        for index in range(load.events)
    ]
    body = json.dumps(events[0] if load.events == 1 else events).encode()
    lines = [
        "POST /ingest HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    head = "\r\n".join([*lines, "", ""])
    return head.encode() + body


def measure(server: ApiServer, emulator: AwsServer, load: Load, seconds: float, into: Measured) -> None:
    """One turn."""
    before = cpu_s(server), cpu_s(emulator), time.process_time()
    requests = cycle(_request(load, number) for number in range(load.connections))
    into.seconds += drive(server.port, requests, load.connections, seconds, answers_into(load, into))
    into.server_cpu_s += cpu_s(server) - before[0]
    into.emulator_cpu_s += cpu_s(emulator) - before[1]
    into.client_cpu_s += time.process_time() - before[2]


def cpu_s(server: ApiServer | AwsServer) -> float:
    """CPU seconds that its processes have used."""
    times = [process.cpu_times() for process in family(server.process.pid)]
    return sum(one.user + one.system for one in times)


def report(side: str, load: Load, measured: Measured) -> None:
    p50, p95 = (statistics.quantiles(measured.latencies_ms, n=100)[n - 1] for n in (50, 95))
    print(
        f"{load.name:>10} {side:>6} {measured.per_s:9.0f} events/s {measured.per_cpu_s:9.0f} per CPU-s"
        f"  p50 {p50:7.1f} ms  p95 {p95:7.1f} ms  CPU-s a second: server {measured.server_cpu_s / measured.seconds:.2f}"
        f", emulator {measured.emulator_cpu_s / measured.seconds:.2f}, client"
        f" {measured.client_cpu_s / measured.seconds:.2f}  refused {measured.refused}"
    )


def stored(settings: Settings, *, lines: bool) -> int:
    """Events in the bucket."""
    objects = open_objects(settings)
    return sum(gzip.decompress(objects.get(key)).count(b"\n") if lines else 1 for key in objects.keys("raw/"))


def run(seconds: float, rounds: int, folder: Path, loads: Sequence[Load]) -> dict[str, float]:
    emulator = AwsServer(folder, 0)
    emulator.start()
    try:
        ours, seed = _side(ApiServer, emulator, folder / "ours"), _side(SeedServer, emulator, folder / "seed")
        try:
            return _rounds(ours, seed, emulator, seconds, rounds, loads)
        finally:
            for server, _ in (ours, seed):
                server.stop()
    finally:
        emulator.stop()


Side = tuple[ApiServer, Settings]


def settings_of(emulator: AwsServer, home: Path) -> Settings:
    """A home, which is made, and a bucket and queues of its own on the emulator."""
    home.mkdir()
    given = {"home": home, "aws_endpoint_url": emulator.url, "aws_region": "us-east-1", "bucket": home.name}
    given |= {"aws_access_key_id": ACCESS_KEY_ID, "aws_secret_access_key": SecretStr("opens-nothing")}
    settings = load_settings(given)
    return settings.model_copy(update=asdict(provision(settings, prefix=home.name)))


def _side(kind: type[ApiServer], emulator: AwsServer, home: Path) -> Side:
    settings = settings_of(emulator, home)
    server = kind(home, 0)
    server.environment = {**inherited_environment(), **variables_of(settings)}
    server.start()
    return server, settings


def _rounds(
    ours: Side, seed: Side, emulator: AwsServer, seconds: float, rounds: int, loads: Sequence[Load]
) -> dict[str, float]:
    turns = [(side, load) for load in loads for side in (ours, seed) if side is ours or load is not BATCH_1000]
    figures = {(side is ours, load): Measured() for side, load in turns}
    for side, load in turns:
        measure(side[0], emulator, load, 0.5, Measured())  # connections are open, caches warm
    checked = [(side, stored(side[1], lines=side is ours)) for side in (ours, seed)]
    for _ in range(rounds):
        for side, load in turns:
            measure(side[0], emulator, load, seconds, figures[side is ours, load])
    for (is_ours, load), measured in figures.items():
        report("ours" if is_ours else "plain", load, measured)
    for side, before in checked:
        acknowledged = sum(one.events for (is_ours, _), one in figures.items() if is_ours is (side is ours))
        found = stored(side[1], lines=side is ours) - before
        if found != acknowledged:
            sys.exit(f"{acknowledged} events were acknowledged and {found} are stored")
    result = {}
    for load in loads:
        mine = figures[True, load]
        result[f"{load.name}_per_s"] = round(mine.per_s)
        if (False, load) in figures:
            result[f"{load.name}_ratio"] = round(mine.per_cpu_s / figures[False, load].per_cpu_s, 2)
    rss = sum(process.memory_info().rss for process in family(ours[0].process.pid))
    return {**result, "rss_mb": round(rss / 2**20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side under each load")
    parser.add_argument("--load", action="append", choices=["single", "batch_100", "batch_1000"], help="only these")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve_seed()
    loads = [load for load in (SINGLE, BATCH_100, BATCH_1000) if given.load is None or load.name in given.load]
    with tempfile.TemporaryDirectory(prefix="movierec-benchmark-") as folder:
        result = run(given.seconds, given.rounds, Path(folder), loads)
    for name, target in TARGETS.items():
        if name in result:
            print(f"{name}: {result[name]} (target {target:g}): {'reached' if result[name] >= target else 'MISSED'}")
    print(json.dumps({"benchmark": "ingest", **result}))


if __name__ == "__main__":
    main()
