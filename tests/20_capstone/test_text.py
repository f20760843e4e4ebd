"""What the application is made of: windows, training, the loss of a text, whole characters."""

import math
from collections import Counter

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.applications.tinygpt import draw_windows, fit, text_loss, whole_characters
from tinytorch.core.tensor import Tensor
from tinytorch.models.transformer import GPT

E_ACUTE = "é".encode()


class TestWindows:
    def test_targets_stand_one_place_further_on(self):
        ids = np.random.default_rng(0).integers(0, 1000, 50)
        x, y = draw_windows(ids, 7, 20, np.random.default_rng(1))
        assert x.shape == y.shape == (20, 7)
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
        rows = {ids[i : i + 8].tobytes() for i in range(43)}
        assert {np.append(a, b[-1]).tobytes() for a, b in zip(x, y)} <= rows

    def test_every_beginning_is_as_likely_as_any_other(self):
        x, y = draw_windows(np.arange(7), 4, 3000, np.random.default_rng(0))
        counts = Counter(x[:, 0].tolist())
        assert sorted(counts) == [0, 1, 2]
        assert min(counts.values()) > 900
        assert y.max() == 6

    def test_a_text_of_one_window_has_one(self):
        x, y = draw_windows(np.array([5, 6, 7]), 2, 3, np.random.default_rng(0))
        assert x.tolist() == [[5, 6]] * 3
        assert y.tolist() == [[6, 7]] * 3

    def test_the_rows_of_a_batch_are_drawn_by_themselves(self):
        x, _ = draw_windows(np.arange(1000), 4, 16, np.random.default_rng(0))
        assert len(set(x[:, 0].tolist())) > 10

    def test_the_generator_decides(self):
        first, second = (draw_windows(np.arange(99), 4, 8, np.random.default_rng(7))[0] for _ in range(2))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("count", [0, 3, 4])
    def test_a_text_without_room_for_a_window_is_refused(self, count):
        with pytest.raises(ValueError, match=f"need a text of at least 5, got {count}"):
            draw_windows(np.arange(count), 4, 1, np.random.default_rng(0))


class TestFit:
    @pytest.fixture
    def trained(self):
        model, calls = GPT(5, 16, 1, 2, max_seq_len=8, rng=0), []
        ids = np.tile(np.arange(5), 20)
        fit(model, ids, 40, 8, 0.02, np.random.default_rng(0), lambda *call: calls.append(call))
        return model, calls, ids

    def test_it_learns_to_count(self, trained):
        model, calls, ids = trained
        assert calls[0][1] == pytest.approx(math.log(5), abs=0.2)
        assert calls[-1][1] < 0.1
        assert model.generate([3, 4, 0], 5, temperature=0) == [3, 4, 0, 1, 2, 3, 4, 0]

    def test_it_reports_every_step_once_as_plain_numbers(self, trained):
        _, calls, _ = trained
        assert [step for step, _ in calls] == list(range(1, 41))
        assert {type(loss) for _, loss in calls} == {float}

    def test_the_first_loss_is_that_of_the_weights_before_the_first_step(self):
        model, twin = (GPT(5, 16, 1, 2, max_seq_len=8, rng=0) for _ in range(2))
        ids, calls = np.arange(9) % 5, []  # one window only
        fit(model, ids, 1, 4, 0.02, np.random.default_rng(0), lambda *call: calls.append(call))
        assert calls[0][1] == pytest.approx(text_loss(twin, ids), abs=1e-5)

    def test_gradients_are_cut_to_length_1_before_each_step_and_forgotten_after(self, monkeypatch):
        from tinytorch.applications import tinygpt

        events, real = [], tinygpt.clip_grad_norm

        def clip(parameters, most):
            events.append(("clip", most, real(list(parameters), most)))

        class Listening(tinygpt.AdamW):
            def step(self):
                events.append("step")
                super().step()

        monkeypatch.setattr(tinygpt, "clip_grad_norm", clip)
        monkeypatch.setattr(tinygpt, "AdamW", Listening)
        fit(GPT(5, 16, 1, 2, max_seq_len=8, rng=0), np.arange(9) % 5, 3, 4, 1e-9, np.random.default_rng(0))
        assert events[1::2] == ["step"] * 3
        assert [event[:2] for event in events[::2]] == [("clip", 1.0)] * 3
        norms = [norm for _, _, norm in events[::2]]
        assert_close(norms[1:], [norms[0]] * 2, rtol=1e-3)  # the weights have hardly moved

    def test_the_rate_rises_and_then_falls(self, monkeypatch):
        from tinytorch.applications import tinygpt

        rates = []

        class Listening(tinygpt.AdamW):
            def step(self):
                rates.append(self.lr)
                super().step()

        monkeypatch.setattr(tinygpt, "AdamW", Listening)
        fit(GPT(5, 16, 1, 2, max_seq_len=8, rng=0), np.arange(9) % 5, 20, 1, 0.01, np.random.default_rng(0))
        assert 0 < rates[0] < rates[1] == max(rates) <= 0.01
        assert (np.diff(rates[1:]) < 0).all()
        assert 0 < rates[-1] < 0.001

    def test_afterwards_the_model_is_in_evaluation_mode(self, trained):
        assert not any(layer.training for layer in trained[0].modules())


