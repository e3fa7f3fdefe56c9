"""What is printed of a load is what Locust counted."""

import pytest

from movierec_platform.local.locust import Endpoint, endpoints_of, percentile


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ({}, 0.5, 0),
        ({7: 1}, 0.5, 7),
        ({7: 1}, 0.99, 7),
        ({1: 50, 2: 50}, 0.5, 2),
        ({1: 51, 2: 49}, 0.5, 1),
        ({30: 1, 10: 98, 20: 1}, 0.99, 30),
        ({30: 1, 10: 98, 20: 1}, 0.98, 20),
        ({1: 1, 9: 1}, 1.0, 9),
    ],
)
def test_a_percentile_is_the_value_below_which_that_share_is(counts: dict[int, int], share: float, value: int) -> None:
    assert percentile(counts, share) == value


def test_endpoints_are_in_order_and_all_of_them_count_together() -> None:
    def entry(method: str, name: str, times: dict[str, int], failures: int, last: float | None) -> dict:
        return {
            "method": method,
            "name": name,
            "num_requests": sum(times.values()),
            "num_failures": failures,
            "response_times": times,
            "start_time": 100.0,
            "last_request_timestamp": last,
        }

    entries = [entry("POST", "/b", {"10": 3, "1000.0": 1}, 1, 104.0), entry("GET", "/a", {"10": 6}, 0, 102.0)]
    assert endpoints_of(entries) == [
        Endpoint("GET /a", 6, 0, 1.5, 10, 10, 10),
        Endpoint("POST /b", 4, 1, 1.0, 10, 1000, 1000),
        Endpoint("all", 10, 1, 2.5, 10, 1000, 1000),
    ]
    assert endpoints_of([]) == []
    assert endpoints_of([entry("GET", "/a", {}, 0, None)])[0].requests_per_s == 0.0
