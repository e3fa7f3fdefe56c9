"""The page in a real Chromium: rate a movie and see the list change, search, operate; by keyboard, on a phone."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from werkzeug.serving import make_server

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Message, QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.services.gate import Gate
from movierec_platform.services.ingest_graph import GraphIngest
from movierec_platform.services.quarantine import Quarantine
from movierec_tests.api.conftest import ANA, Platform
from movierec_tests.api.test_quarantine_api import held
from movierec_tests.servers import emptied_graph, empty_settings

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 60_000
"""A busy machine is not a failure."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an application with six movies, Ana's history and three refused events, whose drains work."""
    own = empty_settings(settings, tmp_path_factory.mktemp("browser") / "home")
    with ExitStack() as stack:
        platform = Platform(own, stack.enter_context(emptied_graph(own)), Lake(own))
        platform.load()
        platform.publish()
        held(own).close()
        stack.enter_context(drained(platform))
        app = create_app(own)
        stack.callback(services_of(app).close)
        services_of(app).snapshots.refresh()
        server = make_server("127.0.0.1", 0, app, threaded=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        stack.callback(server.server_close)
        stack.callback(serving.join)
        stack.callback(server.shutdown)
        yield f"http://127.0.0.1:{server.port}"


@contextmanager
def drained(platform: Platform) -> Iterator[None]:
    """What is posted passes the gate and gets into the graph, as the drain runs see to."""
    queues, state, stop = Queues.open(platform.settings), State.open(platform.settings), threading.Event()
    work: dict[QueueName, Callable[[Sequence[Message]], object]] = {
        "raw": Gate(queues, open_objects(platform.settings), state).pass_on,
        "clean": GraphIngest(queues, platform.graph, state, batch_events=100).write,
        "dlq": Quarantine(state).hold,
    }

    def drain(name: QueueName) -> None:
        while not stop.is_set():
            if messages := queues.named(name).receive(wait_s=1):
                work[name](messages)
                queues.named(name).delete(messages)

    threads = [threading.Thread(target=drain, args=(name,)) for name in work]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    state.close()


@contextmanager
def opened(browser: Browser, **options: object) -> Iterator[tuple[BrowserContext, Page]]:
    """A page of a browser that has never been here; what goes wrong in it fails the test."""
    context = browser.new_context(locale="en-US", **options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield context, page
    context.close()
    assert wrong == []


def titles(page: Page) -> list[str]:
    return page.locator("#recommendations h3").all_inner_texts()


def test_somebody_rates_a_movie_and_sees_the_list_change_and_how_fast(browser, site):
    with opened(browser) as (_, page):
        page.goto(site)
        page.get_by_label("User id", exact=True).fill(str(ANA))
        page.get_by_role("button", name="See recommendations").click()
        expect(page).to_have_url(f"{site}/users/{ANA}")
        assert titles(page)[:2] == ["Brazil", "Casablanca"]
        brazil = page.locator("article", has=page.get_by_role("heading", name="Brazil"))
        expect(brazil).to_contain_text("Because you saw “Alien” (10 people saw both).")
        brazil.get_by_text("Why", exact=True).click()
        expect(brazil.locator(".evidence")).to_contain_text("100 %")

        brazil.get_by_role("button", name="4 of 5").press("Enter")
        said = page.get_by_role("status")
        expect(said).to_have_text(re.compile(r"Rated Brazil: visible after \d+ ms\."))
        assert titles(page)[:2] == ["Casablanca", "Dune"]
        expect(page.locator("#history")).to_contain_text("Brazil")
        expect(page.locator("#history")).to_contain_text("★ 4.0")

        page.goto(f"{site}/movies/3?user={ANA}")
        expect(page.locator("#because")).to_contain_text("Brazil")
        assert page.locator("#because .evidence li").count() == 2


def test_movies_are_found_while_somebody_types_by_keyboard_alone_on_a_phone_in_spanish(browser, site):
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
    with opened(browser, **phone) as (_, page):
        page.goto(f"{site}/movies")
        light = "rgb(247, 244, 238)"
        ground = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(ground) != light
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        page.get_by_role("button", name="Español").click()
        expect(page.locator("html")).to_have_attribute("lang", "es")
        theme = page.get_by_role("button", name="Colores:")
        theme.click()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        assert page.evaluate(ground) == light
        search = page.get_by_role("searchbox")
        search.press_sequentially("brasil")
        expect(page.get_by_role("heading", level=1)).to_have_text("Películas como «brasil»")
        expect(search).to_be_focused()
        expect(page).to_have_url(f"{site}/movies?q=brasil")
        page.get_by_role("link", name="Brazil").press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Brazil")
        for path in ("/", f"/users/{ANA}", "/movies", "/movies/1", "/operations", "/operations/quarantine/wrong_type"):
            page.goto(f"{site}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_forms_work_without_javascript_and_operations_act(browser, site):
    with opened(browser, java_script_enabled=False) as (_, page):
        page.goto(f"{site}/users/{ANA}")
        page.get_by_role("group", name="Rate Epidemic").get_by_role("button", name="3 of 5").click()
        expect(page.get_by_text("Your rating is safe.")).to_be_visible()
        page.goto(f"{site}/operations")
        expect(page.get_by_text("All parts answer")).to_be_visible()
        row = page.get_by_role("row", name="not_json")
        row.get_by_text("Discard", exact=True).click()
        row.get_by_role("button", name="Discard 1 for good").click()
        expect(page.get_by_text("1 discarded, 0 left alone.")).to_be_visible()
        expect(page.get_by_role("row", name="not_json")).to_have_count(0)
        expect(page.get_by_role("row", name="wrong_type")).to_be_visible()
