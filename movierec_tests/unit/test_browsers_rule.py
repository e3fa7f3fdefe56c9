"""Which requests a server of this machine answers: Host, Origin and Sec-Fetch-Site of what browsers send."""

import pytest

from movierec_platform.domain.browsers import OWN_NAMES, refusal

HERE = {"host": "127.0.0.1:3000"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        HERE,
        {"host": "LOCALHOST:3000"},
        {"host": "[::1]:3000"},
        {"host": "dagster.example"},
        {**HERE, "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"},
        {**HERE, "sec-fetch-site": "none"},
        {"host": "dagster.example", "origin": "https://DAGSTER.example"},
    ],
)
def test_programs_and_own_pages_are_answered(headers: dict[str, str]) -> None:
    assert refusal(headers, {*OWN_NAMES, "dagster.example"}) is None


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"host": "evil.example:3000"}, "is not called 'evil.example:3000'"),
        ({"host": "localhost.evil.example"}, "is not called"),
        ({"host": "[::1"}, "is not called"),
        ({"host": "10.0.0.1"}, "is not called"),
        ({**HERE, "origin": "http://evil.example"}, "pages of 'http://evil.example' may not use"),
        ({**HERE, "origin": "http://127.0.0.1:3001"}, "may not use"),
        ({**HERE, "origin": "http://localhost:3000"}, "may not use"),
        ({**HERE, "origin": "null"}, "may not use"),
        ({**HERE, "origin": "http://["}, "may not use"),
        ({**HERE, "sec-fetch-site": "cross-site"}, "pages of other sites"),
        ({**HERE, "sec-fetch-site": "same-site", **LINK}, "pages of other sites"),
    ],
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str], why: str) -> None:
    assert why in (refusal(headers, OWN_NAMES) or "")


def test_a_link_is_followed_where_that_does_nothing() -> None:
    assert refusal({**HERE, "sec-fetch-site": "cross-site", **LINK}, OWN_NAMES, links=True) is None
    framed = {**LINK, "sec-fetch-dest": "iframe"}
    assert refusal({**HERE, "sec-fetch-site": "cross-site", **framed}, OWN_NAMES, links=True)
    assert refusal({**HERE, "sec-fetch-site": "cross-site", **LINK, "origin": "http://evil.example"}, OWN_NAMES, True)
