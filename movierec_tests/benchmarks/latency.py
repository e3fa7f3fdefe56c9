"""Raw to clean queue: our sensor-launched, lingering drain beside stock Dagster, which launches a run per micro-batch.

Both sides are under the same light load at the same time. Each has queues of its own in one emulator, a DAGSTER_HOME,
a code server and a daemon; stock has default settings everywhere (dagster.yaml, executor, sensor interval), but for
telemetry. `--beside eager` lets its sensor tick as often as the daemon can, and not every 30 s.

Latency is from the call that sends to the raw queue to the return of the call that reads from the clean queue; the
emulator's own delay from sending to receiving is in it twice, and is measured apart. The first message, which has to
wait for a run to be launched, is told apart too.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import SecretStr

from movierec_platform.adapters.queues import Queue, Queues
from movierec_platform.config import Settings, inherited_environment, load_settings, variables_of
from movierec_platform.domain.envelope import pack, raw_key, unpack
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.local.dagster import CodeServer, dagster_home, initialise_instance
from movierec_platform.local.processes import family
from movierec_platform.local.server import Command, Server
from movierec_tests.benchmarks.measure import cpu_seconds, in_ms, latency_ms, print_result

Name = Literal["ours", "stock", "eager"]

TARGET = 0.05
FIRST_WITHIN_S = 90.0
LAST_WITHIN_S = 60.0
STOCK_VISIBILITY_S = 120
"""Longer than a stock run takes to start, so that no message is judged twice."""
HOP_PROBES = 20


class SideServer(CodeServer):
    """The code location of one side."""

    name = "code"

    def command(self) -> Command:
        arguments = [sys.executable, "-m", "dagster", "api", "grpc", "-m", "movierec_tests.benchmarks.latency_sides"]
        arguments += ["-a", self.location, "--location-name", self.location, "--host", self.host]
        arguments += ["--port", str(self.port), "--use-python-environment-entry-point"]
        return Command(arguments, self.environment)


class SideDaemon(Server):
    """The daemon of one side. That it works is shown by the first message."""

    name = "daemon"
    environment: Mapping[str, str]
    workspace: Path

    def reserve_port(self) -> None:
        return

    def command(self) -> Command:
        return Command([sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.workspace)], self.environment)

    def is_ready(self) -> bool:
        return True


@dataclass
class Side:
    """One side: its queues, its servers, and when each message was sent and arrived (monotonic s)."""

    name: Name
    settings: Settings
    queues: Queues
    servers: tuple[Server, ...] = ()
    sent_s: dict[str, float] = field(default_factory=dict)
    arrived_s: dict[str, float] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def send(self, number: int) -> None:
        """One event is in the raw queue, as the API sends it on our side, bare on the other."""
        now_ms = time.time_ns() // 1_000_000
        event_id = f"{self.name}-{number}"
        event = {"event_id": event_id, "user_id": 1 + number, "movie_id": 1, "rating": 4.0, "timestamp": now_ms}
        body = orjson.dumps(event)
        message = pack(raw_key(now_ms, event_id), now_ms, [body], [0])[0] if self.name == "ours" else body.decode()
        self.sent_s[event_id] = time.monotonic()
        self.queues.raw.send([message])

    def read_clean(self, stop: threading.Event) -> None:
        """Notes the arrival of every event in the clean queue, until told to stop."""
        while not stop.is_set():
            messages = self.queues.clean.receive(wait_s=1)
            now_s = time.monotonic()
            with self.changed:
                for message in messages:
                    envelope = unpack(message.body)
                    for event in envelope.events if envelope else [json.loads(message.body)]:
                        self.arrived_s.setdefault(event["event_id"], now_s)
                self.changed.notify_all()
            self.queues.clean.delete(messages)

    def wait_for_all(self, timeout_s: float) -> bool:
        """Whether everything sent has arrived within that time."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.arrived_s) == len(self.sent_s), timeout_s)

    def first_s(self) -> float:
        """The latency of the first event, which waited for a run to be launched."""
        return self._latencies_s()[0]

    def other_s(self) -> list[float]:
        """Those of the others that arrived."""
        return self._latencies_s()[1:]

    def _latencies_s(self) -> list[float]:
        return [self.arrived_s[one] - sent_s for one, sent_s in self.sent_s.items() if one in self.arrived_s]

    def cpu_s(self) -> float:
        return cpu_seconds(process for server in self.servers for process in family(server.process.pid))


