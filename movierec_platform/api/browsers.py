"""What browsers are told, and what keeps the pages of other sites out: the rule is that of `domain.browsers`."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from movierec_platform.api.errors import Problem
from movierec_platform.api.front import AMBIGUOUS_HEADER
from movierec_platform.config import Settings
from movierec_platform.domain.browsers import OWN_NAMES, is_own_page, listed, refusal, wrong_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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
    sites = frozenset(listed(settings.cors_origins))
    # Where keys are needed, a page would need one as well.
    names = None if settings.keys_required else {settings.api_host, *OWN_NAMES, *listed(settings.allowed_hosts)}
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
        if names is not None and (why := wrong_name(host, names)):
            raise Problem(400, "foreign-host", why)
        safe = not origin or origin in sites or request.method in SAFE_METHODS
        if not safe and not is_own_page(origin, request.host):
            raise Problem(403, "foreign-origin", f"pages of {origin[:100]!r} may not post to {request.host[:100]!r}")

    if sites:

        @app.after_request
        def open_to_sites(response: Response) -> Response:
            response.vary.add("Origin")
            if (origin := request.headers.get("Origin")) in sites:
                _open_to(origin, response)
            return response


def refuse_pages(app: Flask, names: Collection[str]) -> None:
    """From now on this app answers only by these names, and no page of another site."""

    @app.before_request
    def refuse() -> None:
        headers = {name.lower(): text for name, text in request.headers.items()}
        if why := refusal(headers, names):
            raise Problem(403, "foreign-page", why)


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
