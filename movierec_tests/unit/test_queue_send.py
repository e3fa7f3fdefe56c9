"""A batch of which SQS refuses some messages: those are sent again, alone, and the others are not doubled."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from movierec_platform.adapters.aws import s3_client, sqs_client, sqs_poller
from movierec_platform.adapters.queues import Queue, open_queue
from movierec_platform.config import load_settings
from movierec_platform.domain.budget import CALL_S, LANDING_MS, LANDING_S, LONG_POLL_S, PAUSE_S
from movierec_platform.errors import MessageRefused, QueueUnavailable
from movierec_platform.services.land import MOST_WAIT_S


@dataclass
class Sqs:
    """As much of SQS as SendMessageBatch needs; `refuses(body, attempt)` says which entries it does not take."""

    refuses: Callable[[str, int], bool]
    error: dict[str, object] = field(default_factory=lambda: {"SenderFault": False, "Code": "InternalError"})
    batches: list[list[str]] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)

    def answer(self, entries: list[dict[str, str]]) -> dict[str, object]:
        self.batches.append([entry["MessageBody"] for entry in entries])
        successful, failed = [], []
        for entry in entries:
            body = entry["MessageBody"]
            self.attempts[body] += 1
            if self.refuses(body, self.attempts[body]):
                failed.append({"Id": entry["Id"], **self.error})
            else:
                self.stored.append(body)
                digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
                successful.append({"Id": entry["Id"], "MessageId": str(len(self.stored)), "MD5OfMessageBody": digest})
        return {"Successful": successful, "Failed": failed}


@contextmanager
def queue_of(sqs: Sqs) -> Iterator[Queue]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(sqs.answer(request["Entries"])).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings = load_settings(
            {
                "aws_endpoint_url": url,
                "aws_region": "us-east-1",
                "aws_access_key_id": "anybody",
                "aws_secret_access_key": SecretStr("opens-nothing"),
                "raw_queue_url": f"{url}/000000000000/raw",
            }
        )
        try:
            yield open_queue(settings, "raw")
        finally:
            server.shutdown()
            thread.join()


def test_only_the_refused_messages_of_a_batch_are_sent_again() -> None:
    sqs = Sqs(refuses=lambda body, attempt: body == "b" and attempt <= 2)
    with queue_of(sqs) as queue:
        queue.send(["a", "b", "c"])
    assert sqs.batches == [["a", "b", "c"], ["b"], ["b"]]


def test_every_message_of_many_batches_is_in_the_queue_once() -> None:
    bodies = [f"m{number}" for number in range(25)]
    sqs = Sqs(refuses=lambda body, attempt: attempt == 1 and int(body[1:]) % 3 == 0)
    with queue_of(sqs) as queue:
        queue.send(bodies)
    assert sorted(sqs.stored) == sorted(bodies)


def test_a_message_that_stays_refused_is_an_error_and_the_others_are_sent_once() -> None:
    sqs = Sqs(refuses=lambda body, _: body == "b")
    with queue_of(sqs) as queue, pytest.raises(QueueUnavailable, match=r"refuses 1 messages of a batch: InternalError"):
        queue.send(["a", "b", "c"])
    assert sqs.stored == ["a", "c"]
    assert sqs.attempts == {"a": 1, "b": 5, "c": 1}


TOO_LONG = {"SenderFault": True, "Code": "InvalidParameterValue", "Message": "shorter than 262144 bytes"}


def test_a_message_that_sqs_never_takes_is_tried_once_and_costs_no_other() -> None:
    bodies = [f"m{number}" for number in range(25)]
    sqs = Sqs(refuses=lambda body, _: body in ("m3", "m17"), error=TOO_LONG)
    with (
        queue_of(sqs) as queue,
        pytest.raises(MessageRefused, match=r"2 of 25: InvalidParameterValue, shorter") as told,
    ):
        queue.send(bodies)
    assert told.value.bodies == ["m3", "m17"]
    assert sorted(sqs.stored) == sorted(set(bodies) - {"m3", "m17"})
    assert set(sqs.attempts.values()) == {1}


@pytest.mark.parametrize("code", ["KMS.AccessDeniedException", "KmsThrottled", "RequestThrottled", "AccessDenied"])
def test_what_the_queue_refuses_of_every_message_is_no_fault_of_one(code: str) -> None:
    sqs = Sqs(refuses=lambda body, attempt: attempt == 1, error={"SenderFault": True, "Code": code})
    with queue_of(sqs) as queue:
        queue.send(["a", "b"])
    assert sqs.stored == ["a", "b"]


def test_no_call_begins_after_the_time_that_there_is() -> None:
    ends_s = time.monotonic() + 600

    def too_late(_body: str, _attempt: int) -> bool:
        now[0] = ends_s + 1
        return False

    now = [0.0]
    sqs = Sqs(too_late)
    with queue_of(sqs) as queue, pytest.MonkeyPatch.context() as patch:
        patch.setattr("movierec_platform.adapters.queues.time.monotonic", lambda: now[0])
        with pytest.raises(QueueUnavailable, match="in the time that there is"):
            queue.send([str(number) for number in range(25)], ends_s)
    assert len(sqs.batches) == 1


def test_the_parts_of_the_budget_for_landing_fit_into_the_whole() -> None:
    own = {"aws_endpoint_url": "http://127.0.0.1:9", "aws_access_key_id": "k", "aws_secret_access_key": SecretStr("s")}
    settings = load_settings(own)
    for client in (sqs_client(settings), s3_client(settings)):
        config = client.meta.config
        attempts = config.retries["total_max_attempts"]
        longest_s = attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1) * PAUSE_S
        assert longest_s <= CALL_S
    assert sqs_poller(settings).meta.config.read_timeout > LONG_POLL_S
    assert MOST_WAIT_S < LANDING_S
    assert (LANDING_S + CALL_S) * 1000 < LANDING_MS
