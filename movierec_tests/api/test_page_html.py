"""The HTML of the page: escaped, in two languages, with the right headers, and doing what its forms say."""

import dataclasses
import gzip
import re
import string
import tempfile

import pyarrow as pa
import pytest

from movierec_platform.adapters.queues import open_queue
from movierec_platform.adapters.state import Drift
from movierec_platform.api.app import create_app, services_of
from movierec_platform.api.page.plots import ages_plot, quality_plot
from movierec_platform.api.page.rendering import ago, monogram, number
from movierec_platform.api.page.texts import LANGUAGES, TEXTS
from movierec_platform.domain.gate import REASON_CODES
from movierec_platform.domain.keys import SCOPES
from movierec_platform.services.keys import Keys
from movierec_platform.services.operations import Operations
from movierec_platform.services.versions import Evaluated, record_evaluated
from movierec_tests.api.conftest import ANA, UNKNOWN, VERSION
from movierec_tests.api.test_quarantine_api import held

MARKUP = "<script>alert('x')</script> & \"sons\""
JUDGED = Evaluated(VERSION, 1_700_000_000_000, None, True, "better <than>", 40, 0.31, 0.29, 0.33, {}, {}, [])


@pytest.fixture
def platform(platform):
    """The platform, with markup for the title of movie 3."""
    movies = platform.lake.read("movies").sort_by("movie_id")
    titles = movies["title"].to_pylist()
    titles[2] = MARKUP
    platform.lake.write("movies", movies.set_column(movies.schema.get_field_index("title"), "title", pa.array(titles)))
    return platform


@pytest.fixture
def page(app):
    services_of(app).snapshots.refresh()
    return app.test_client()


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_both_languages_have_the_same_texts_with_the_same_gaps():
    english, spanish = (TEXTS[language] for language in LANGUAGES)
    assert english.keys() == spanish.keys()
    assert {key: fields(text) for key, text in english.items()} == {key: fields(text) for key, text in spanish.items()}
    assert all(text.strip() for texts in TEXTS.values() for text in texts.values())
    assert {key.removeprefix("reason.") for key in english if key.startswith("reason.")} == REASON_CODES


def test_pages_run_nothing_but_our_own_files_whatever_a_title_says(page):
    for path in (f"/users/{ANA}", f"/movies/3?user={ANA}", "/movies?q=<script>alert", "/", "/movies?by=popular"):
        html = page.get(path).text
        assert "&lt;script&gt;alert" in html, path
        assert "<script>alert" not in html, path
        assert " style=" not in html, path
        assert not re.search(r"<script(?! src=\"/static/)|\son\w+=", html), path
    headers = page.get("/").headers
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert (headers["Cache-Control"], headers["Vary"]) == ("private, no-cache", "Accept-Language, Cookie")
    for path in set(re.findall(r"/static/[^\"]+", html)):
        answer = page.get(path)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000"), path
    assert page.get("/static/../app.py").status_code == 404
    assert page.get("/static/none.css").status_code == 404


def test_users_are_listed_from_an_id_on(page):
    assert re.search(rf'<a href="/users/{ANA}"><b>{ANA}</b> 1 seen</a>', page.get("/").text)
    assert f'href="/users/{ANA}"' not in page.get(f"/?users_from={ANA + 1}").text


def test_pages_and_problems_speak_the_language_that_was_chosen_or_else_the_browsers(page):
    for accepted, word in (("es-AR,es;q=0.9", "Recomendaciones"), ("de, en;q=0.5", "Recommended"), ("", "Recommended")):
        assert word in page.get(f"/users/{ANA}", headers={"Accept-Language": accepted}).text
    chosen = page.post("/preferences", data={"lang": "es", "next": f"/users/{ANA}?genre=Drama"})
    assert (chosen.status_code, chosen.location) == (303, f"/users/{ANA}?genre=Drama")
    html = page.get(f"/users/{ANA}", headers={"Accept-Language": "en"}).text
    assert '<html lang="es" data-theme="auto">' in html
    assert "Porque viste «Alien» (10 personas vieron las dos)." in html
    page.post("/preferences", data={"theme": "dark", "lang": "en"})
    assert '<html lang="en" data-theme="dark">' in page.get("/").text
    for path, status, said in (
        ("/users/x", 400, "the user id is a whole number from 1 to"),
        ("/users?user=-3", 400, "the user id is a whole number from 1 to"),
        (f"/users/{ANA}?genre=Horor", 400, "no movie is of the genre &#39;Horor&#39;"),
        ("/movies/999", 404, "the catalogue has no movie 999"),
        ("/operations/quarantine/%3Cb%3E", 400, "&#39;&lt;b&gt;&#39; is no reason code"),
    ):
        answer = page.get(path)
        assert (answer.status_code, answer.mimetype) == (status, "text/html"), path
        assert said in answer.text, path
    assert page.get(f"/users/{UNKNOWN}").status_code == 200


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "x",
        "/a\nb",
        "http://[",
        "//[",
        "//evil.example]",
        "[",
    ],
)
def test_nobody_is_sent_to_another_site(idle_client, where):
    assert idle_client.post("/preferences", data={"lang": "es", "next": where}).location == "/"


