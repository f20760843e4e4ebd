"""Module 20 with what came before it: one program from tokenizer, GPT, checkpoint, int8, cache and stopwatch."""

import io
import math

import numpy as np
import pytest

import tinytorch
from support.checks import assert_close
from tinytorch.applications.tinygpt import (
    TinyGPT,
    draw_windows,
    fit,
    measure,
    measured_step,
    report_card,
    text_loss,
    validate_submission,
    whole_characters,
)
from tinytorch.benchmarking.benchmark import Benchmark, compare, machine
from tinytorch.core.layers import Linear
from tinytorch.core.losses import cross_entropy
from tinytorch.generation.kv_cache import Memoized
from tinytorch.models.transformer import GPT
from tinytorch.optimization.compression import magnitude_prune, measure_sparsity
from tinytorch.optimization.quantization import model_size, quantize_model
from tinytorch.profiling.profiler import Profiler
from tinytorch.text.tokenization import BPETokenizer

COUNT = np.tile(np.arange(5), 20)


@pytest.fixture(scope="module")
def counter():
    """A model that has learnt to count to five."""
    model = GPT(5, 16, 1, 2, max_seq_len=8, rng=0)
    fit(model, COUNT, 40, 8, 0.02, np.random.default_rng(0))
    return model


class TestPriorStackStillWorking:
    def test_bytes_of_tokens_joined_are_the_text(self):
        tokenizer = BPETokenizer(270).train("été en été")
        ids = tokenizer.encode("en été")
        assert b"".join(tokenizer.vocab[i] for i in ids).decode() == "en été"

    def test_a_memory_changes_no_token(self):
        model = GPT(9, 8, 1, 2, 8, rng=0)
        assert Memoized(model).generate([1, 2], 9, rng=0) == model.generate([1, 2], 9, rng=0, use_cache=False)

    def test_a_quantized_gpt_is_smaller_and_the_first_one_stays(self):
        model = GPT(60, 32, 1, 2, 8, rng=0)
        before = model.embedding.token_embedding.weight.data.copy()
        assert model_size(quantize_model(model)) < 0.35 * model_size(model)
        np.testing.assert_array_equal(model.embedding.token_embedding.weight.data, before)

    def test_a_stopwatch_takes_any_clock(self):
        ticks = iter(range(1000))
        result = Benchmark(list, "list", warmup=0, repeats=3, min_time=0, clock=lambda: float(next(ticks))).run()
        assert result.median == 1.0


class TestModule20CapstoneCore:
    def test_windows_and_their_targets(self):
        x, y = draw_windows(np.arange(9), 3, 5, np.random.default_rng(0))
        np.testing.assert_array_equal(y, x + 1)

    def test_characters_stay_whole(self):
        assert list(whole_characters([b"\xc3", b"\xa9"])) == ["é"]

    def test_a_text_goes_in_and_what_goes_on_with_it_comes_out(self, app):
        written = app.generate("lundi, é", 12, seed=0)
        assert written.startswith("lundi, é")
        assert len(written) > len("lundi, é")
        assert app.history[-1][2] < app.history[0][2] / 2

    def test_it_comes_back_from_its_file(self, app, tmp_path):
        app.save(tmp_path / "app")
        assert TinyGPT.load(tmp_path / "app").generate("lundi", 12, seed=0) == app.generate("lundi", 12, seed=0)

    def test_a_step_of_a_submission(self):
        wall = Benchmark(lambda: None, "nothing", repeats=5).run()
        step = measured_step("baseline", Linear(2, 2), wall, wall, 2, 0.5)
        assert step["bytes"] == 24
        assert step["seconds"]["median"] == wall.median / 2


class TestBackwardIntegration:
    def test_the_loss_falls_where_gradients_lead(self, counter):
        assert text_loss(counter, COUNT) < 0.1 < math.log(5) < text_loss(GPT(5, 16, 1, 2, 8, rng=0), COUNT) + 0.2

    def test_measuring_and_writing_leave_no_gradient_behind(self, app):
        app.model.zero_grad()
        app.loss("lundi")
        app.generate("lundi", 3, seed=0)
        assert [p.grad for p in app.model.parameters()] == [None] * len(app.model.parameters())

    def test_a_trained_app_can_be_trained_on(self, app, text):
        again = TinyGPT(app.tokenizer, GPT(270, 16, 1, 2, 16, rng=0))
        again.model.load_state_dict(app.model.state_dict())
        ids = np.array(app.encode(text[:900]))
        before = text_loss(again.model, ids)
        fit(again.model, ids, 10, 4, 1e-3, np.random.default_rng(0))
        assert text_loss(again.model, ids) < before

    def test_a_step_is_the_one_that_losses_and_optimizers_make(self):
        calls = []
        model, twin = (GPT(5, 16, 1, 2, max_seq_len=4, rng=0) for _ in range(2))
        fit(model, np.arange(5), 1, 2, 0.01, np.random.default_rng(0), lambda *call: calls.append(call))
        x = np.array([[0, 1, 2, 3]] * 2)
        assert calls[0][1] == pytest.approx(cross_entropy(twin(x), x + 1).item(), abs=1e-6)


