"""The log of the API and of the exporter: a JSON object a line, on standard error."""

import logging
import os
import sys
from datetime import datetime, timezone

import orjson


def log_json_lines() -> None:
    """From now on this process logs so: our own log from info up, that of libraries from warning up."""
    # What no line shows is not found out either: a third of what a record costs, and there is one for each request.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=logging.WARNING, handlers=[_JsonLines()], force=True)
    logging.getLogger("movierec_platform").setLevel(logging.INFO)


class _JsonLines(logging.Handler):
    """A line a record; one whose message is a mapping has its keys. A line is one write, whole beside those of other
    processes."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        said = record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        at = datetime.fromtimestamp(record.created, timezone.utc).replace(tzinfo=None)
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, **said}
        if record.exc_info:
            line["exception"] = self._formatter.formatException(record.exc_info)
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
        try:
            os.write(sys.stderr.fileno(), orjson.dumps(line, default=str, option=options))
        except OSError:  # nobody reads any more: that is no failure of the request
            self.handleError(record)
