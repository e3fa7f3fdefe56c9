"""What is seen of a request: an id, a line in the log, a count. As WSGI, for hooks of Flask cost several times more."""

import logging
import random
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, request

from movierec_platform.adapters.log_lines import about

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

access_log = logging.getLogger("movierec_platform.access")

_TOLD = "movierec.told"
_REQUEST_ID = "movierec.request_id"
_CLIENTS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def request_id() -> str | None:
    """The id of this request; None in an application that is not observed."""
    return request.environ.get(_REQUEST_ID)


def tell(**more: Any) -> None:
    """The line in the log about this request has these fields too."""
    request.environ.setdefault(_TOLD, {}).update(more)


def observe(app: Flask, answered: Callable[[str, str, int, float], None]) -> None:
    """Every answer carries X-Request-ID (the client's, if it gave one), has one line in the log, and is counted:
    `answered` is called with route, method, status and seconds."""
    application = app.wsgi_app

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        started_s = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        # Not a secret, so no system call: a uuid4 is a tenth of what a small request costs.
        its_id = given if _CLIENTS_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        environ[_REQUEST_ID] = its_id
        status, route = 500, "unmatched"

        def start(line: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal status, route
            status = int(line[:3])
            rule = environ["werkzeug.request"].url_rule  # gone when Flask is done with it
            route = rule.rule if rule else route
            return start_response(line, [*headers, ("X-Request-ID", its_id)], *exc_info)

        with about(request_id=its_id):
            body = application(environ, start)
            seconds, method = time.perf_counter() - started_s, environ["REQUEST_METHOD"]
            answered(route, method, status, seconds)
            access_log.info(
                {
                    "method": method[:16],
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "request_id": its_id,
                    **environ.get(_TOLD, {}),
                }
            )
            return body

    app.wsgi_app = answer  # type: ignore[method-assign]