class TestForwardIntegration:
    def test_the_loss_is_that_of_lesson_04(self, counter):
        ids = np.array([0, 1, 2, 4, 3])
        assert_close(text_loss(counter, ids), cross_entropy(counter(ids[None, :-1]), ids[None, 1:]).item())

    def test_the_pieces_are_the_tokens_of_lesson_13(self, app):
        ids = app.encode("lundi")
        tokens = list(app.model.stream(ids, 9, 0.8, rng=2))
        assert "".join(app.stream("lundi", 9, seed=2)) == app.tokenizer.decode(tokens)

    def test_bytes_write_too(self, app):
        small = app.quantize()
        tokens = list(small.model.stream(small.encode("lundi"), 9, 0.8, rng=2, use_cache=False))
        assert "".join(small.stream("lundi", 9, seed=2)) == small.tokenizer.decode(tokens)


class TestCrossModuleIntegration:
    def test_from_a_text_to_a_report(self, app, tmp_path):
        app.quantize().save(tmp_path / "small")
        small = TinyGPT.load(tmp_path / "small")
        document = measure(small, tokens=2, rounds=2)
        page = report_card(small, document)
        (task,) = document["tasks"]
        assert f"{task['steps'][0]['bytes']:,}" in page
        assert document["machine"] == machine()

    def test_a_conversation(self, app):
        out = io.StringIO()
        app.chat(["lundi", "mardi"], out, max_new_tokens=3, temperature=0)
        assert out.getvalue().startswith(app.generate("lundi", 3, temperature=0).removeprefix("lundi"))

    def test_a_profiler_sees_a_token_being_written(self, app):
        with Profiler() as profiler:
            app.generate("lundi", 2, temperature=0)
        assert {"attention", "linear", "layer_norm"} <= {row.name for row in profiler.rows()}

    def test_a_pruned_model_is_an_app_as_any_other(self, app, tmp_path):
        TinyGPT(app.tokenizer, magnitude_prune(app.model, 0.5), app.held_out).save(tmp_path / "sparse")
        assert measure_sparsity(TinyGPT.load(tmp_path / "sparse").model) == pytest.approx(0.5, abs=0.01)

    def test_other_work_can_be_submitted(self, submission):
        times = compare({"a": list, "b": dict}, rounds=2, warmup=0)
        steps = [measured_step(name, Linear(2, 2), times[name], times[name], 1, 1.0) for name in ("a", "b")]
        steps[0]["name"] = "baseline"
        submission["tasks"][0]["steps"] = steps
        assert validate_submission(submission) is None


class TestRegressionPrevention:
    def test_targets_are_not_the_inputs(self):
        x, y = draw_windows(np.arange(50) * 3, 5, 20, np.random.default_rng(0))
        assert (x != y).all()

    def test_the_last_token_is_learnt(self):
        assert max(draw_windows(np.arange(6), 3, 50, np.random.default_rng(0))[1][:, -1]) == 5

    def test_a_short_last_window_counts_as_much_as_it_holds(self, counter):
        ids = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 0])  # the last one, alone in its window, cannot be foreseen
        first, last = text_loss(counter, ids[:9]), text_loss(counter, ids[8:])
        assert text_loss(counter, ids) == pytest.approx((8 * first + last) / 9, abs=1e-5)
        assert last > 5 * first

    def test_half_a_character_is_not_lost_at_the_end(self):
        assert "".join(whole_characters([b"a\xc3"])) == "a\ufffd"

    def test_quantizing_leaves_the_original_as_it_was(self, app):
        before = [array.copy() for array in app.model.state_dict().values()]
        app.quantize("lundi, émardi")
        for array, old in zip(app.model.state_dict().values(), before):
            np.testing.assert_array_equal(array, old)

    def test_nan_is_no_quality(self, submission):
        submission["tasks"][0]["steps"][0]["quality"] = math.nan
        with pytest.raises(ValueError, match=r"steps\[0\].quality must be a number, got nan"):
            validate_submission(submission)

    def test_settings_are_checked_before_the_first_piece_is_asked_for(self, app):
        with pytest.raises(ValueError, match="max_new_tokens"):
            app.stream("lundi", -1)

    def test_held_out_text_stays_held_out_through_a_file(self, app, tmp_path):
        app.save(tmp_path / "app")
        assert TinyGPT.load(tmp_path / "app").held_out == app.held_out != ""

    def test_loading_takes_nothing_from_the_random_generator(self, app, tmp_path):
        app.save(tmp_path / "app")
        tinytorch.manual_seed(1)
        want = tinytorch.rand(2).tolist()
        tinytorch.manual_seed(1)
        TinyGPT.load(tmp_path / "app")
        assert tinytorch.rand(2).tolist() == want
