"""How often one may ask: a moving window for each key, or for each address where there is none; 429 beyond it.

The windows are in the memory of one process: several processes, or hosts, allow as many times more.
"""

import math
import time

from flask import Flask, Response, g, request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from movierec_platform.api.browsers import SAFE_METHODS
from movierec_platform.api.errors import Problem


class RateLimits:
    """These limits (`50/second;2000/minute`), for whoever is named; thread-safe."""

    def __init__(self, text: str) -> None:
        self._limits = parse_many(text)
        self._windows = MovingWindowRateLimiter(MemoryStorage())

    def hit(self, who: str) -> dict[str, str]:
        """One request more of theirs; the headers that tell how many are left. Raises Problem 429 when none is."""
        for limit in self._limits:
            if not self._windows.hit(limit, who):
                raise self._refusal(limit, who)
        tightest = min(self._limits, key=lambda limit: self._windows.get_window_stats(limit, who).remaining)
        return self._told(tightest, who)

    def check(self, who: str) -> None:
        """Raises Problem 429 when `hit` would; nothing is counted."""
        for limit in self._limits:
            if not self._windows.test(limit, who):
                raise self._refusal(limit, who)

    def _refusal(self, limit: RateLimitItem, who: str) -> Problem:
        headers = self._told(limit, who)
        retry = headers["RateLimit-Reset"]
        detail = f"more than {limit} are not answered: ask again in {retry} s"
        return Problem(429, "too-many-requests", detail, {"Retry-After": retry, **headers})

    def _told(self, limit: RateLimitItem, who: str) -> dict[str, str]:
        stats = self._windows.get_window_stats(limit, who)
        return {
            "RateLimit-Limit": str(limit.amount),
            "RateLimit-Remaining": str(stats.remaining),
            "RateLimit-Reset": str(max(1, math.ceil(stats.reset_time - time.time()))),
        }


def limit_requests(app: Flask, limits: RateLimits, open_to_all: frozenset[str]) -> None:
    """From now on requests of this app count, but for those that read what these blueprints show to everybody.

    To be called after `require_keys`.
    """

    @app.before_request
    def count() -> None:
        if request.blueprint not in open_to_all or request.method not in SAFE_METHODS:
            key = g.get("key")
            g.limits_told = limits.hit(f"key {key.id}" if key else client())

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers.update(g.get("limits_told", {}))
        return response


def client() -> str:
    """The address that asks: that of the proxy, behind one."""
    return f"address {request.remote_addr}"
