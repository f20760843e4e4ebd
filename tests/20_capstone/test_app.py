"""TinyGPT: training, writing, the file, the smaller copy, the conversation."""

import io
import itertools

import numpy as np
import pytest

import tinytorch
from support.checks import assert_close
from tinytorch.applications.tinygpt import TinyGPT, text_loss
from tinytorch.core.checkpoint import CheckpointError
from tinytorch.models.transformer import GPT
from tinytorch.optimization.compression import magnitude_prune, structured_prune
from tinytorch.optimization.quantization import model_size, quantize_model
from tinytorch.text.tokenization import BPETokenizer, CharTokenizer, Tokenizer

SMALL = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "context": 8, "steps": 2, "batch_size": 2}
ABC = "abcd " * 30


def weights(app):
    return {name: array.copy() for name, array in app.model.state_dict().items()}


def assert_same_weights(app, state):
    now = app.model.state_dict()
    assert now.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(now[name], array)


class TestTraining:
    def test_it_learns(self, app):
        first, last = app.history[0], app.history[-1]
        assert first[0] == 1
        assert last[0] == 40
        assert last[1] < first[1] / 2
        assert last[2] < first[2] / 2

    def test_the_history_ends_with_the_loss_of_the_held_out_text(self, app):
        ids = app.tokenizer.encode(app.held_out)[: 32 * 16 + 1]
        assert app.history[-1][2] == pytest.approx(text_loss(app.model, ids), abs=1e-5)

    def test_the_last_tenth_is_held_out(self, app, text):
        assert app.held_out == text[-len(app.held_out) :]
        assert 0.1 * len(text) <= len(app.held_out) < 0.1 * len(text) + 1

    def test_nothing_learns_from_what_is_held_out(self):
        text = "abcd " * 18 + "xyzw " * 2
        app = TinyGPT.train(text, **SMALL)
        assert app.held_out == "xyzw " * 2
        assert set("xyzw").isdisjoint(app.tokenizer.vocab)

    def test_every_window_comes_from_the_text_before(self, monkeypatch):
        from tinytorch.applications import tinygpt

        seen, real = [], tinygpt.fit
        monkeypatch.setattr(tinygpt, "fit", lambda model, ids, *more: (seen.append(ids), real(model, ids, *more)))
        app = TinyGPT.train(ABC, **SMALL)
        assert app.tokenizer.decode(seen[0]) + app.held_out == ABC

    def test_the_same_seed_gives_the_same_model_and_another_one_another(self):
        first, second, other = (TinyGPT.train(ABC, **SMALL, seed=seed) for seed in (0, 0, 1))
        assert_same_weights(first, weights(second))
        assert np.abs(first.model.norm.weight.data - other.model.norm.weight.data).max() > 0

    def test_the_librarys_own_randomness_is_left_alone(self):
        tinytorch.manual_seed(5)
        before = tinytorch.rand(3).data
        tinytorch.manual_seed(5)
        TinyGPT.train(ABC, **SMALL)
        np.testing.assert_array_equal(tinytorch.rand(3).data, before)

    def test_every_step_is_reported(self):
        calls = []
        TinyGPT.train(ABC, **SMALL, on_step=lambda step, loss: calls.append(step))
        assert calls == [1, 2]

    def test_sizes_are_as_asked(self, app):
        model = app.model
        assert (model.embed_dim, model.num_layers, model.num_heads, model.max_seq_len) == (16, 1, 2, 16)
        assert model.vocab_size == app.tokenizer.vocab_size == 270
        assert isinstance(app.tokenizer, BPETokenizer)

    def test_text_that_looks_like_a_special_token_is_text(self):
        app = TinyGPT.train("E O S < > <EOS> " * 20, **SMALL)
        assert len(app.encode("<EOS>")) == 5

    @pytest.mark.parametrize(
        ("text", "settings", "message"),
        [
            ("", {}, "needs a text to learn from"),
            (" \n\t ", {}, "needs a text to learn from"),
            ("ab", {}, "holding out"),
            ("abcdefgh", {}, "more than 8 tokens to learn from.*got 7 and 1"),
            ("abcdefghij", {}, "at least 2 to hold out, got 9 and 1"),
            (ABC, {"steps": 0}, "steps of at least 1"),
            (ABC, {"batch_size": 0}, "batch_size of at least 1"),
            (ABC, {"context": 0}, "context of at least 1"),
            (ABC, {"held_out": 0}, "0 < held_out < 1"),
            (ABC, {"held_out": 1.0}, "0 < held_out < 1"),
            (ABC, {"lr": 0}, "lr > 0"),
            (ABC, {"lr": -1}, "lr"),
            (ABC, {"num_heads": 3}, "cannot divide"),
            (ABC, {"tokenizer": "words"}, "'char' or 'bpe'"),
            (ABC, {"tokenizer": "bpe", "vocab_size": 100}, "at least 260"),
        ],
    )
    def test_what_makes_no_sense_is_refused_before_training(self, text, settings, message):
        if text == "ab":
            settings = {"held_out": 0.9}
        with pytest.raises(ValueError, match=message):
            TinyGPT.train(text, **{**SMALL, **settings}, on_step=lambda *_: pytest.fail("trained first"))

    @pytest.mark.parametrize("text", [None, b"bytes", ["a", "list"]])
    def test_what_is_no_text_is_no_text(self, text):
        with pytest.raises(TypeError, match="needs a text, got"):
            TinyGPT.train(text)

    def test_a_tokenizer_of_another_model_is_refused(self, app):
        with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens and the model 270"):
            TinyGPT(CharTokenizer(), app.model)


