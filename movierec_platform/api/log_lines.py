"""The log of the API and of the exporter: a JSON object a line, on standard error."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from select import PIPE_BUF

import orjson

WRITTEN_EVERY_S = 0.1
"""Lines below a warning wait so long for others: with a write for each request every thread would wait for others."""


def log_json_lines() -> Callable[[], None]:
    """From now on this process logs so: our own log from info up, that of libraries from warning up.

    Returns what writes the lines that still wait, for a process that does not end as Python ends.
    """
    # What no line shows is not found out either: a third of what a record costs, and there is one for each request.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    lines = _JsonLines()
    logging.basicConfig(level=logging.WARNING, handlers=[lines], force=True)
    logging.getLogger("movierec_platform").setLevel(logging.INFO)
    return lines.flush


class _JsonLines(logging.Handler):
    """A line a record; one whose message is a mapping has its keys."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter = logging.Formatter()
        self._waiting: list[bytes] = []
        self._due = threading.Event()
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        said = record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, **said}
        if record.exc_info:
            line["exception"] = self._formatter.formatException(record.exc_info)
        self._waiting.append(orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        if record.levelno >= logging.WARNING:
            self.flush()
        elif len(self._waiting) == 1:
            self._due.set()

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

    def _write_on(self) -> None:
        while self._due.wait():
            self._due.clear()
            time.sleep(WRITTEN_EVERY_S)
            self.flush()


def _write(lines: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more: that is no failure of the request
        os.write(sys.stderr.fileno(), lines)
