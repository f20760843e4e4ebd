"""What is measured of an app, and the page that shows it."""

import base64
import html.parser
import re

import numpy as np
import pytest

from tinytorch.applications.tinygpt import TinyGPT, measure, report_card, validate_submission
from tinytorch.generation.kv_cache import KVCache, Memoized


@pytest.fixture(scope="module")
def measured(app):
    return measure(app, tokens=6, rounds=3)


@pytest.fixture(scope="module")
def page(app, measured):
    return report_card(app, measured, sample="<b>lundi & mardi</b>")


class Page(html.parser.HTMLParser):
    """Reads a page: its tags with their attributes, the text of its cells, and that every tag is closed."""

    EMPTY = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.cells, self.all = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.all += data
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


class TestMeasure:
    def test_it_is_a_valid_submission(self, measured):
        assert validate_submission(measured) is None
        assert measured["tasks"][0]["task"] == "tinygpt"

    def test_the_steps_are_the_plain_way_a_cache_and_bytes(self, measured):
        assert [step["name"] for step in measured["tasks"][0]["steps"]] == ["baseline", "cache", "cache, int8"]

    def test_sizes_are_those_of_the_models_and_their_caches(self, app, measured):
        small = app.quantize()
        cache = KVCache.for_model(app.model).nbytes
        found = [(step["bytes"], step["cache_bytes"]) for step in measured["tasks"][0]["steps"]]
        assert found == [(app.nbytes, 0), (app.nbytes, cache), (small.nbytes, cache)]

    def test_quality_is_the_loss_of_the_held_out_text(self, app, measured):
        plain, small = app.loss(app.held_out), app.quantize().loss(app.held_out)
        assert [step["quality"] for step in measured["tasks"][0]["steps"]] == pytest.approx([plain, plain, small])

    def test_every_way_was_run_as_often_as_told(self, measured):
        assert [step["seconds"]["runs"] for step in measured["tasks"][0]["steps"]] == [3, 3, 3]

    def test_a_slow_model_is_reported_slow(self, app, monkeypatch):
        import time

        real = Memoized.generate
        monkeypatch.setattr(Memoized, "generate", lambda self, *a, **k: (time.sleep(0.02), real(self, *a, **k))[1])
        steps = measure(app, tokens=2, rounds=1)["tasks"][0]["steps"]
        assert steps[0]["seconds"]["median"] < 0.01 < steps[1]["seconds"]["median"]
        assert steps[1]["cpu_seconds"] < 0.01  # who sleeps does not compute

    def test_of_an_app_in_bytes_there_is_no_step_to_bytes(self, app):
        small = app.quantize()
        before = {name: array.copy() for name, array in small.model.state_dict().items()}
        steps = measure(small, "lundi, émardi.", tokens=1, rounds=1)["tasks"][0]["steps"]
        assert [step["name"] for step in steps] == ["baseline", "cache"]
        assert steps[0]["bytes"] == small.nbytes
        assert steps[0]["quality"] == pytest.approx(small.loss("lundi, émardi."))  # of the text that was given
        for name, array in small.model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])

    def test_without_a_text_there_is_nothing_to_measure(self, app):
        with pytest.raises(ValueError, match="needs a text the app was not trained on"):
            measure(TinyGPT(app.tokenizer, app.model))

    @pytest.mark.parametrize("tokens", [0, 16, 100])
    def test_tokens_that_do_not_fit_are_refused(self, app, tokens):
        with pytest.raises(ValueError, match="tokens"):
            measure(app, tokens=tokens)


class TestReportCard:
    def test_every_number_that_was_measured_is_in_it(self, page, measured):
        cells = Page(page).cells
        for step in measured["tasks"][0]["steps"]:
            row = cells[cells.index(step["name"]) :][:9]
            seconds = [f"{1e3 * step['seconds'][key]:.3f}" for key in ("median", "low", "high")]
            assert row[1:3] == [f"{step['bytes']:,}", f"{step['cache_bytes']:,}"]
            assert row[3] == "{} ({} to {}, 3 runs)".format(*seconds)
            assert row[4] == f"{1 / step['seconds']['median']:,.0f}"
            assert row[5] == f"{1e3 * step['cpu_seconds']:.3f}"
            assert row[6] == f"{step['bytes'] + step['cache_bytes']:,}"
            assert row[7:] == [f"{step['quality']:.4f}", f"{np.exp(step['quality']):,.2f}"]

    def test_the_machine_is_in_it(self, page, measured):
        cells = Page(page).cells
        for key, value in measured["machine"].items():
            assert cells[cells.index(key) + 1] == str(value)

    def test_it_says_what_stands_in_for_energy(self, page):
        assert "Energy was not measured: processor time" in page

    def test_its_pictures_are_inside(self, page):
        sources = [attributes["src"] for tag, attributes in Page(page).tags if tag == "img"]
        assert len(sources) == 2
        for source in sources:
            head, _, data = source.partition(",")
            assert head == "data:image/png;base64"
            png = base64.b64decode(data, validate=True)
            assert png[:8] == b"\x89PNG\r\n\x1a\n"
            assert len(png) > 5_000

    def test_every_picture_says_what_it_shows(self, page):
        assert all(attributes["alt"] for tag, attributes in Page(page).tags if tag == "img")

    def test_it_needs_nothing_from_elsewhere(self, page):
        tags = {tag for tag, _ in Page(page).tags}
        assert tags.isdisjoint({"script", "link", "iframe", "a"})
        assert not re.search("https?://|url\\(", page)

    def test_what_a_model_writes_is_text_and_no_markup(self, page):
        assert "<b>" not in page
        assert "<b>lundi & mardi</b>" in Page(page).all

    def test_so_is_the_name_of_a_step(self, app, submission):
        submission["tasks"][0]["steps"][1]["name"] = "<i>&"
        page = report_card(app, submission)
        assert "<i>" not in page
        assert "<i>&" in Page(page).cells

    def test_without_a_sample_the_model_writes_one_from_its_held_out_text(self, app, measured):
        found = Page(report_card(app, measured)).all
        line = app.held_out.splitlines()[1]
        assert re.search(rf"How it writes\s+{line[:5]}", found)

    def test_without_a_history_there_is_one_picture_and_without_a_text_no_sample(self, app, measured):
        page = report_card(TinyGPT(app.tokenizer, app.model), measured)
        assert page.count("<img") == 1
        assert "<pre>" not in page

    def test_a_submission_that_is_not_valid_is_refused(self, app, submission):
        submission["tasks"][0]["steps"][0]["bytes"] = 0
        with pytest.raises(ValueError, match="bytes must be"):
            report_card(app, submission)

    def test_one_without_the_task_is_refused(self, app, submission):
        submission["tasks"][0]["task"] = "digits"
        with pytest.raises(ValueError, match="needs a submission with the task 'tinygpt'"):
            report_card(app, submission)