class TestPairs:
    PAIRS = "".join(f"q{i}\ta{i}\n" for i in range(40))

    def test_lines_are_shuffled_and_each_is_there_once(self):
        app = TinyGPT.train(self.PAIRS, **SMALL)
        assert (app.after, app.until) == ("\t", "\n")
        assert app.held_out not in self.PAIRS

    def test_whole_lines_are_held_out_and_the_others_are_learnt(self, monkeypatch):
        from tinytorch.applications import tinygpt

        seen, real = [], tinygpt.fit
        monkeypatch.setattr(tinygpt, "fit", lambda model, ids, *more: (seen.append(ids), real(model, ids, *more)))
        app = TinyGPT.train(self.PAIRS, **SMALL)
        learnt = app.tokenizer.decode(seen[0]).splitlines()
        assert sorted(learnt + app.held_out.splitlines()) == sorted(self.PAIRS.splitlines())
        assert len(self.PAIRS) / 10 <= len(app.held_out) < len(self.PAIRS) / 10 + len("q10\ta10\n")

    def test_one_line_without_a_tab_and_it_is_a_text(self):
        app = TinyGPT.train(self.PAIRS + "and so on\n", **SMALL)
        assert (app.after, app.until) == ("", "")
        assert self.PAIRS.endswith(app.held_out.removesuffix("and so on\n"))

    def test_whoever_says_otherwise_is_heard(self):
        app = TinyGPT.train(self.PAIRS, **SMALL, after="=", until="")
        assert (app.after, app.until) == ("=", "")


