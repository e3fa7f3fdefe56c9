"""Arguments are read strictly, refused with one sentence, and described as they are read."""

from dataclasses import dataclass
from typing import Literal

import pytest
from flask import Response
from pydantic import Field

from movierec_platform.api.arguments import Body, Flag, Id, Path, Query, Whole
from movierec_platform.api.document import blueprint, describe, openapi_app
from movierec_platform.api.errors import answer_errors
from movierec_platform.api.routes import Routes, answer


class ShelfPath(Path):
    shelf: Id = Field(title="the shelf id")


class ShelfQuery(Query):
    n: Whole = Field(5, ge=1, le=9)
    share: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    kind: Literal["old", "new"] = "new"
    deep: Flag = False
    skip: list[Id] = Field([], max_length=3)
    word: str = Field("", max_length=4)


class Note(Body):
    text: str
    stars: int = Field(1, ge=1, le=5)


@pytest.fixture(scope="module")
def client():
    app = openapi_app("movierec_platform.shelves")
    routes = Routes("shelves", "Shelves.", "read")

    @routes.get("/shelves/<shelf>", responses=routes.answers(dict[str, int]))
    def look(path: ShelfPath, query: ShelfQuery) -> Response:
        """What was understood."""
        return answer({**path.model_dump(), **query.model_dump()})

    @routes.post("/notes", responses=routes.answers(dict[str, int]))
    def write(body: Note) -> Response:
        """What was understood."""
        return answer(body.model_dump())

    answer_errors(app)
    describe(app, routes)
    describe(app, blueprint(app, keys_required=False))
    return app.test_client()


def test_what_is_not_given_has_its_default(client):
    assert client.get("/shelves/7").json == {
        "shelf": 7,
        "n": 5,
        "share": 0.5,
        "kind": "new",
        "deep": False,
        "skip": [],
        "word": "",
    }


@pytest.mark.parametrize(
    ("query", "path", "detail"),
    [
        ("word=%ff%fe", "/shelves/7", "the query is not UTF-8"),
        ("%ff=1", "/shelves/7", "the query is not UTF-8"),
        ("", "/shelves/\xff", "the path is not UTF-8"),
    ],
)
def test_what_is_not_utf8_is_refused_rather_than_read_as_something_else(client, query, path, detail):
    refused = client.get(f"/shelves/7?{query}", environ_overrides={"PATH_INFO": path})  # as a server hands it on
    assert (refused.status_code, refused.json["detail"]) == (400, detail)


def test_text_in_a_url_is_what_was_typed(client):
    assert client.get("/shelves/7?word=%C3%A9%25ff").json["word"] == "é%ff"
    assert (
        client.get("/shelves/%25ff").json["detail"]
        == "the shelf id is a whole number from 1 to 9223372036854775807, not '%ff'"
    )


@pytest.mark.parametrize("query", ["skip=1&skip=2&skip=3", "skip=1,2,3", "skip=1,2&skip=3"])
def test_a_list_is_given_in_parts_or_with_commas(client, query):
    assert client.get(f"/shelves/7?{query}").json["skip"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/shelves/0", "the shelf id is a whole number from 1 to 9223372036854775807, not '0'"),
        ("/shelves/7?n=0", "n is a whole number from 1 to 9, not '0'"),
        ("/shelves/7?n=%2B1", "n is a whole number from 1 to 9, not '+1'"),
        ("/shelves/7?n=1_0", "n is a whole number from 1 to 9, not '1_0'"),
        ("/shelves/7?n=1&n=1", "n is given 2 times: give it once"),
        ("/shelves/7?m=1", "there is no parameter 'm' here; there are: n, share, kind, deep, skip, word"),
        ("/shelves/7?m=1&m=2", "there is no parameter 'm' here; there are: n, share, kind, deep, skip, word"),
        ("/shelves/7?share=2", "share is a number from 0 to 1, not '2'"),
        ("/shelves/7?share=nan", "share is a number from 0 to 1, not 'nan'"),
        ("/shelves/7?kind=odd", "kind is one of old, new, not 'odd'"),
        ("/shelves/7?deep=yes", "deep is true or false, not 'yes'"),
        ("/shelves/7?skip=1,x", "each of skip is a whole number from 1 to 9223372036854775807, not 'x'"),
        ("/shelves/7?skip=1,", "each of skip is a whole number from 1 to 9223372036854775807, not ''"),
        ("/shelves/7?skip=1,2,3,4", "skip: List should have at most 3 items after validation, not 4"),
        ("/shelves/7?word=longer", "word: String should have at most 4 characters"),
        (f"/shelves/{'9' * 99}", f"the shelf id is a whole number from 1 to 9223372036854775807, not '{'9' * 37}...'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(client, path, detail):
    refused = client.get(path)
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/bad-parameter")
    assert refused.json["detail"] == detail


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b'{"text": "a", "stars": 6}', 400, "stars: Input should be less than or equal to 5"),
        (b'{"text": "a", "star": 1}', 400, "star: Extra inputs are not permitted"),
        (b'{"text": 1}', 400, "text: Input should be a valid string"),
        (b"", 400, "the body: Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"\xff", 400, "the body is not UTF-8"),
        (b'"' + b"x" * 70_000 + b'"', 413, "the body is longer than 65536 bytes (decompressed)"),
    ],
    ids=["bound", "extra", "type", "empty", "bytes", "long"],
)
def test_a_body_that_is_wrong_is_refused_with_its_place(client, body, status, detail):
    refused = client.post("/notes", data=body, content_type="application/json")
    assert refused.status_code == status
    assert refused.json["detail"].startswith(detail)


def test_the_description_has_the_bounds_that_are_checked(client):
    described = client.get("/openapi.json").json["paths"]["/shelves/{shelf}"]["get"]
    schemas = {one["name"]: one["schema"] for one in described["parameters"]}
    assert (schemas["n"]["minimum"], schemas["n"]["maximum"], schemas["n"]["default"]) == (1, 9, 5)
    assert (schemas["shelf"]["minimum"], schemas["shelf"]["maximum"]) == (1, 2**63 - 1)
    assert schemas["kind"]["enum"] == ["old", "new"]
    assert schemas["skip"]["items"]["minimum"] == 1


def test_two_types_of_one_name_are_a_defect():
    def routes_with(name: str, kind: type) -> Routes:
        @dataclass
        class Row:
            value: kind

        routes = Routes(name, "Rows.", "read")
        routes.answers(Row)
        return routes

    app = openapi_app("movierec_platform.rows")
    describe(app, routes_with("one", int))
    with pytest.raises(ValueError, match="two types of the API are called Row: two needs another name"):
        describe(app, routes_with("two", str))
