"""Every route does what /openapi.json says of it, whatever it is sent: schemathesis asks, seeded and bounded."""

from contextlib import suppress

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from movierec_platform.api.app import create_app, services_of
from movierec_platform.domain.keys import SCOPES
from movierec_platform.services.keys import Keys
from movierec_tests.api.conftest import ANA
from movierec_tests.api.test_quarantine_api import held

EXAMPLES = 8
"""Requests to a route that it should take, and as many that it should not; all of this is to take less than 25 s."""

BOUNDED = hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def app(platform):
    """An application that wants keys, over the real servers with everything loaded."""
    app = create_app(platform.settings.model_copy(update={"require_keys": True, "snapshot_poll_s": 3600.0}))
    services_of(app).snapshots.refresh()
    yield app
    services_of(app).close()


@pytest.fixture
def credentials(app):
    return {"Authorization": f"Bearer {Keys(services_of(app).state().keys).create('fuzz', SCOPES).text}"}


@pytest.fixture
def described(app):
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def test_whatever_is_sent_the_answer_is_one_that_is_described(described, credentials):
    for operation in (found.ok() for found in described.get_all_operations()):
        for mode in GenerationMode:

            @BOUNDED
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def fuzz(case):
                # What may be given together (ids, filters, all), or is a moment in time, a JSON schema does not say.
                case.call_and_validate(headers=credentials, excluded_checks=[positive_data_acceptance])

            # A route that takes nothing cannot be given anything wrong.
            with suppress(Unsatisfiable if mode is GenerationMode.NEGATIVE else ()):
                fuzz()


def test_what_is_found_is_as_described_too(described, credentials, platform):
    held(platform.settings).close()
    row = {"row_id": "0001"}
    event = {"user_id": 1, "movie_id": 1, "rating": 4}
    for method, path, said in (
        ("GET", "/recommend/{user}", {"path_parameters": {"user": ANA}}),
        ("GET", "/v1/quarantine", {}),
        ("GET", "/v1/quarantine/{row_id}", {"path_parameters": row}),
        ("PATCH", "/v1/quarantine/{row_id}", {"path_parameters": row, "body": event}),
        ("POST", "/v1/quarantine/redrive", {"body": {"ids": ["0001"]}}),
        ("POST", "/v1/quarantine/discard", {"body": {"all": True}}),
        ("POST", "/v1/keys", {"body": {"name": "shop", "scopes": ["read"]}}),
    ):
        media_type = "application/json" if "body" in said else None
        case = described[path][method].Case(headers=credentials, media_type=media_type, **said)
        assert case.call_and_validate().status_code in (200, 201), f"{method} {path}"
