"""Who may ask what: an API key with the scope of the route, where the settings require keys.

Where they do not, everybody who reaches the API may do everything: programs of this machine.
"""

from collections.abc import Callable, Mapping

from flask import Flask, g, request

from movierec_platform.api.errors import Problem
from movierec_platform.api.limits import RateLimits, client
from movierec_platform.api.observed import tell
from movierec_platform.domain.browsers import is_own_page
from movierec_platform.domain.keys import Key, Scope
from movierec_platform.services.keys import Verifier

KEY_COOKIE = "movierec_key"
"""In which a browser keeps the key that was given on our page; scripts cannot read it (HttpOnly)."""


def require_keys(
    app: Flask, verifier: Verifier, scopes: Mapping[str, Scope | None], limits: RateLimits | None = None
) -> None:
    """From now on requests of this app need a key with the scope of their blueprint, by its name here.

    OPTIONS needs none: browsers ask it without. A path that does not exist needs any key. Requests without a right key
    count for the limit of their address; beyond it no key is looked up that is not known already.
    """

    def check_limits() -> None:
        if limits:
            limits.check(client())

    @app.before_request
    def check() -> None:
        blueprint = request.blueprint or ""
        scope = scopes.get(blueprint)
        if request.method == "OPTIONS" or (blueprint in scopes and scope is None):
            return
        try:
            g.key = key = _key(verifier, check_limits)
        except Problem:
            if limits:
                limits.hit(client())
            raise
        tell(key=key.id)
        if scope and scope not in key.scopes:
            has = " and ".join(key.scopes)
            detail = f"this needs a key with the scope {scope}; yours has {has}"
            asked = {"WWW-Authenticate": f'Bearer realm="movierec", error="insufficient_scope", scope="{scope}"'}
            raise Problem(403, "missing-scope", detail, asked)


def actor() -> str:
    """Who acts, for the quarantine's history: `api`, with the key's id where there is one."""
    key: Key | None = g.get("key")
    return f"api:{key.id}" if key else "api"


def _key(verifier: Verifier, before_look_up: Callable[[], object]) -> Key:
    """The active key that the request gives."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    text = given.strip() if kind.lower() == "bearer" else request.headers.get("X-API-Key", "")
    if not text and _asked_by_our_page():
        text = request.cookies.get(KEY_COOKIE, "")
    if not text:
        detail = "this needs an API key: send it as `Authorization: Bearer mrk_...` or `X-API-Key: mrk_...`"
        raise Problem(401, "key-required", detail, {"WWW-Authenticate": 'Bearer realm="movierec"'})
    key = verifier.verify(text, before_look_up)
    if key is None:
        asked = {"WWW-Authenticate": 'Bearer realm="movierec", error="invalid_token"'}
        raise Problem(401, "invalid-key", "this API key is unknown, expired or revoked: ask for a new one", asked)
    return key


def _asked_by_our_page() -> bool:
    """Whether a cookie may count: the request is of a page of ours, or a person opened the address.

    SameSite=Strict keeps cookies from other sites' requests, but a site's other ports and subdomains are not such.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "none")
    return site in ("same-origin", "none") and (origin is None or is_own_page(origin, request.host))
