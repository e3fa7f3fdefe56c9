"""The log of our processes on standard error: a JSON object a line, or coloured text for a person at a terminal."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime, timezone
from select import PIPE_BUF
from types import MappingProxyType
from typing import Any

import orjson

from movierec_platform.config import Settings
from movierec_platform.domain.texts import harmless

OURS = "movierec_platform"
WRITTEN_EVERY_S = 0.1
"""Lines below a warning wait so long for others: with a write for each request every thread would wait for others."""

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextlib.contextmanager
def about(**known: Any) -> Iterator[None]:
    """Every line that is logged inside has these fields too: the ids of the request, or of the run, at work."""
    before = _about.set({**_about.get(), **known})
    try:
        yield
    finally:
        _about.reset(before)


def log_lines(settings: Settings) -> Callable[[], None]:
    """From now on this process logs so: our own log from info up, that of libraries from warning up.

    Returns what writes the lines that still wait, for a process that does not end as Python ends.
    """
    # What no line shows is not found out either: a third of what a record costs, and there is one for each request.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = _handler(settings)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(OURS).setLevel(logging.INFO)
    return handler.flush


@contextlib.contextmanager
def own_log_lines(settings: Settings) -> Iterator[None]:
    """The same inside, of our own log alone: the process is another's, who has arranged for the rest."""
    ours, handler = logging.getLogger(OURS), _handler(settings)
    before = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.flush()
        handler.close()
        ours.setLevel(before[0])
        ours.propagate = before[1]


def _handler(settings: Settings) -> logging.Handler:
    if settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stderr.isatty()):
        return _pretty()
    return _JsonLines()


def _said(record: logging.LogRecord) -> dict[str, Any]:
    """What the record says: a mapping is logged as its keys, anything else as the message."""
    if isinstance(record.msg, dict):
        return {**_about.get(), **record.msg}
    try:
        message = record.getMessage()
    except Exception:  # arguments that do not fit, or cannot be shown: no reason to fail who logs
        message = f"{_shown(record.msg)} (its arguments cannot be shown)"
    return {**_about.get(), "message": message}


def _shown(value: Any) -> str:
    """As text of ASCII, whatever it is."""
    try:
        return ascii(value) if not isinstance(value, str) else value.encode("ascii", "backslashreplace").decode()
    except Exception:
        return f"an unprintable {type(value).__name__}"


class _JsonLines(logging.Handler):
    """A line a record. It never raises into its caller: what cannot be written as it is is written as its text."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter = logging.Formatter()
        self._waiting: list[bytes] = []

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, **_said(record)}
        if record.exc_info:
            line["exception"] = self._formatter.formatException(record.exc_info)
        try:
            written = _dumped(line)
        except (TypeError, ValueError, RecursionError):  # half a character, a key that is no text, a huge number
            written = _dumped({_shown(name): _shown(value) for name, value in line.items()} | {"at": at})
        self._waiting.append(written)
        if record.levelno >= logging.WARNING or not (len(self._waiting) > 1 or self._flushed_later()):
            self.flush()

    def _flushed_later(self) -> bool:
        """Whether a thread will do that: at its end the interpreter starts none."""
        later = threading.Timer(WRITTEN_EVERY_S, self.flush)
        later.daemon = True
        try:
            later.start()
        except RuntimeError:
            return False
        return True

    def flush(self) -> None:
        """Every line so far is written, whole beside those of other processes."""
        with self.lock or contextlib.nullcontext():
            lines, self._waiting = self._waiting, []
            written = b""
            for line in lines:
                if len(written) + len(line) > PIPE_BUF:  # of so much at once a pipe keeps the bytes together
                    _write(written)
                    written = b""
                written += line
            _write(written)


def _dumped(line: Mapping[str, Any]) -> bytes:
    return orjson.dumps(line, default=_text, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return _shown(value)


def _write(lines: bytes) -> None:
    # Nobody reads any more, or standard error is closed: that is no failure of the request.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), lines)


def _pretty() -> logging.Handler:
    # Rich takes as long to import as half of the API's worker: only who looks at a terminal pays.
    from rich.console import Console
    from rich.logging import RichHandler

    class Pretty(RichHandler):
        """Never raises into its caller, be its terminal gone."""

        def emit(self, record: logging.LogRecord) -> None:
            with contextlib.suppress(Exception):
                super().emit(record)

    handler = Pretty(console=Console(stderr=True), show_path=False, log_time_format="[%X]")
    handler.setFormatter(_Sentences())
    return handler


class _Sentences(logging.Formatter):
    """The message, then what else the record says, as name=value; an exception below."""

    def format(self, record: logging.LogRecord) -> str:
        said = _said(record)
        message = said.pop("message", record.name.removeprefix("movierec_platform."))
        text = " ".join([_text(message), *(f"{name}={_text(value)}" for name, value in said.items())])
        return harmless(f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text)
