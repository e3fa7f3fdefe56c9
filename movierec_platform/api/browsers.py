"""What browsers are told, and what keeps the pages of other sites out.

A page that the user of this machine has open could post to a loopback address; and with a name of its own that resolves
to that address (DNS rebinding), it could read the answers too.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Response, request

from movierec_platform.api.errors import Problem
from movierec_platform.api.front import AMBIGUOUS_HEADER
from movierec_platform.config import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OWN_NAMES = ("localhost", "127.0.0.1", "::1")
POLICY = "Content-Security-Policy"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_TOLD = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
]
_USUAL_POLICY = (POLICY, "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
_READABLE = "X-Request-ID, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
_SENDABLE = "Authorization, X-API-Key, Content-Type, Content-Encoding, X-Request-ID"
_PREFLIGHT_KEPT_S = 600


def guard_browsers(app: Flask, settings: Settings) -> None:
    """From now on this app answers only by its own names where no key is needed, no foreign page may post, and every
    answer has the headers that browsers heed; an answer may have a Content-Security-Policy of its own."""
    sites = frozenset(_listed(settings.cors_origins))
    # Where keys are needed, a page would need one as well.
    names = None if settings.keys_required else {settings.api_host, *OWN_NAMES, *_listed(settings.allowed_hosts)}
    app.wsgi_app = _telling(app.wsgi_app)  # type: ignore[assignment,method-assign]

    @app.before_request
    def refuse_ambiguous() -> None:
        """A proxy in front may have let through, or set, the header of the other name alone."""
        if name := request.environ.get(AMBIGUOUS_HEADER):
            raise Problem(400, "ambiguous-header", f"the header {name[:100]!r} has a `_` in its name: use `-`")

    @app.before_request
    def refuse_foreign() -> None:
        """Flask's TRUSTED_HOSTS would refuse every IPv6 address. Browsers name the site of a page in Origin."""
        environ = request.environ
        host: str = environ.get("HTTP_HOST", "")
        origin: str = environ.get("HTTP_ORIGIN", "")
        if names is not None and host and _name_in(host) not in names:
            known = "use 127.0.0.1 or localhost, or add the name to MOVIEREC_ALLOWED_HOSTS"
            raise Problem(400, "foreign-host", f"this API is not called {host[:100]!r}: {known}")
        safe = not origin or origin in sites or request.method in SAFE_METHODS
        if not safe and not is_of_this_site(origin):
            raise Problem(403, "foreign-origin", f"pages of {origin[:100]!r} may not post to {request.host[:100]!r}")

    if sites:

        @app.after_request
        def open_to_sites(response: Response) -> Response:
            response.vary.add("Origin")
            if (origin := request.headers.get("Origin")) in sites:
                _open_to(origin, response)
            return response


def is_of_this_site(origin: str) -> bool:
    """Whether this Origin is that of a page that came from the host which the request asks."""
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:  # a bracket that is not closed, a character that is none of an address
        return False


def _telling(application: "WSGIApplication") -> "WSGIApplication":
    """The application with constant headers on its answers; in Flask's response each would first be looked for."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            own_policy = any(name == POLICY for name, _ in headers)
            return start_response(status, headers + _TOLD + ([] if own_policy else [_USUAL_POLICY]), *exc_info)

        return application(environ, start)

    return answer


def _open_to(origin: str, response: Response) -> None:
    """The pages of this site may read the answer, and send what a preflight asks for."""
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _READABLE
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "GET")
        response.headers["Access-Control-Allow-Headers"] = _SENDABLE
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_KEPT_S)


@lru_cache(64)
def _name_in(host: str) -> str | None:
    """The name or address in a Host header, without the port; None where it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _listed(text: str) -> list[str]:
    return [one.strip().rstrip("/") for one in text.split(",") if one.strip()]