def main() -> None:
    parser = argparse.ArgumentParser(prog="latency", description="Raw to clean queue beside stock Dagster.")
    parser.add_argument("--rate", type=float, default=2.0, help="messages a second on each side (default 2)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long messages are sent (default 60)")
    parser.add_argument("--beside", choices=["stock", "eager"], default="stock", help="the other side (default stock)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="movierec-latency-") as folder, ExitStack() as stack:
        print_result(_measure(Path(folder), options.beside, options.rate, options.seconds, stack))


def _measure(folder: Path, beside: Name, rate: float, seconds: float, stack: ExitStack) -> dict[str, Any]:
    aws = AwsServer(folder, 0)
    stack.callback(aws.stop)
    aws.start()
    sides = [_side("ours", folder, aws, 30), _side(beside, folder, aws, STOCK_VISIBILITY_S)]
    hop_s = _hop_s(sides[0].queues.clean)
    print(f"emulator, sent to received: p50 {in_ms(hop_s)} ms")
    for side in sides:
        _start(side, stack)
    stop = threading.Event()
    readers = [threading.Thread(target=side.read_clean, args=(stop,), name=side.name) for side in sides]
    for reader in readers:
        reader.start()
    try:
        return _compare(sides, rate, seconds, hop_s)
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def _compare(sides: list[Side], rate: float, seconds: float, hop_s: float) -> dict[str, Any]:
    for side in sides:
        side.send(0)
    for side in sides:
        if not side.wait_for_all(FIRST_WITHIN_S):
            sys.exit(f"{side.name}: nothing arrived within {FIRST_WITHIN_S:g} s; its logs:\n{_last_lines(side)}")
        print(f"{side.name}: the first message took {side.first_s():.1f} s")
    before = {side.name: side.cpu_s() for side in sides}
    began_s = time.monotonic()
    for number in range(1, 1 + int(rate * seconds)):
        for index, side in enumerate(sides):
            time.sleep(max(0.0, began_s + (number + index / len(sides)) / rate - time.monotonic()))
            side.send(number)
    for side in sides:
        side.wait_for_all(LAST_WITHIN_S)
    found = {side.name: _figures(side, before[side.name]) for side in sides}
    for name, figures in found.items():
        shown = ", ".join(f"{key} {value}" for key, value in figures["latency_ms"].items())
        print(f"{name}: {shown} ms; {figures['cpu_s']} CPU s; {figures['missing']} missing")
    ratios = {
        q: round(found["ours"]["latency_ms"][q] / found[sides[1].name]["latency_ms"][q], 4) for q in ("p50", "p95")
    }
    return {
        "benchmark": "latency",
        "rate": rate,
        "seconds": seconds,
        "emulator_hop_ms": in_ms(hop_s),
        **found,
        "ratio": ratios,
        "target_p50": TARGET,
        "meets_target": ratios["p50"] <= TARGET and not any(figures["missing"] for figures in found.values()),
    }


def _figures(side: Side, cpu_before_s: float) -> dict[str, Any]:
    return {
        "latency_ms": latency_ms(side.other_s()),
        "first_s": round(side.first_s(), 2),
        "missing": len(side.sent_s) - len(side.arrived_s),
        "cpu_s": round(side.cpu_s() - cpu_before_s, 1),
    }


def _side(name: Name, folder: Path, aws: AwsServer, visibility_s: int) -> Side:
    """The side with its queues, its servers not started."""
    settings = load_settings(
        {
            "home": folder / name,
            "bucket": f"latency-{name}",
            "aws_endpoint_url": aws.url,
            "aws_region": "us-east-1",
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SecretStr("any"),
            "aws_session_token": None,
            "state_url": SecretStr(""),
            "visibility_timeout_s": visibility_s,
        }
    )
    settings.home.mkdir()
    settings = settings.model_copy(update=asdict(provision(settings, prefix=f"latency-{name}")))
    return Side(name, settings, Queues.open(settings))


def _start(side: Side, stack: ExitStack) -> None:
    """Its code server and daemon run, until the stack of contexts is left."""
    home = side.settings.home
    environment = {
        **inherited_environment(),
        **variables_of(side.settings),
        "AWS_DEFAULT_REGION": side.settings.aws_region,
        "DAGSTER_HOME": str(dagster_home(home)),
    }
    if side.name == "ours":
        initialise_instance(home, environment)
    else:
        dagster_home(home).mkdir(parents=True)
        (dagster_home(home) / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    code, daemon = SideServer(home, 0), SideDaemon(home, 0)
    code.location, code.environment = side.name, environment
    daemon.environment, daemon.workspace = environment, home / "workspace.yaml"
    for server in (code, daemon):
        stack.callback(server.stop)
    code.start()
    where = f"{{host: {code.host}, port: {code.port}, location_name: {side.name}}}"
    daemon.workspace.write_text(f"load_from: [{{grpc_server: {where}}}]\n")
    daemon.start()
    side.servers = (code, daemon)


def _hop_s(queue: Queue) -> float:
    """Median seconds from sending to a reader that waits, with nothing of ours in between."""
    hops = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(HOP_PROBES):
            reading = pool.submit(_receive_one, queue)
            time.sleep(0.3 + number / 100)  # so that it waits, each time for another part of the emulator's poll
            sent_s = time.monotonic()
            queue.send(["{}"])
            hops.append(reading.result() - sent_s)
    return statistics.median(hops)


def _receive_one(queue: Queue) -> float:
    """When a message came (monotonic s); it is deleted."""
    received = queue.receive(wait_s=5)
    received_s = time.monotonic()
    queue.delete(received)
    return received_s


def _last_lines(side: Side) -> str:
    return "\n".join(server.last_lines() for server in side.servers)


if __name__ == "__main__":
    main()