class TestWriting:
    @pytest.mark.parametrize(
        "settings", [{"temperature": 0}, {"seed": 4}, {"seed": 5, "top_k": 3}, {"seed": 6, "top_p": 0.5}]
    )
    def test_the_pieces_joined_are_what_the_model_generates(self, app, settings):
        mine = {**settings, "rng": settings.get("seed")}
        mine.pop("seed", None)
        tokens = app.model.generate(app.encode("lundi"), 30, **{"temperature": 0.8, **mine})
        want = app.tokenizer.decode(tokens, skip_special=True)
        assert app.generate("lundi", 30, **settings) == want
        assert "lundi" + "".join(app.stream("lundi", 30, **settings)) == want

    def test_it_reads_every_token_once(self, app):
        read = []
        handle = app.model.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
        ids = app.encode("lundi")
        app.generate("lundi", 6, seed=0)
        handle.remove()
        assert read == [len(ids), 1, 1, 1, 1, 1]

    def test_a_piece_comes_before_the_next_token_is_looked_for(self, app):
        read = []
        handle = app.model.norm.register_forward_hook(lambda *_: read.append(1))
        pieces = app.stream("lundi", 10, seed=0)
        assert read == []
        next(pieces)
        handle.remove()
        assert len(read) <= 2  # é would take two

    def test_no_piece_ends_within_a_character(self):
        tokenizer = BPETokenizer(260).train("é")  # bytes alone
        app = TinyGPT(tokenizer, GPT(260, 8, 1, 2, 16, rng=0))
        wanted = "é你a".encode()
        tokens = [tokenizer.vocab.index(bytes([byte])) for byte in wanted]

        class Dictated:
            def stream(self, *_):
                return iter(tokens)

        pieces = list(app._stream(Dictated(), [5], 6, 1.0, None, None, 0))
        assert pieces == ["é", "你", "a"]

    def test_an_answer_ends_with_the_text_that_ends_it(self, text):
        app = TinyGPT.train(text, **{**SMALL, "context": 32, "steps": 1}, until=".")
        endings = [app.generate("lundi", 60, temperature=2.0, seed=seed) for seed in range(5)]
        assert any(ending.endswith(".") for ending in endings)
        assert all("." not in ending[:-1] for ending in endings)

    def test_special_tokens_are_no_text(self):
        tokenizer = CharTokenizer("ab")
        app = TinyGPT(tokenizer, GPT(tokenizer.vocab_size, 8, 1, 2, 16, rng=0))
        assert set(app.generate("a", 200, temperature=3.0, seed=0)) == {"a", "b"}

    def test_a_text_longer_than_the_model_sees_goes_on(self, app):
        prompt = "lundi, émardi.\n" * 5
        want = app.model.generate(app.encode(prompt), 5, temperature=0)
        assert app.generate(prompt, 5, temperature=0) == app.tokenizer.decode(want)

    def test_0_tokens_are_no_text(self, app):
        assert list(app.stream("lundi", 0)) == []
        assert app.generate("lundi", 0) == "lundi"

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"max_new_tokens": -1}, "max_new_tokens of at least 1, got -1"),
            ({"temperature": -0.5}, "temperature"),
            ({"top_k": 0}, "top_k"),
            ({"top_p": 0.0}, "0 < top_p <= 1"),
        ],
    )
    def test_settings_are_checked_when_it_is_called(self, app, settings, message):
        with pytest.raises(ValueError, match=message):
            app.stream("lundi", **settings)  # nothing asked for yet

    def test_an_empty_prompt_is_refused(self, app):
        with pytest.raises(ValueError, match="needs a prompt to go on from, got an empty one"):
            app.stream("")

    def test_characters_that_the_model_has_never_seen_are_named(self):
        app = TinyGPT.train(ABC, **SMALL)
        with pytest.raises(ValueError, match="the prompt has 'Q', 'é', which the model has never seen"):
            app.stream("aéQé")
        assert app.loss("aéQé") > 0

    def test_the_loss_of_a_text_is_in_nats_per_token(self, app):
        assert app.loss("lundi, émardi.") == text_loss(app.model, app.encode("lundi, émardi."))