def test_an_address_that_nothing_has_is_a_page_in_a_browser_and_a_problem_elsewhere(idle_client):
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language": "es"}
    shown = idle_client.get("/nothing", headers=browser)
    assert (shown.status_code, shown.mimetype, "Aquí no hay tal cosa" in shown.text) == (404, "text/html", True)
    for accepted in ("*/*", "application/json"):
        told = idle_client.get("/nothing", headers={"Accept": accepted})
        assert (told.status_code, told.mimetype) == (404, "application/problem+json")


def test_an_empty_stack_says_how_to_fill_it(empty_platform):
    app = create_app(empty_platform.settings.model_copy(update={"snapshot_poll_s": 3600.0}))
    try:
        answer = app.test_client().get("/")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert "movierec load" in answer.text
    finally:
        services_of(app).close()


def test_a_rating_form_lands_the_event_and_comes_back(page, platform):
    form = {"movie_id": "2", "rating": "4.5", "next": f"/users/{ANA}?genre=Drama"}
    answer = page.post(f"/users/{ANA}/ratings", data=form)
    assert (answer.status_code, answer.location) == (303, f"/users/{ANA}?genre=Drama&rated=2")
    [message] = open_queue(platform.settings, "raw").receive(wait_s=1)
    assert '"rating":4.5' in message.body
    assert "Your rating is safe" in page.get(answer.location).text
    for bad in ({**form, "rating": "9"}, {**form, "rating": "4.2"}, {**form, "movie_id": "x"}, {"rating": "4"}):
        assert page.post(f"/users/{ANA}/ratings", data=bad).status_code == 400
    foreign = page.post(f"/users/{ANA}/ratings", data=form, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403


def test_operations_show_what_waits_and_act_on_it(page, platform):
    state = held(platform.settings)
    state.note_drift(Drift(3, 1_700_000_000_000))
    state.close()
    record_evaluated(platform.lake, JUDGED)
    record_evaluated(
        platform.lake, dataclasses.replace(JUDGED, version="20240501T120000Z-00000002", passed=False, ndcg=None)
    )
    html = page.get("/operations").text
    for said in ("3 pairs differ", "wrong_type", "better &lt;than&gt;", "blocked", VERSION, 'class="interval"'):
        assert said in html, said
    acted = page.post("/operations/quarantine", data={"act": "redrive", "reason": "wrong_type"})
    assert acted.location == "/operations?act=redrive&done=2&skipped=0"
    assert "2 sent to the gate again" in page.get(acted.location).text
    rows = page.get("/operations/quarantine/not_json").text
    [row] = re.findall(r"<h2 class=\"version\">(\w+)</h2>", rows)
    where = {"row": row, "next": "/operations/quarantine/not_json"}
    acted = page.post("/operations/quarantine", data={"act": "discard", "reason": "not_json", **where})
    assert acted.location == "/operations/quarantine/not_json?act=discard&done=1&skipped=0"
    assert page.post("/operations/quarantine", data={"act": "burn", "reason": "not_json"}).status_code == 400


def test_operations_say_which_part_does_not_answer(platform, closed_port):
    dead = f"http://127.0.0.1:{closed_port}"
    settings = platform.settings.model_copy(update={"aws_endpoint_url": dead})
    services = create_app(platform.settings)
    try:
        state, graph = services_of(services).state, platform.graph
        operations = Operations(settings, state, graph, type(platform.lake)(settings))
        now = operations.overview()
        operations.close()
    finally:
        services_of(services).close()
    assert set(now.down) == {"queues", "lake"}
    assert (now.queues, now.evaluations) == (None, None)
    assert now.publication is not None
    assert now.held == {}


def test_where_keys_are_needed_the_page_asks_for_one_and_keeps_it_in_a_cookie(platform):
    app = create_app(platform.settings.model_copy(update={"require_keys": True, "snapshot_poll_s": 3600.0}))
    try:
        services = services_of(app)
        services.snapshots.refresh()
        key = Keys(services.state().keys).create("reader", [SCOPES[1]]).text
        client = app.test_client()
        asked = client.get("/movies/1?user=7")
        assert asked.status_code == 401
        assert '<form class="choose" method="post" action="/key">' in asked.text
        assert client.get(re.findall(r"/static/page.css[^\"]*", asked.text)[0]).status_code == 200
        kept = client.post("/key", data={"key": f" {key} ", "next": "/movies/1?user=7"})
        cookie = kept.headers["Set-Cookie"]
        assert kept.location == "/movies/1?user=7"
        assert key in cookie
        assert "HttpOnly; Path=/; SameSite=Strict" in cookie
        assert client.get(kept.location).status_code == 200
        assert client.get(f"/v1/users/{ANA}/history").status_code == 200
        assert client.get("/operations").status_code == 403
        for foreign in ({"Origin": "http://localhost:1"}, {"Sec-Fetch-Site": "same-site"}):
            assert client.get("/v1/movies/1", headers=foreign).status_code == 401
        client.post("/key", data={})
        assert client.get("/").status_code == 401
        client.post("/key", data={"key": "mrk_no"})
        assert "That key does not open this" in client.get("/").text
    finally:
        services_of(app).close()


def test_numbers_and_times_are_written_as_each_language_does():
    assert (number("en", 1234.5, 1), number("es", 1234.5, 1)) == ("1,234.5", "1.234,5")
    assert ago("en", 0).endswith("y ago")
    assert [monogram(title) for title in ("The Matrix", "Alien", "A", "???")] == ["M", "A", "A", "·"]


def test_the_quality_plot_has_a_mark_for_each_version_that_was_scored():
    versions = [
        dataclasses.replace(JUDGED, version=f"2024050{day}T120000Z-00000001", ndcg=value, passed=value > 0.2)
        for day, value in ((1, 0.3), (2, 0.1), (3, 0.4))
    ]
    plot = quality_plot([*versions, dataclasses.replace(JUDGED, ndcg=None)], versions[2].version)
    assert [(mark.value, mark.passed, mark.published) for mark in plot.marks] == [
        (0.3, True, False),
        (0.1, False, False),
        (0.4, True, True),
    ]
    assert [row.label for row in plot.rows] == ["0.0", "0.1", "0.2", "0.3", "0.4"]
    assert plot.marks[2].y < plot.marks[0].y < plot.marks[1].y
    assert plot.marks[0].y_high < plot.marks[0].y < plot.marks[0].y_low
    assert plot.columns[0].label == "05-03 12:00"
    assert quality_plot([dataclasses.replace(JUDGED, ndcg=None)], None) is None


def test_the_plot_of_ages_leaves_out_empty_ends():
    plot = ages_plot([(0.1, 0), (0.2, 0), (0.3, 4), (0.5, 2), (1, 0), (float("inf"), 0)])
    assert [(bar.label, bar.count) for bar in plot.bars] == [("200 ms", 0), ("300 ms", 4), ("500 ms", 2), ("1 s", 0)]
    assert plot.bars[1].height == 2 * plot.bars[2].height
    assert ages_plot([(0.1, 0), (float("inf"), 0)]) is None


FORMS = ["/preferences", "/key", f"/users/{ANA}/ratings", "/operations/quarantine"]


@pytest.mark.parametrize("path", FORMS)
def test_forms_are_bounded_and_nothing_of_a_request_is_written_to_disk(idle_client, path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    part = b'--x\r\nContent-Disposition: form-data; name="next"; filename="big"\r\n\r\n%s\r\n--x--\r\n' % (
        b"x" * 1_000_000
    )
    answer = idle_client.post(path, data=part, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.mimetype) == (415, "text/html")
    for body, status in (
        ("next=" + "x" * 65_000, None),
        ("next=" + "x" * 66_000, 413),
        ("&".join(f"a{field}=1" for field in range(101)), 400),
        ("next=%ff%fe&lang=%00", 400),
    ):
        kind = "application/x-www-form-urlencoded"
        answer = idle_client.post(path, data=body, content_type=kind)
        assert answer.status_code == status if status else answer.status_code in (303, 400), body[:40]
        packed = idle_client.post(
            path, data=gzip.compress(body.encode()), headers={"Content-Encoding": "gzip", "Content-Type": kind}
        )
        assert packed.status_code == answer.status_code
