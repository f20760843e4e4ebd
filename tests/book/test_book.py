"""The book as built, page by page, in a headless Chromium. `make book-test` builds it and runs these."""

import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.stages import COURSE, ROOT
from tito.lesson import read_lesson

HTML = ROOT / "book" / "_build" / "html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
LESSONS = [f"lessons/{module.slug}.html" for module in COURSE.modules]

if os.environ.get("TINYTORCH_BOOK") != "1":
    pytest.skip("looks at the built book; make book-test", allow_module_level=True)

each_page = pytest.mark.parametrize("page", PAGES)
each_lesson = pytest.mark.parametrize("page", LESSONS)


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    with sync_playwright() as play:  # without any of these, the one that `playwright install chromium` fetches
        browser = play.chromium.launch(executable_path=next(found, None), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=[1280, 390], ids="{} pixels wide".format)
def window(request, chromium):
    """A browser window, and a list of what goes wrong in it."""
    window = chromium.new_page(viewport={"width": request.param, "height": 900})
    wrong = []
    window.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    window.on("pageerror", lambda error: wrong.append(str(error)))
    window.on("request", lambda sent: None if sent.url.startswith(("file:", "data:")) else wrong.append(sent.url))
    window.on("requestfailed", lambda sent: wrong.append(sent.url))
    yield window, wrong
    window.close()


def open_page(window, page, query=""):
    window, wrong = window
    wrong.clear()
    window.goto((HTML / page).as_uri() + query)
    return window


class Anchors(HTMLParser):
    """The places a page has, and where its links lead."""

    def __init__(self, path):
        super().__init__()
        self.places, self.links = {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs.get("id", ""), attrs.get("name", "") if tag == "a" else ""}
        self.links += [attrs[key] for key in ("href", "src") if attrs.get(key)]


@pytest.fixture(scope="session")
def anchors():
    return {HTML / page: Anchors(HTML / page) for page in PAGES}


def test_there_is_a_page_for_every_lesson():
    assert set(LESSONS) <= set(PAGES)


@each_page
def test_every_link_leads_to_a_file_and_a_place_that_are_there(page, anchors):
    lost = []
    for link in anchors[HTML / page].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = Path(os.path.normpath(HTML / page / ".." / unquote(parts.path))) if parts.path else HTML / page
        if not target.is_file() or (target in anchors and unquote(parts.fragment) not in anchors[target].places):
            lost.append(link)
    assert lost == []


# what of the article sticks out of the window and cannot be scrolled to
CUT_OFF = """() => [...document.querySelectorAll(".bd-main *")].filter(each => {
    if (each.getBoundingClientRect().right <= innerWidth + 1) return false;
    for (let outer = each; outer; outer = outer.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(outer).overflowX)) return false;
    return true;
}).map(each => each.outerHTML.slice(0, 200))"""


# pictures that are not there, or pulled out of shape
BROKEN = """() => [...document.querySelectorAll("article img")].filter(each =>
    !(Math.abs(each.clientHeight - each.clientWidth * each.naturalHeight / each.naturalWidth) <= 1)
).map(each => each.src)"""


@each_page
def test_a_page_loads_in_silence_from_disk_alone_and_nothing_sticks_out(page, window):
    opened = open_page(window, page)
    assert window[1] == []
    assert opened.evaluate("[document.documentElement.scrollWidth <= innerWidth]") == [True]
    assert opened.evaluate(CUT_OFF) == []
    assert opened.evaluate(BROKEN) == []


@each_lesson
def test_a_lesson_has_one_title_and_all_that_is_folded_is_closed(page, window):
    opened = open_page(window, page)
    module = COURSE.modules[LESSONS.index(page)]
    blanks = len(read_lesson(COURSE.source(module), module.slug).blanks)
    assert opened.locator("article h1").count() == 1
    assert opened.locator("article h1").inner_text().startswith(f"{module.id} · ")
    assert opened.locator("article details[open]").count() == 0
    assert opened.locator("article .task").count() == opened.locator("article details.hide").count() >= blanks
    assert opened.locator("article details.hide > summary", has_text="One solution").first.is_visible()
    folded = "[...document.querySelectorAll('article details > :not(summary)')]"
    assert opened.evaluate(f"{folded}.length") > blanks
    assert opened.evaluate(f"{folded}.filter(each => each.checkVisibility()).length") == 0


@each_lesson
def test_a_lesson_shows_what_its_code_prints_and_raises_nothing(page, anchors):
    text = (HTML / page).read_text(encoding="utf-8")
    assert text.count('class="cell_output') > 5
    assert "output traceback" not in text
    assert "### BEGIN SOLUTION" not in text


def test_a_solution_opens_where_one_clicks(window):
    opened = open_page(window, LESSONS[4])
    folded = opened.locator("article details.hide").first
    folded.locator("summary").click()
    assert folded.locator("pre").is_visible()


def test_the_search_finds_broadcasting(window):
    opened = open_page(window, "search.html", "?q=broadcasting")
    opened.wait_for_selector("#search-results li a")
    opened.wait_for_function("document.querySelector('#search-results').innerText.includes('Search finished')")
    assert opened.locator("#search-results li").count() > 3
    opened.locator("#search-results li a").first.click()
    opened.wait_for_selector("article")
    assert "broadcasting" in opened.locator("article").inner_text().lower()
    assert window[1] == []


def test_the_switch_turns_the_page_dark_and_light_again(window):
    opened = open_page(window, LESSONS[0])
    shades = {}
    for mode in ("dark", "light"):
        opened.locator(".theme-switch-button:visible").first.click()
        opened.locator(f".theme-change-button[data-mode={mode}]:visible").first.click()
        shades[mode] = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert opened.evaluate("document.documentElement.dataset.theme") == mode
    assert shades == {"dark": "rgb(18, 18, 18)", "light": "rgb(255, 255, 255)"}


def test_every_name_behind_a_door_leads_to_its_entry():
    text = (HTML / "api/generated/doors.html").read_text(encoding="utf-8")
    article = text[text.index("<article") : text.index("</article")]
    names = article.count('<code class="xref py py-obj')
    assert names > 150
    assert article.count('"><code class="xref py py-obj') == names
