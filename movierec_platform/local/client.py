"""A client of the API, for the CLI and the demo."""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import requests

from movierec_platform.adapters.http import http_session
from movierec_platform.config import Settings
from movierec_platform.errors import Transient, UsageError

TIMEOUT_S = 15
SERVED_TIMEOUT_S = 30.0
POLL_S = 0.2
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def credentials(settings: Settings) -> dict[str, str]:
    """The header that carries the settings' API key; none without one."""
    return {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"} if settings.api_key else {}


def get_recommendations(
    api_url: str, user_id: int, asked: Mapping[str, Any], headers: Mapping[str, str] = NO_HEADERS
) -> dict[str, Any]:
    """The API's answer for this user and these parameters, those that are None left out.

    Raises Transient when it is away or has no catalogue yet, UsageError when it refuses a parameter.
    """
    return _get(api_url, f"/recommend/{user_id}", asked, headers)


def get_history(api_url: str, user_id: int, headers: Mapping[str, str] = NO_HEADERS) -> dict[str, Any]:
    """How many films this user has seen, and the latest. Raises as `get_recommendations`."""
    return _get(api_url, f"/v1/users/{user_id}/history", {"n": 1}, headers)


def _get(api_url: str, path: str, asked: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        with http_session(headers) as session:
            answer = session.get(f"{api_url}{path}", params=dict(asked), timeout=TIMEOUT_S)
        body: Any = answer.json()
    except requests.RequestException as error:
        raise Transient(f"the API at {api_url} does not answer ({error}); start it with `movierec up`") from error
    if not isinstance(body, dict):
        raise UsageError(f"what answers at {api_url} is not the API: is MOVIEREC_API_URL right?")
    if answer.status_code >= 500:
        raise Transient(f"the API at {api_url} cannot answer now: {body.get('detail', answer.text)}")
    if answer.status_code != 200:
        raise UsageError(f"the API at {api_url} refuses the request: {body.get('detail', answer.text)}")
    return body


def wait_until_served(
    api_url: str, version: str, on_wait: Callable[[], None] = lambda: None, headers: Mapping[str, str] = NO_HEADERS
) -> None:
    """Returns once the API recommends from this similarity.

    Raises Transient when it does not within 30 s, be it that it does not answer or that it serves another.
    """
    deadline = time.monotonic() + SERVED_TIMEOUT_S
    while True:
        failure = Transient(f"the API at {api_url} still serves another similarity than the published {version}")
        try:
            if get_recommendations(api_url, 1, {"n": 1}, headers)["snapshot"] == version:
                return
        except Transient as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        on_wait()
        time.sleep(POLL_S)
