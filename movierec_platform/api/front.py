"""A WSGI application behind granian: a thread for each request, and bodies that are awaited within bounds.

Granian's own WSGI takes X_API_Key for X-API-Key, and a thread that waits for a body there can be called back only by
closing the connection, which it does not name. Its RSGI gives names as they were sent, and each piece of a body as an
awaitable; requests come to our threads without the way over its event loop, which would take a tenth of a millisecond.

Most bodies are there with their heads. One that is not whole after PROMPT_S is slow: of these few are awaited at one
time, of one address fewer, and each for a limited time, so that unfinished requests never have all threads.
"""

import asyncio
import io
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian._granian import CallbackScheduler
from granian.server import mp

from movierec_platform.api.errors import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

REQUEST_THREADS = 256
"""A request has a thread while S3 and SQS make it durable, or its body is awaited. They are started when needed."""
PROMPT_S = 0.2
DOOR_TIMEOUT_S = 5.0
"""For the small forms that anybody may send."""
AMBIGUOUS_HEADER = "movierec.ambiguous_header"
"""Where an environ has the name of a header that WSGI would take for another one; the header itself is left out."""


@dataclass(slots=True)
class SlowBodies:
    """The slow bodies that are awaited, `most` at one time and `most_of_one` of one address. Thread-safe."""

    most: int
    most_of_one: int
    _awaited: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, address: str) -> None:
        """One more of this address. Raises Problem 429 where there are too many."""
        with self._lock:
            if self._awaited[address] >= self.most_of_one or self._awaited.total() >= self.most:
                detail = "too many requests are unfinished: send the body at once with its head, or again later"
                raise Problem(429, "too-many-unfinished", detail, {"Retry-After": "2"})
            self._awaited[address] += 1

    def remove(self, address: str) -> None:
        """One less."""
        with self._lock:
            self._awaited[address] -= 1
            if not self._awaited[address]:
                del self._awaited[address]


class Body(io.RawIOBase):
    """A request's body as WSGI reads it; whole within `timeout_s` of the first read, or reading raises Problem 408."""

    def __init__(
        self, protocol: Any, loop: asyncio.AbstractEventLoop, address: str, timeout_s: float, slow: SlowBodies
    ) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = loop
        self._address = address
        self._timeout_s = timeout_s
        self._slow = slow
        self._began_s: float | None = None
        self._is_slow = False
        self._ended = False
        self._held = bytearray()

    def hurry(self, timeout_s: float, slow: SlowBodies) -> None:
        """Has this time at most, and counts among these, from the next read on."""
        self._timeout_s, self._slow = min(timeout_s, self._timeout_s), slow

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes, or all; fewer only at the end."""
        wanted = sys.maxsize if size is None or size < 0 else size
        while len(self._held) < wanted and not self._ended:
            piece = self._next()
            self._held += piece
            self._ended = not piece
        given = bytes(self._held[:wanted])
        del self._held[:wanted]
        return given

    def close(self) -> None:
        """No more is read."""
        self._ended = True
        if self._is_slow:
            self._is_slow = False
            self._slow.remove(self._address)
        super().close()

    def _next(self) -> bytes:
        if self._began_s is None:
            self._began_s = time.monotonic()
            self._protocol.__aiter__()
        piece = asyncio.run_coroutine_threadsafe(_piece(self._protocol), self._loop)
        if not self._is_slow:
            try:
                return piece.result(self._left_s(min(PROMPT_S, self._timeout_s)))
            except TooSlow:
                self._begin_to_wait(piece)
        try:
            return piece.result(self._left_s(self._timeout_s))
        except (TooSlow, CancelledError):
            piece.cancel()
            detail = f"the body was not whole within {self._timeout_s:g} s"
            raise Problem(408, "body-too-slow", detail, {"Connection": "close"}) from None

    def _begin_to_wait(self, piece: "Future[bytes]") -> None:
        try:
            self._slow.add(self._address)
        except Problem:
            piece.cancel()
            raise
        self._is_slow = True

    def _left_s(self, of_s: float) -> float:
        return max(0.0, of_s - (time.monotonic() - (self._began_s or 0.0)))


async def _piece(protocol: Any) -> bytes:
    """The next bytes of the body; none at its end, or where the client has gone away."""
    try:
        piece: bytes = await protocol.__anext__()
    except StopAsyncIteration:
        return b""
    return piece


SLOW_BODIES = SlowBodies(most=REQUEST_THREADS // 2, most_of_one=REQUEST_THREADS // 8)
DOOR_BODIES = SlowBodies(most=32, most_of_one=8)


def hurry(environ: "WSGIEnvironment") -> None:
    """The body of this request, which needs no key, is awaited shortly and among others of its kind."""
    if isinstance(body := environ["wsgi.input"], Body):
        body.hurry(DOOR_TIMEOUT_S, DOOR_BODIES)


class Front:
    """This application as granian's worker calls it: `__rsgi__` is never awaited, threads take its requests first."""

    def __init__(self, application: "WSGIApplication", timeout_s: float) -> None:
        self._application = application
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(REQUEST_THREADS, thread_name_prefix="request")

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        raise RuntimeError("granian calls the scheduler, which answers every request; this is never awaited")

    def scheduler(self, loop: asyncio.AbstractEventLoop, *_: Any, **__: Any) -> CallbackScheduler:
        """What granian hands each request to."""
        return _Scheduler(loop, lambda request: self._threads.submit(self._answer, loop, request))

    def close(self) -> None:
        """Every request has been answered."""
        self._threads.shutdown()

    def _answer(self, loop: asyncio.AbstractEventLoop, request: Any) -> None:
        protocol = request.proto
        try:
            environ = environ_of(request.scope)
            address = environ["REMOTE_ADDR"]
            with Body(protocol, loop, address, self._timeout_s, SLOW_BODIES) as environ["wsgi.input"]:
                status, headers, body = _called(self._application, environ)
            protocol.response_bytes(status, headers, body)
        except Exception:  # the outermost edge of this thread
            log.exception("a request was not answered, by a defect")
            protocol.response_empty(500, [])
        finally:
            request.done()


