"""HTTP sessions for servers named by the settings: loopback goes through no proxy, and no .netrc is read."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from movierec_platform.config import is_this_machine


class HttpSession(requests.Session):
    """A session that reaches servers of this machine through no proxy, and never reads a `.netrc`.

    Other servers are reached through the proxies of the environment. Who asks is said by the request's own headers or
    auth alone: an entry of a `.netrc` would replace our key by the password of another service.
    """

    def __init__(self) -> None:
        super().__init__()
        self.auth = _as_it_is  # without one, requests looks into .netrc

    def merge_environment_settings(self, url: Any, *options: Any, **named: Any) -> Any:
        """What a request to this address is sent with."""
        merged = super().merge_environment_settings(url, *options, **named)
        return {**merged, "proxies": {}} if _is_here(url) else merged

    def rebuild_proxies(self, prepared_request: requests.PreparedRequest, proxies: Any) -> Any:
        """Those of a redirect."""
        rebuilt = super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]
        return {} if _is_here(prepared_request.url) else rebuilt

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """A redirect to another server carries no credentials, and is given none of a .netrc."""
        before, after = response.request.url, prepared_request.url
        if self.should_strip_auth(before, after):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def http_session(headers: Mapping[str, str] | None = None) -> HttpSession:
    """A session that sends these headers with every request; to be closed."""
    session = HttpSession()
    session.headers.update(headers or {})
    return session


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_here(url: str | None) -> bool:
    return is_this_machine(urlsplit(url or "").hostname or "")
