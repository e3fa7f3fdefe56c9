"""Dagster's webserver over GraphQL. A call has 3 s to connect and 30 s to answer; DagsterUnavailable beyond."""

from collections.abc import Mapping
from typing import Any

import requests

from movierec_platform.adapters.http import http_session
from movierec_platform.errors import DagsterUnavailable

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0


def graphql(url: str, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The data of the answer."""
    try:
        with http_session() as session:
            response = session.post(
                f"{url.rstrip('/')}/graphql",
                json={"query": query, "variables": dict(variables or {})},
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            )
        body = response.json()
    except requests.RequestException as error:
        raise DagsterUnavailable(f"Dagster's webserver at {url} does not answer ({error}); is the stack up?") from error
    if not isinstance(body, dict):
        raise DagsterUnavailable(f"what answers at {url} is not Dagster's webserver: is DAGSTER_URL right?")
    if body.get("data") is None:
        raise DagsterUnavailable(f"Dagster's webserver at {url} refused the request: {body.get('errors', body)}")
    data: dict[str, Any] = body["data"]
    return data