class _Scheduler(CallbackScheduler):
    def __new__(cls, loop: asyncio.AbstractEventLoop, submit: Any) -> "_Scheduler":
        return super().__new__(cls, loop, None, None, None, None)  # type: ignore[call-arg]

    def __init__(self, loop: asyncio.AbstractEventLoop, submit: Any) -> None:
        super().__init__()
        self._schedule_fn = submit


def environ_of(scope: Any) -> "WSGIEnvironment":
    """The environ of PEP 3333 for this request, without its input."""
    server, server_port = _parted(scope.server)
    client, client_port = _parted(scope.client)
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": server,
        "SERVER_PORT": server_port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": client,
        "REMOTE_PORT": client_port,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,  # so that werkzeug reads bodies without a length
    }
    for name, value in scope.headers.items():
        if "_" in name:
            environ[AMBIGUOUS_HEADER] = name
            continue
        variable = _VARIABLES.get(name) or f"HTTP_{name.upper().replace('-', '_')}"
        if variable in environ:
            value = f"{environ[variable]}{'; ' if name == 'cookie' else ','}{value}"
        environ[variable] = value
    if "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority or ""
    return environ


_VARIABLES = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def _parted(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port


def _called(application: "WSGIApplication", environ: "WSGIEnvironment") -> tuple[int, list[tuple[str, str]], bytes]:
    """What the application answers: status, headers and body."""
    status, headers = 500, list[tuple[str, str]]()

    def start(line: str, given: list[tuple[str, str]], *_: Any) -> Any:
        nonlocal status, headers
        status, headers = int(line[:3]), given

    answer: Iterable[bytes] = application(environ, start)
    try:
        return status, headers, b"".join(answer)
    finally:
        if close := getattr(answer, "close", None):
            close()


def serve_worker(
    application: "WSGIApplication", timeout_s: float, worker_id: int, process_name: str | None, *granian: Any
) -> None:
    """Serves in this process, a worker of granian's, until it is asked to stop and every request is answered."""
    front = Front(application, timeout_s)
    mp._new_cbscheduler = front.scheduler  # type: ignore[attr-defined]
    Granian._spawn_rsgi_worker(worker_id, process_name, lambda: front, *granian)
    front.close()
