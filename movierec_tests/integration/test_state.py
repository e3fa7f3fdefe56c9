"""The state database: sums add up across processes' connections."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, load_settings
from movierec_platform.errors import StateUnavailable


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return load_settings({"home": tmp_path / "home", "state_url": SecretStr("")})


def test_counters_add_up_between_connections(own: Settings) -> None:
    def add_often(_: int) -> None:
        state = State.open(own)
        for _ in range(20):
            state.add({("landed", ()): 1, ("rejected", (("reason", "poison"),)): 2})
        state.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_often, range(4)))
    assert State.open(own).counters() == {("landed", ()): 80, ("rejected", (("reason", "poison"),)): 160}


def test_a_mark_is_what_was_set_last(own: Settings) -> None:
    state = State.open(own)
    assert state.marked("drained") is None
    state.mark("drained", 1)
    state.mark("drained", 2)
    assert State.open(own).marked("drained") == 2


def test_a_database_that_cannot_be_opened_is_unavailable_and_its_password_unsaid(tmp_path: Path) -> None:
    settings = load_settings(
        {"home": tmp_path, "state_url": SecretStr("postgresql+psycopg2://me:hunter2@127.0.0.1:9/none")}
    )
    with pytest.raises(StateUnavailable) as refused:
        State.open(settings)
    assert "hunter2" not in f"{refused.value}{settings!r}"