class TestFile:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "days.tinygpt"

    @pytest.mark.parametrize("make", ["app", "char", "int8", "calibrated"])
    def test_all_comes_back(self, app, text, path, make):
        if make == "char":
            app = TinyGPT.train(text, **SMALL, until=".")
        if make in ("int8", "calibrated"):
            app = app.quantize(text[:200] if make == "calibrated" else None)
        app.save(path)
        again = TinyGPT.load(path)
        ids = np.array([app.encode("lundi")])
        np.testing.assert_array_equal(again.model(ids).data, app.model(ids).data)
        assert_same_weights(again, weights(app))
        assert again.tokenizer.vocab == app.tokenizer.vocab
        assert (again.held_out, again.history) == (app.held_out, app.history)
        assert (again.after, again.until, again.format) == (app.after, app.until, app.format)
        assert again.nbytes == app.nbytes
        assert again.generate("lundi", 20, seed=1) == app.generate("lundi", 20, seed=1)

    def test_it_is_one_file_and_smaller_for_bytes(self, app, tmp_path):
        app.save(tmp_path / "large")
        app.quantize().save(tmp_path / "small")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "small"]
        large, small = ((tmp_path / name).stat().st_size for name in ("large", "small"))
        assert large - small > 0.6 * app.nbytes

    def test_loading_leaves_the_random_generator_alone(self, app, path):
        app.save(path)
        tinytorch.manual_seed(7)
        before = tinytorch.rand(3).data
        tinytorch.manual_seed(7)
        TinyGPT.load(path)
        np.testing.assert_array_equal(tinytorch.rand(3).data, before)

    def test_a_checkpoint_of_something_else_is_refused(self, path):
        tinytorch.save(path, GPT(5, 8, 1, 2, 4, rng=0))
        with pytest.raises(CheckpointError, match="is a checkpoint, but not of a TinyGPT"):
            TinyGPT.load(path)

    def test_what_is_no_checkpoint_is_refused(self, path):
        path.write_text("once upon a time", encoding="utf-8")
        with pytest.raises(CheckpointError, match="not a checkpoint, or is damaged"):
            TinyGPT.load(path)

    def test_a_file_that_is_cut_short_is_refused(self, app, path):
        app.save(path)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(CheckpointError):
            TinyGPT.load(path)

    @pytest.mark.parametrize(
        "change",
        [
            {"sizes": {}},
            {"sizes": None},
            {"format": "int4"},
            {"tokenizer": {"kind": "words", "files": {}}},
            {"tokenizer": {"kind": "char", "files": {"vocab.json": "{"}}},
            {"held_out": None},
        ],
    )
    def test_a_file_that_does_not_say_what_it_should_is_refused(self, app, path, change):
        app.save(path)
        about = tinytorch.load(path)["tinygpt"]
        about.update(change)
        about = {key: value for key, value in about.items() if value is not None}
        tinytorch.save(path, app.model, tinygpt=about)
        with pytest.raises(CheckpointError, match="is damaged, or of another version"):
            TinyGPT.load(path)

    def test_a_missing_file_is_named(self, path):
        with pytest.raises(FileNotFoundError, match="days.tinygpt"):
            TinyGPT.load(path)

    def test_a_model_that_could_not_be_built_again_is_refused_and_nothing_written(self, app, path):
        narrow = TinyGPT(app.tokenizer, structured_prune(app.model, 0.5))
        with pytest.raises(ValueError, match="would be .* when loaded and is"):
            narrow.save(path)
        assert not path.exists()

    def test_one_with_zeros_in_it_is_kept(self, app, path):
        sparse = TinyGPT(app.tokenizer, magnitude_prune(app.model, 0.5))
        sparse.save(path)
        assert_same_weights(TinyGPT.load(path), weights(sparse))

    def test_a_tokenizer_it_does_not_know_is_refused(self, app, path):
        class Mine(CharTokenizer):
            pass

        mine = Mine("ab")
        with pytest.raises(TypeError, match="knows char and bpe tokenizers, got Mine"):
            TinyGPT(mine, GPT(mine.vocab_size, 8, 1, 2, 4)).save(path)
        assert issubclass(Mine, Tokenizer)


class TestQuantized:
    def test_the_original_is_what_it_was(self, app, text):
        before, size = weights(app), app.nbytes
        app.quantize()
        app.quantize(text[:100])
        assert_same_weights(app, before)
        assert (app.format, app.nbytes) == ("float32", size)
        assert all(p.requires_grad for p in app.model.parameters())

    def test_the_bytes_are_those_of_a_quantized_model(self, app):
        small = app.quantize()
        assert small.format == "int8"
        assert small.nbytes == model_size(quantize_model(app.model)) < 0.4 * app.nbytes
        assert small.model.blocks[0].mlp.fc1.q.dtype == np.int8

    def test_calibrated_inputs_are_bytes_too(self, app, text):
        small = app.quantize(text[:100])
        assert small.format == "int8 inputs"
        assert small.model.blocks[0].mlp.fc1.input_scale > 0

    def test_every_part_of_the_calibration_counts(self, app, text):
        long, short = app.quantize(text[:300]), app.quantize(text[:10])
        scales = [each.model.blocks[0].mlp.fc1.input_scale for each in (long, short)]
        assert scales[0] > scales[1]

    @pytest.mark.parametrize("calibrated", [False, True])
    def test_it_writes_almost_as_well(self, app, text, calibrated):
        small = app.quantize(text[:300] if calibrated else None)
        assert small.loss(app.held_out) == pytest.approx(app.loss(app.held_out), abs=0.05)
        assert small.held_out == app.held_out
        assert len(small.generate("lundi", 10, seed=0)) > len("lundi")

    def test_once_is_enough(self, app):
        with pytest.raises(ValueError, match="these are int8 already"):
            app.quantize().quantize()

    @pytest.mark.parametrize("nothing", [""])
    def test_calibrating_on_nothing_is_refused(self, app, nothing):
        with pytest.raises(ValueError, match="empty"):
            app.quantize(nothing)


