"""tito.pictures: what is drawn is what was given. And curves that grow, on a terminal and in a notebook."""

import io
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tito import pictures


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """Pictures go nowhere, and none is left behind."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def lengths(axis):
    """{row: length} of the bars."""
    return {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in axis.patches}


def words(axis):
    return {round(text.get_position()[1]): text.get_text().strip() for text in axis.texts if text.get_color() == ORANGE}


ORANGE = pictures.ORANGE


def test_importing_it_imports_neither_matplotlib_nor_the_library():
    code = "import sys, tito.pictures; print({'matplotlib', 'tinytorch', 'rich', 'IPython'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


class TestCurves:
    def test_a_line_per_name_with_the_numbers_given(self):
        axis = pictures.curves({"train": [3.0, 2.0, 1.0], "unseen": [4.0, 3.0, 2.5]}, "epoch", "nats")
        found = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
        assert found == {"train": [[1, 3], [2, 2], [3, 1]], "unseen": [[1, 4], [2, 3], [3, 2.5]]}
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "nats")
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["train", "unseen"]

    def test_what_is_none_or_nan_is_left_out_and_the_rest_keeps_its_place(self):
        axis = pictures.curves([("a", [None, 2.0, math.nan, 4.0])])
        assert axis.lines[0].get_xydata().tolist() == [[2, 2], [4, 4]]

    @pytest.mark.parametrize(
        ("values", "scale"), [([1, 2], "linear"), ([1, 100], "log"), ([0, 100], "linear"), ([5], "linear")]
    )
    def test_the_scale_follows_the_numbers(self, values, scale):
        assert pictures.curves({"a": values}).get_yscale() == scale

    def test_the_scale_can_be_told(self):
        assert pictures.curves({"a": [1, 100]}, scale="linear").get_yscale() == "linear"

    def test_it_draws_where_it_is_told(self, figures):
        figure, axis = figures.subplots()
        assert pictures.curves({"a": [1, 2]}, axis=axis) is axis
        assert figures.get_fignums() == [figure.number]

    def test_nothing_to_draw_is_an_error(self):
        with pytest.raises(ValueError, match="nothing to draw"):
            pictures.curves({})


class TestSpark:
    @pytest.mark.parametrize(
        ("values", "line"),
        [
            ([0, 7], "▁█"),
            ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
            ([5, None, math.nan, 5], "▁▁"),
            ([1, 10, 100], "▁▅█"),  # by its logarithm, and 3.5 rounds to 4
            ([], ""),
            ([None], ""),
        ],
    )
    def test_numbers_as_bars(self, values, line):
        assert pictures.spark(values) == line

    def test_many_numbers_are_averaged(self):
        assert pictures.spark([0, 0, 7, 7], width=2) == "▁█"


class TestGradients:
    def test_a_bar_is_the_mean_of_the_absolute_values(self):
        axis = pictures.gradients([("0.weight", np.array([[1.0, -3.0]])), ("0.bias", np.array([-0.5]))])
        assert lengths(axis) == {0: 2.0, 1: 0.5}
        assert [text.get_text() for text in axis.get_yticklabels()] == ["0.weight", "0.bias"]
        assert (axis.get_xscale(), axis.yaxis_inverted()) == ("log", True)

    def test_words_where_no_bar_can_be(self):
        named = {"a": None, "b": np.zeros(2), "c": np.array([1.0, np.nan]), "d": np.ones(2), "e": np.array([np.inf])}
        axis = pictures.gradients(named)
        assert words(axis) == {0: "none", 1: "0", 2: "not a number", 4: "not a number"}
        assert lengths(axis) == {3: 1.0}

    def test_with_no_bar_at_all(self):
        assert words(pictures.gradients({"a": None})) == {0: "none"}

    def test_the_smallest_bar_is_visible_and_the_largest_fits(self):
        axis = pictures.gradients({"a": np.full(3, 1e-9), "b": np.full(3, 10.0)})
        left, right = axis.get_xlim()
        assert left < 1e-9 < 10.0 < right


class TestActivations:
    def test_dead_units_say_the_same_to_every_sample(self):
        assert pictures.dead([[0, 1, 2.0, 5], [0, 1, 3, 5]]) == 0.75
        assert pictures.dead(np.zeros((4, 3))) == 1.0

    def test_flat_values_lie_at_the_ends_of_the_range(self):
        assert pictures.flat([[0, 0, 0.5, 1.0]]) == 0.75
        assert pictures.flat(np.linspace(-1, 1, 1000)) < 0.05

    def test_the_numbers_of_each_layer(self):
        alive, gone = np.array([[1.0, 0.0], [3.0, 0.0]]), np.zeros((2, 2))
        mean, spread, share = pictures.activations([("first", alive), ("last", gone)])
        assert mean.lines[1].get_xydata().tolist() == [[1.0, 0], [0.0, 1]]
        assert lengths(spread) == {0: pytest.approx(alive.std())}
        assert words(spread) == {1: "0"}
        assert [bar.get_width() for bar in share.patches] == [75.0, 100.0, 50.0, 100.0]  # flat, then dead
        assert [text.get_text() for text in mean.get_yticklabels()] == ["first", "last"]

    def test_a_layer_that_overflowed_is_named(self):
        _, spread, _ = pictures.activations([("a", np.array([[1.0], [2.0]])), ("b", np.array([[np.inf], [1.0]]))])
        assert words(spread) == {1: "not a number"}


class TestAttention:
    def test_a_panel_per_head_with_its_shares_and_tokens(self):
        weights = np.random.default_rng(0).dirichlet(np.ones(3), (5, 3))
        axes = pictures.attention(weights, ["a", " b", "\n"])
        assert len(axes) == 5
        assert all((axis.images[0].get_array() == shares).all() for axis, shares in zip(axes, weights))
        assert [axis.get_title() for axis in axes[:2]] == ["head 1", "head 2"]
        for labels in (axes[0].get_xticklabels(), axes[4].get_yticklabels()):
            assert [text.get_text() for text in labels] == ["a", "·b", "\\n"]
        assert {axis.images[0].get_clim() for axis in axes} == {(0, 1)}

    def test_one_head_with_other_keys(self):
        (axis,) = pictures.attention(np.full((1, 2), 0.5), ["q"], ["k", "l"], titles=["cross"])
        assert [text.get_text() for text in axis.get_xticklabels()] == ["k", "l"]
        assert (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) == ("cross", "looks at", "query")

    @pytest.mark.parametrize(
        ("shape", "tokens", "message"),
        [
            ((3,), None, r"got shape \(3,\)"),
            ((2, 2), ["a"], "1 queries for weights of shape"),
            ((2, 3), ["a"], "1 que"),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, shape, tokens, message):
        with pytest.raises(ValueError, match=message):
            pictures.attention(np.zeros(shape), tokens)


class TestBoundary:
    points, labels = np.array([[0, 0], [1, 0], [0, 1], [1.0, 1]]), np.array([-1, -1, 1, 1])

    def test_two_classes_by_the_sign_of_one_score(self):
        axis = pictures.boundary(lambda x: x[:, 1:] - 0.5, self.points, self.labels, ["below", "above"])
        field = axis.collections[0].get_array()
        assert field.shape == (200, 200)
        assert (field[:100] == 0).all()
        assert (field[100:] == 1).all()
        dots = {dots.get_label(): dots.get_offsets().tolist() for dots in axis.collections[-2:]}
        assert dots == {"below": [[0, 0], [1, 0]], "above": [[0, 1], [1, 1]]}

    def test_classes_by_the_largest_score(self):
        labels = np.array([0, 1, 2, 2])
        axis = pictures.boundary(lambda x: np.stack([x[:, 0] * 0, x[:, 0], 2 * x[:, 1]], axis=1), self.points, labels)
        field = axis.collections[0].get_array()
        assert (field[0, 0], field[10, -1], field[-1, 0]) == (0, 1, 2)
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["0", "1", "2"]

    def test_a_model_that_answers_everything_alike(self):
        axis = pictures.boundary(lambda x: np.ones(len(x)), self.points, self.labels)
        assert (axis.collections[0].get_array() == 1).all()


class TestTiles:
    def test_a_panel_per_picture_in_rows(self):
        images = np.arange(10 * 4.0).reshape(10, 1, 2, 2)
        axes = pictures.tiles(images, titles=list("abcdefghij"), columns=4)
        assert [axis.images[0].get_array().tolist() for axis in axes] == images[:, 0].tolist()
        assert [axis.get_title() for axis in axes] == list("abcdefghij")
        assert len(axes[0].figure.axes) == 10
        assert {axis.images[0].get_clim() for axis in axes} == {(0, 39)}

    def test_signs_are_seen_and_zero_is_in_the_middle(self):
        axes = pictures.tiles([[[-1, 3]], [[0.5, 2]]])
        assert [(axis.images[0].get_clim(), axis.images[0].get_cmap().name) for axis in axes] == [((-3, 3), "RdBu")] * 2

    def test_each_on_its_own_scale(self):
        axes = pictures.tiles([[[-1, 3]], [[0.5, 2]]], together=False)
        assert [axis.images[0].get_clim() for axis in axes] == [(-3, 3), (0, 2)]

    def test_colours(self):
        (axis,) = pictures.tiles(np.array([[[[0.0, 2]], [[1, 1]], [[2, 0]]]]))
        assert axis.images[0].get_array().tolist() == [[[0, 0.5, 1], [1, 0.5, 0]]]

    @pytest.mark.parametrize("images", [[], [np.zeros(3)], [np.zeros((2, 4, 4))]])
    def test_what_is_no_picture_is_an_error(self, images):
        with pytest.raises(ValueError, match="needs images"):
            pictures.tiles(images)

    def test_titles_must_be_as_many(self):
        with pytest.raises(ValueError, match="1 titles for 2 images"):
            pictures.tiles(np.zeros((2, 4, 4)), titles=["a"])


class Screen(io.StringIO):
    """A terminal that remembers."""

    encoding = "utf-8"

    def isatty(self):
        return True


class TestLive:
    def test_a_pipe_gets_the_last_numbers_at_the_end(self):
        stream = io.StringIO()
        with pictures.Live(stream=stream) as live:
            for i in range(1, 9):
                live.add(train=1 / i, unseen=None if i == 8 else 2 / i)
            assert stream.getvalue() == ""
        assert stream.getvalue() == "train 0.125 after 8\nunseen 0.2857 after 8\n"

    @pytest.mark.parametrize(("encoding", "bars"), [("utf-8", "█▇▄▁"), ("ascii", "#*:_")])
    def test_a_terminal_shows_curve_and_last_number(self, monkeypatch, encoding, bars):
        monkeypatch.setenv("TERM", "xterm")
        stream = Screen()
        stream.encoding = encoding
        with pictures.Live(stream=stream, pause=0) as live:
            for loss in (8.0, 7.0, 4.0, 1.5):
                live.add(train=loss)
                assert f"{loss:.4g}" in stream.getvalue()
        assert bars in stream.getvalue()
        assert stream.getvalue().count("\n") == 1  # one line, written over

    def test_between_two_drawings_there_is_a_pause_but_the_end_is_shown(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        stream = Screen()
        with pictures.Live(stream=stream, pause=60) as live:
            live.add(train=0.25)
            live.add(train=0.375)
            assert "0.25" in stream.getvalue()
            assert "0.375" not in stream.getvalue()
        assert "0.375" in stream.getvalue()

    def test_it_takes_a_history(self):
        stream = io.StringIO()
        with pictures.Live(stream=stream) as live:
            live.show({"train": [3.0, 2.0]})
            live.show({"train": [3.0, 2.0, 1.0]})
        assert stream.getvalue() == "train 1 after 3\n"

    def test_without_a_number_it_draws_nothing(self):
        stream = io.StringIO()
        with pictures.Live(stream=stream):
            pass
        assert stream.getvalue() == ""

    def test_a_notebook_has_one_picture_that_is_replaced(self, monkeypatch, figures):
        shown, updated = [], []
        image = SimpleNamespace
        handle = SimpleNamespace(update=updated.append)
        display = SimpleNamespace(
            Image=lambda data, alt: image(data=data, alt=alt),
            display=lambda image, display_id: shown.append((image, display_id)) or handle,
        )
        shell = SimpleNamespace(kernel="a kernel")
        ipython = SimpleNamespace(get_ipython=lambda: shell, display=display, version_info=(9, 0))  # matplotlib asks
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        with pictures.Live(pause=0) as live:
            for loss in (3.0, 2.0, 1.0):
                live.add(train=loss)
        assert [display_id for _, display_id in shown] == [True]
        assert [image.alt for image in updated] == ["train 2", "train 1", "train 1"]
        assert all(image.data.startswith(b"\x89PNG") for image in updated)
        assert figures.get_fignums() == []  # nothing that would be shown a second time