class TestLossOfAText:
    @pytest.fixture
    def model(self):
        gpt = GPT(11, 16, 1, 2, max_seq_len=4, rng=0).eval()
        for p in gpt.parameters():
            p.data = p.data * 8 if p.ndim == 2 else p.data
        return gpt

    def by_hand(self, model, ids):
        losses = []
        for start in range(0, len(ids) - 1, 4):
            window = ids[start : min(start + 4, len(ids) - 1)]
            logits = model([window]).data[0].astype(np.float64)
            for row, target in zip(logits, ids[start + 1 :]):
                losses.append(np.log(np.exp(row - row.max()).sum()) + row.max() - row[target])
        assert len(losses) == len(ids) - 1
        return float(np.mean(losses))

    @pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 9, 10, 200])
    def test_it_is_the_mean_over_all_tokens_but_the_first(self, model, count):
        ids = np.random.default_rng(count).integers(0, 11, count)
        assert text_loss(model, ids) == pytest.approx(self.by_hand(model, ids), abs=1e-5)

    def test_the_size_of_batches_changes_nothing(self, model):
        ids = np.random.default_rng(0).integers(0, 11, 99)
        assert text_loss(model, ids, batch_size=3) == pytest.approx(text_loss(model, ids), abs=1e-6)

    def test_a_list_is_as_good(self, model):
        assert text_loss(model, [1, 2, 3]) == text_loss(model, np.array([1, 2, 3]))

    def test_a_model_that_knows_nothing_is_surprised_by_log_v(self):
        gpt = GPT(11, 16, 1, 2, max_seq_len=4, rng=0)
        for p in gpt.parameters():
            p.data = p.data * 0
        assert text_loss(gpt, np.arange(10)) == pytest.approx(math.log(11), abs=1e-6)

    def test_nothing_is_recorded_and_no_mode_changes(self, model):
        model.train()
        text_loss(model, np.arange(10))
        assert all(layer.training for layer in model.modules())
        assert [p.grad for p in model.parameters()] == [None] * len(model.parameters())

    def test_it_leaves_dropout_out(self):
        gpt = GPT(11, 16, 1, 2, max_seq_len=4, dropout=0.5, rng=0)
        gpt.train()
        assert text_loss(gpt, np.arange(10)) == text_loss(gpt, np.arange(10))

    @pytest.mark.parametrize("ids", [[], [3]])
    def test_with_nothing_to_foresee_there_is_none(self, model, ids):
        with pytest.raises(ValueError, match=f"needs at least 2 tokens.*got {len(ids)}"):
            text_loss(model, ids)

    def test_the_model_may_return_anything_with_logits(self):
        class Even:
            max_seq_len = 3

            def __call__(self, x):
                return Tensor(np.zeros((*x.shape, 4), np.float32))

        assert text_loss(Even(), np.arange(4)) == pytest.approx(math.log(4))


class TestWholeCharacters:
    @pytest.mark.parametrize(
        ("chunks", "pieces"),
        [
            ([b"z", b"\xc3", b"\xa9ro"], ["z", "éro"]),
            ([b"a", b"b"], ["a", "b"]),
            ([], []),
            ([b""], []),
            ([b"", b"a", b""], ["a"]),
            ([b"\xe4", b"\xbd", b"\xa0!"], ["你!"]),
            ([b"\xf0\x9f", b"\x98\x80"], ["\U0001f600"]),
            ([b"caf\xc3"], ["caf", "\ufffd"]),
            ([b"\xff", b"a"], ["\ufffd", "a"]),
            ([b"\xc3", b"a"], ["\ufffda"]),
        ],
    )
    def test_pieces(self, chunks, pieces):
        assert list(whole_characters(chunks)) == pieces

    def test_a_piece_comes_as_soon_as_it_is_whole(self):
        def chunks():
            yield b"a" + E_ACUTE[:1]
            yield E_ACUTE[1:]
            pytest.fail("asked for more than was needed")

        pieces = whole_characters(chunks())
        assert [next(pieces), next(pieces)] == ["a", "é"]
