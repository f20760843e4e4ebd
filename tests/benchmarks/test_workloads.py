"""The workloads: by hand the same numbers as the library, and what computes others is not timed."""

import numpy as np
import pytest

from benchmarks import peers, text
from benchmarks.workloads import WORKLOADS, agree, check

BIG = {"gpt_large", "embedding", "adamw"}  # built in hundreds of megabytes, or the same code as another
BY_HAND = [name for name, work in WORKLOADS.items() if work.beside == "torch" and name not in BIG]


def contestant(*numbers):
    return None, lambda: [np.asarray(array) for array in numbers]


class TestAgreement:
    @pytest.mark.parametrize("name", BY_HAND)
    def test_by_hand_the_numbers_are_the_librarys(self, name):
        contestants = WORKLOADS[name].build(1 / 16)
        check({library: contestants[library]() for library in ("numpy", "tinytorch")}, beside="tinytorch")

    def test_peers_too(self):
        pytest.importorskip("autograd", reason="a peer is compared where it is installed")
        contestants = WORKLOADS["graph"].build(1 / 100)
        libraries = [library for library in ("tinytorch", "autograd", "micrograd") if not peers.absent(library)]
        check({library: contestants[library]() for library in libraries}, beside="tinytorch")

    @pytest.mark.parametrize(
        "wrong",
        [
            ([1.0, 2.0], [[3.1]]),  # a number
            ([1.0, 2.0], [3.0]),  # a shape
            ([1.0, 2.0],),  # one array too few
            ([1.0, float("nan")], [[3.0]]),
        ],
    )
    def test_other_numbers_are_refused_by_name(self, wrong):
        built = {"torch": contestant([1.0, 2.0], [[3.0]]), "numpy": contestant(*wrong)}
        with pytest.raises((AssertionError, ValueError)):
            check(built, beside="torch")

    def test_who_disagrees_is_named(self):
        built = {"torch": contestant([1.0]), "numpy": contestant([1.0]), "tinytorch": contestant([2.0])}
        with pytest.raises(AssertionError, match="tinytorch and torch compute different numbers"):
            check(built, beside="torch")

    def test_rounding_is_allowed(self):
        agree([np.array([1, 1e-5, 100])], [np.array([1.0001, 0, 100.01])])

    def test_an_array_of_small_numbers_is_looked_at_closely(self):
        with pytest.raises(AssertionError):
            agree([np.array([100.0]), np.array([0.01])], [np.array([100.0]), np.array([0.02])])


class TestTable:
    def test_every_bar_of_one_thread_and_of_two_has_a_stretch(self):
        for name, work in WORKLOADS.items():
            for pair in (work.at_most, work.stretch, work.seconds, work.memory):
                assert len(pair) == 2, name
            assert [bar is None for bar in work.at_most] == [bar is None for bar in work.stretch], name

    def test_the_scale_changes_the_size(self):
        sizes = [len(WORKLOADS["softmax"].build(scale)["numpy"]()[1]()[0]) for scale in (1 / 64, 1 / 32)]
        assert sizes == [64, 128]


class TestText:
    def test_the_made_up_text_is_the_same_every_time(self):
        assert text.made_up_text(5000) == text.made_up_text(5000)
        assert len(text.made_up_text(5000)) == 5000

    def test_another_seed_makes_another_text(self):
        assert text.made_up_text(5000) != text.made_up_text(5000, seed=1)

    def test_a_file_may_take_its_place(self, monkeypatch, tmp_path):
        (tmp_path / "text.txt").write_text("ab" * 5000)
        monkeypatch.setenv("BENCHMARK_TEXT", str(tmp_path / "text.txt"))
        assert text.texts(0.005) == ("ab" * 2500, "ab" * 2500)
        with pytest.raises(ValueError, match="holds 10,000 characters, and 1,000,000 are needed"):
            text.texts(1)

    def test_both_tokenizers_find_the_same_ids(self):
        pytest.importorskip("tokenizers", reason="agreement is checked where tokenizers is installed")
        for name in ("bpe_train", "bpe_encode"):
            check({library: build() for library, build in WORKLOADS[name].build(0.05).items()}, beside="tokenizers")
