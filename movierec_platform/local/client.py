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


def get_recommendations(api_url: str, user_id: int, n: int, headers: Mapping[str, str] = NO_HEADERS) -> dict[str, Any]:
    """The API's answer for this user. Raises Transient when it is away or has no catalogue yet."""
    try:
        address = f"{api_url}/recommend/{user_id}"
        with http_session(headers) as session:
            answer = session.get(address, params={"n": n}, timeout=TIMEOUT_S)
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
    """Returns once the API recommends from this similarity. Raises Transient when it does not within 30 s."""
    deadline = time.monotonic() + SERVED_TIMEOUT_S
    while get_recommendations(api_url, 1, 1, headers)["snapshot"] != version:
        if time.monotonic() > deadline:
            raise Transient(f"the API at {api_url} still serves another similarity than the published {version}")
        on_wait()
        time.sleep(POLL_S)