class TestChat:
    def talk(self, app, lines, **settings):
        out = io.StringIO()
        app.chat(lines, out, **{"max_new_tokens": 4, "temperature": 0, **settings})
        return out.getvalue()

    def test_every_line_is_answered_and_the_end_ends_it(self, app):
        one = app.generate("lundi", 4, temperature=0).removeprefix("lundi")
        assert self.talk(app, ["lundi\n"]) == one + "\n" * (not one.endswith("\n"))
        assert self.talk(app, []) == ""
        assert self.talk(app, ["", "\n", "\r\n"]) == ""

    def test_it_sees_what_was_said_before(self, app):
        first = app.generate("lu", 4, temperature=0).removeprefix("lu")
        ids = app.encode("lu") + app.encode(first) + app.encode("di")
        second = app.tokenizer.decode(app.model.generate(ids, 4, temperature=0)[len(ids) :])
        assert self.talk(app, ["lu", "di"]) == "".join(said.removesuffix("\n") + "\n" for said in (first, second))
        assert second != app.generate("di", 4, temperature=0).removeprefix("di")

    def test_it_reads_what_is_new_and_nothing_twice(self, app):
        read = []
        handle = app.model.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
        self.talk(app, ["lu", "di"], max_new_tokens=2)
        handle.remove()
        asked = len(app.encode("lu"))
        assert read[0] == asked
        assert sum(read) <= asked + len(app.encode("di")) + 4

    def test_when_there_is_no_room_it_forgets(self, app):
        lines = ["lundi, émardi"] * 3
        alone = self.talk(app, lines[:1], max_new_tokens=8)
        assert self.talk(app, lines, max_new_tokens=8) == alone * 3

    def test_answers_that_may_be_long_and_are_short_leave_room_for_what_was_said(self, app):
        first = app.generate("lu", 1, temperature=0).removeprefix("lu")
        short = TinyGPT(app.tokenizer, app.model, until=first)
        ids = app.encode("lu") + app.encode(first) + app.encode("di")
        second = app.tokenizer.decode(app.model.generate(ids, 40, temperature=0, stop=short._stops)[len(ids) :])
        want = "".join(said.removesuffix("\n") + "\n" for said in (first, second))
        assert self.talk(short, ["lu", "di"], max_new_tokens=40) == want

    def test_what_follows_a_question_is_put_there(self):
        pairs = TinyGPT.train("".join(f"{a}{b}\t{a}.\n" for a, b in itertools.product("abcdef", repeat=2)), **SMALL)
        want = pairs.generate("ab\t", 4, temperature=0).removeprefix("ab\t")
        assert self.talk(pairs, ["ab"]).rstrip("\n") == want.rstrip("\n")

    def test_what_it_cannot_read_it_says_and_goes_on(self):
        app = TinyGPT.train(ABC, **SMALL)
        said = self.talk(app, ["ü", "a"])
        assert said.startswith("(TinyGPT: the prompt has 'ü'")
        assert len(said.splitlines()) >= 2

    def test_one_seed_for_the_whole_conversation(self, app):
        first, second = (self.talk(app, ["a", "b"], temperature=1.0, seed=3) for _ in range(2))
        assert first == second

    def test_answers_are_handed_on_at_once(self, app):
        flushed = []

        class Out(io.StringIO):
            def flush(self):
                flushed.append(self.getvalue())

        app.chat(["lundi"], Out(), max_new_tokens=4, temperature=0)
        assert len(set(flushed)) >= 3

    def test_it_prints_usefully(self, app):
        assert repr(app).startswith("TinyGPT(BPETokenizer(270 tokens")
        assert f"1 layers of width 16, 16 places, float32, {app.nbytes:,} bytes" in repr(app)
        assert_close(app.nbytes, sum(p.data.nbytes for p in app.model.parameters()))
