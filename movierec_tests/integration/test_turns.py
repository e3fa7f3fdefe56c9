"""Who writes in bulk waits for the other and says so; a conflict in the graph is told as one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from movierec_platform.adapters.graph import Graph
from movierec_platform.config import load_settings
from movierec_platform.errors import GraphConflict, GraphUnavailable
from movierec_platform.services.turns import writing_in_bulk


@pytest.fixture(params=["this host", "postgres"])
def own(request, tmp_path):
    """Where leases are files, and where they are in the state database."""
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgres" else ""
    return load_settings({"home": tmp_path, "state_url": url})


def test_the_second_waits_says_for_what_and_goes_on(own):
    told: list[str] = []
    waits = threading.Event()

    def second() -> list[str]:
        with writing_in_bulk(own, lambda sentence: (told.append(sentence), waits.set())):
            return [*told, *order]

    order: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with writing_in_bulk(own, told.append):
            result = pool.submit(second)
            assert waits.wait(60)
            order.append("the first has ended")
        assert result.result() == [
            "another job writes much into the graph: waiting until it has ended, for 3600 s at most",
            "the first has ended",
        ]


def test_who_waited_in_vain_may_try_again(own):
    again = pytest.raises(GraphConflict, match="do this again when it has ended")
    with writing_in_bulk(own), again, writing_in_bulk(own, wait_s=0.2):
        pytest.fail("two at once")


def test_a_conflict_in_the_graph_is_told_as_one(settings, clean_graph: Graph):
    fields = {"year": None, "genres": ["A", "B"], "rating_count": 0, "rating_mean": None}
    failed: list[Exception] = []

    def write(writer: int) -> None:
        with Graph.open(settings, retry_s=0.0) as graph:
            for number in range(20):
                movies = [{"id": movie, "title": f"{writer} {number}", **fields} for movie in range(1, 200)]
                try:
                    graph.merge_movies(movies)
                except (GraphConflict, GraphUnavailable) as error:
                    failed.append(error)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert failed, "they met"
    assert {type(error) for error in failed} == {GraphConflict}
    assert "others write the same part of the graph" in str(failed[0])
