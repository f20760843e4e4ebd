"""Module 11 with what came before it and what comes next.

The chain: 01_tensor -> 05_autograd -> 10_tokenization -> 11_embeddings -> 12_attention. Text becomes token numbers, a
table turns them into vectors that know their place, gradients go back into the table, and what comes out has the shape
and dtype that attention takes. Attention itself is tested in module 12.
"""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import relu
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, manual_seed, randint
from tinytorch.core.training import Trainer, clip_grad_norm
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.text.embeddings import (
    Embedding,
    EmbeddingBackward,
    EmbeddingLayer,
    PositionalEncoding,
    RotaryEmbedding,
    create_sinusoidal_embeddings,
    embedding,
)

MODES = ["learned", "sinusoidal", None]
every_mode = pytest.mark.parametrize("mode", MODES)
TEXT = "Hello, world!"


@pytest.fixture
def tokenizer():
    """Module 10's tokenizer with its printable ASCII."""
    from tinytorch.text.tokenization import CharTokenizer

    return CharTokenizer()


class TestPriorStackStillWorking:
    def test_01_integers_stay_integers_and_take_rows(self):
        tokens = Tensor([[2, 0], [1, 1]])
        assert tokens.dtype == np.int64
        assert_close(Tensor(np.eye(3))[tokens], np.eye(3, dtype=np.float32)[[[2, 0], [1, 1]]])

    def test_02_relu_cuts_below_zero(self):
        assert relu(Tensor([-1.0, 2.0])).tolist() == [0, 2]

    def test_03_a_linear_layer_maps_the_last_axis(self):
        assert Linear(4, 3)(Tensor(np.ones((2, 5, 4)))).shape == (2, 5, 3)

    def test_04_equal_logits_cost_log_v(self):
        assert_close(cross_entropy(Tensor(np.zeros((2, 5, 7))), randint(0, 7, (2, 5))), np.float32(math.log(7)))

    def test_05_taking_an_element_twice_adds_its_gradients(self):
        x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
        x[np.array([2, 0, 2])].sum().backward()
        assert_close(x.grad, np.array([1, 0, 2], np.float32))

    def test_06_a_step_of_sgd_goes_down_the_gradient(self):
        w = Tensor([1.0], requires_grad=True)
        (w * w).sum().backward()
        SGD([w], lr=0.25).step()
        assert_close(w, np.array([0.5], np.float32))

    def test_07_clipping_returns_the_norm_before(self):
        w = Tensor([3.0, 4.0], requires_grad=True)
        (w * w).sum().backward()
        assert clip_grad_norm([w], 1.0) == pytest.approx(10, rel=1e-5)

    def test_08_batches_of_tokens_stay_integers(self):
        (batch,) = next(iter(DataLoader(TensorDataset(np.arange(12).reshape(4, 3)), 2)))
        assert (batch.shape, batch.dtype) == ((2, 3), np.int64)

    def test_09_a_convolution_sums_a_window(self):
        from tinytorch.core.spatial import conv2d

        out = conv2d(Tensor(np.ones((1, 1, 3, 3))), Tensor(np.ones((1, 1, 2, 2))))
        assert_close(out, np.full((1, 1, 2, 2), 4, np.float32))

    def test_10_decoding_gives_the_text_back(self, tokenizer):
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


class TestModule11EmbeddingsCore:
    def test_a_token_picks_its_row(self):
        layer = Embedding(5, 3)
        assert_close(layer([4, 0, 4]), layer.weight.data[[4, 0, 4]], rtol=0, atol=0)

    @pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 7), (2, 3, 4), (0,), (2, 0), (0, 7)])
    def test_tokens_of_any_shape_gain_one_axis(self, shape):
        tokens = np.zeros(shape, np.int64)
        assert Embedding(5, 3)(Tensor(tokens)).shape == (*shape, 3)

    @pytest.mark.parametrize("token", [-1, -5, 5, 6, 10**6])
    def test_a_token_without_a_row_is_out_of_range(self, token):
        with pytest.raises(ValueError, match=f"token {token} is out of range 0 to 4"):
            Embedding(5, 3)([[0, token]])

    def test_places_are_added(self):
        x = Tensor(np.ones((2, 3, 4)))
        layer = PositionalEncoding(5, 4)
        assert_close(layer(x), 1 + np.stack([layer.position_embeddings.data[:3]] * 2))

    def test_sines_and_cosines_of_a_worked_example(self):
        table = create_sinusoidal_embeddings(3, 4)
        want = [[math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)] for t in range(3)]
        assert_close(table, np.array(want, np.float32))

    def test_a_turn_keeps_lengths_and_knows_only_the_distance(self):
        q, k = np.ones((4, 2), np.float32), np.full((4, 2), 2, np.float32)
        q, k = RotaryEmbedding(2)(Tensor(q), Tensor(k))
        assert_close((q * q).sum(axis=1), np.full(4, 2, np.float32))
        products = (q @ k.T).data
        assert_close(products, np.array([[4 * math.cos(i - j) for j in range(4)] for i in range(4)], np.float32))

    @every_mode
    def test_the_layer_gives_a_vector_to_every_token(self, mode):
        out = EmbeddingLayer(10, 6, 8, pos_encoding=mode)(randint(0, 10, (2, 8)))
        assert (out.shape, out.dtype) == ((2, 8, 6), np.float32)


class TestBackwardIntegration:
    """With the modules it depends on: tensors (01), gradients (05) and tokenizers (10)."""

    def test_every_character_becomes_a_vector(self, tokenizer):
        tokens = tokenizer.encode(TEXT)
        layer = Embedding(len(tokenizer.vocab), 16)
        out = layer(Tensor(tokens))
        assert out.shape == (len(TEXT), 16)
        for i, token in enumerate(tokens):
            assert_close(out[i], layer.weight.data[token], rtol=0, atol=0)

    def test_equal_characters_get_equal_vectors(self, tokenizer):
        out = Embedding(len(tokenizer.vocab), 16)(tokenizer.encode(TEXT)).data
        same = np.array([[a == b for b in TEXT] for a in TEXT])
        np.testing.assert_array_equal((out[:, None] == out[None]).all(axis=2), same)

    def test_every_number_of_the_vocabulary_has_a_row(self, tokenizer):
        V = len(tokenizer.vocab)
        assert Embedding(V, 4)(np.arange(V)).shape == (V, 4)
        assert all(0 <= token < V for token in tokenizer.encode("".join(map(chr, range(32, 127)))))

    def test_a_table_one_row_too_small_refuses_the_last_token(self, tokenizer):
        V = len(tokenizer.vocab)
        with pytest.raises(ValueError, match="out of range"):
            Embedding(V - 1, 4)([V - 1])

    @pytest.mark.parametrize("special", ["<PAD>", "<UNK>", "<BOS>", "<EOS>"])
    def test_special_tokens_have_rows_of_their_own(self, tokenizer, special):
        token = tokenizer.vocab.index(special)
        layer = Embedding(len(tokenizer.vocab), 8)
        layer([token]).sum().backward()
        assert np.flatnonzero(layer.weight.grad.any(axis=1)).tolist() == [token]

    def test_unknown_characters_share_a_row(self, tokenizer):
        out = Embedding(len(tokenizer.vocab), 8)(tokenizer.encode("\N{SNOWMAN}\N{COMET}"))
        assert_close(out[0], out[1].data, rtol=0, atol=0)

    def test_a_padded_batch_of_texts(self, tokenizer):
        texts = ["Hello", "Hi", ""]
        pad = tokenizer.vocab.index("<PAD>")
        ids = [tokenizer.encode(text) for text in texts]
        batch = Tensor([row + [pad] * (5 - len(row)) for row in ids])
        assert EmbeddingLayer(len(tokenizer.vocab), 12, 5)(batch).shape == (3, 5, 12)

    def test_the_result_is_tracked(self):
        out = Embedding(5, 3)([1, 2])
        assert out.requires_grad is True
        assert type(out._grad_fn) is EmbeddingBackward

    def test_nothing_is_tracked_under_no_grad(self):
        with no_grad():
            out = Embedding(5, 3)([1, 2])
        assert out.requires_grad is False
        assert out._grad_fn is None

    def test_every_row_collects_the_gradients_of_all_its_places(self):
        weight = Tensor(np.zeros((5, 2)), requires_grad=True)
        grad = np.array([[1, 2], [10, 20], [100, 200], [1000, 2000]], np.float32)
        embedding(weight, [4, 1, 4, 4]).backward(grad)
        want = np.zeros((5, 2), np.float32)
        want[1], want[4] = [10, 20], [1101, 2202]
        assert_close(weight.grad, want, rtol=0, atol=0)

    def test_rows_that_were_not_used_get_exactly_zero(self):
        layer = Embedding(100, 4)
        (layer(randint(0, 10, (8, 8), rng=0)) ** 2).sum().backward()
        assert layer.weight.grad.shape == (100, 4)
        assert np.abs(layer.weight.grad[:10]).min() > 0
        assert not layer.weight.grad[10:].any()

    def test_gradients_of_two_lookups_add_up(self):
        layer = Embedding(4, 2)
        (layer([1, 2]).sum() + 3 * layer([2, 3]).sum()).backward()
        assert_close(layer.weight.grad, np.array([[0, 0], [1, 1], [4, 4], [3, 3]], np.float32))

    def test_tokens_and_places_both_receive_gradients(self):
        layer = EmbeddingLayer(6, 4, 5)
        layer([[1, 1, 2], [1, 3, 3]]).sum().backward()
        tokens, places = (parameter.grad for parameter in layer.parameters())
        assert_close(tokens, np.array([[0], [3], [1], [2], [0], [0]], np.float32) * np.ones((1, 4), np.float32))
        assert_close(places, np.array([[2], [2], [2], [0], [0]], np.float32) * np.ones((1, 4), np.float32))


class TestForwardIntegration:
    """What attention (module 12) relies on: vectors (N, T, E) in float32, tracked, at any length."""

    @every_mode
    @pytest.mark.parametrize("T", [10, 50, 100, 256, 512])
    def test_the_layer_gives_what_attention_takes(self, mode, T):
        out = EmbeddingLayer(50, 16, 512, pos_encoding=mode)(randint(0, 50, (2, T)))
        assert (out.shape, out.dtype) == ((2, T, 16), np.float32)
        assert out.requires_grad is True
        assert np.isfinite(out.data).all()

    def test_the_vectors_can_be_divided_among_heads_and_compared(self):
        layer = EmbeddingLayer(50, 16, 32)
        heads = layer(randint(0, 50, (2, 10), rng=0)).reshape(2, 10, 4, 4).swapaxes(1, 2)
        scores = heads @ heads.swapaxes(-1, -2)
        assert scores.shape == (2, 4, 10, 10)
        scores.sum().backward()
        used = np.abs(layer.pos_encoding.position_embeddings.grad).max(axis=1) > 0
        assert used.tolist() == [True] * 10 + [False] * 22

    def test_queries_and_keys_keep_their_shape_when_turned(self):
        q = Tensor(np.ones((2, 4, 10, 8)), requires_grad=True)
        turned = RotaryEmbedding(8)(q, q)
        assert [(x.shape, x.dtype, x.requires_grad) for x in turned] == [((2, 4, 10, 8), np.float32, True)] * 2

    @every_mode
    def test_a_sequence_read_in_two_parts_is_the_sequence(self, mode):
        tokens = randint(0, 20, (2, 9), rng=0)
        layer = EmbeddingLayer(20, 8, 9, pos_encoding=mode)
        parts = [layer(tokens[:, :4]).data, layer(tokens[:, 4:], offset=4).data]
        assert_close(np.concatenate(parts, axis=1), layer(tokens).data, rtol=0, atol=0)

    @pytest.mark.parametrize("mode", ["learned", "sinusoidal"])
    def test_the_longest_sequence_is_accepted_and_one_more_refused(self, mode):
        layer = EmbeddingLayer(5, 4, 512, pos_encoding=mode)
        assert layer(np.zeros((1, 512), np.int64)).shape == (1, 512, 4)
        with pytest.raises(ValueError, match="exceeds maximum"):
            layer(np.zeros((1, 513), np.int64))

    def test_without_places_no_sequence_is_too_long(self):
        assert EmbeddingLayer(5, 4, 8, pos_encoding=None)(np.zeros((1, 100), np.int64)).shape == (1, 100, 4)


class Guess(Module):
    """The next token from this one: a table and a linear layer."""

    def __init__(self, vocab_size, embed_dim, mode):
        self.embed = EmbeddingLayer(vocab_size, embed_dim, 16, pos_encoding=mode, rng=0)
        self.out = Linear(embed_dim, vocab_size, rng=1)

    def forward(self, tokens):
        return self.out(self.embed(tokens))


class TestCrossModuleIntegration:
    @every_mode
    def test_the_layer_is_the_sum_of_its_parts(self, mode):
        tokens = randint(0, 20, (2, 7), rng=0)
        layer = EmbeddingLayer(20, 8, 9, pos_encoding=mode)
        want = layer.token_embedding(tokens)
        if mode == "learned":
            want = want + layer.pos_encoding.position_embeddings[:7]
        elif mode == "sinusoidal":
            want = want + create_sinusoidal_embeddings(9, 8)[:7]
        assert_close(layer(tokens), want.data, rtol=0, atol=0)

    @pytest.mark.parametrize("rule", [SGD, Adam])
    @pytest.mark.parametrize(("mode", "count"), [("learned", 2), ("sinusoidal", 1), (None, 1)])
    def test_optimizers_find_the_tables(self, rule, mode, count):
        layer = EmbeddingLayer(10, 4, 8, pos_encoding=mode)
        optimizer = rule(layer.parameters(), lr=0.1)
        assert len(optimizer.parameters) == count
        assert optimizer.parameters[0] is layer.token_embedding.weight
        before = [p.data.copy() for p in optimizer.parameters]
        (layer([[1, 2, 3]]) ** 2).sum().backward()
        optimizer.step()
        moved = [(p.data != old).any(axis=1).nonzero()[0].tolist() for p, old in zip(optimizer.parameters, before)]
        assert moved == [[1, 2, 3], [0, 1, 2]][:count]

    def test_plain_sgd_moves_only_rows_that_were_used(self):
        layer = Embedding(10, 4)
        before = layer.weight.data.copy()
        layer([[3, 7], [7, 7]]).sum().backward()
        SGD(layer.parameters(), lr=0.5).step()
        want = before.copy()
        want[3] -= 0.5
        want[7] -= 1.5
        assert_close(layer.weight, want, rtol=1e-6)
        np.testing.assert_array_equal(np.delete(layer.weight.data, [3, 7], 0), np.delete(before, [3, 7], 0))

    @every_mode
    @pytest.mark.parametrize("rule", [lambda p: SGD(p, lr=1.0), lambda p: Adam(p, lr=0.05)], ids=["sgd", "adam"])
    def test_a_table_learns_which_token_follows(self, rule, mode):
        tokens = Tensor([[0, 1, 2, 3, 4, 5, 6, 7]])
        follows = Tensor([[3, 0, 5, 1, 7, 2, 4, 6]])
        model = Guess(8, 12, mode)
        optimizer = rule(model.parameters())
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(model(tokens), follows).backward()
            optimizer.step()
        assert model(tokens).argmax(axis=-1).tolist() == follows.tolist()

    def test_only_places_can_tell_equal_tokens_apart(self):
        tokens, wanted = Tensor([[0, 0, 0, 0]]), Tensor([[0, 0, 1, 1]])
        for mode in MODES:
            manual_seed(0)
            model = Guess(2, 8, mode)
            optimizer = Adam(model.parameters(), lr=0.05)
            for _ in range(80):
                optimizer.zero_grad()
                loss = cross_entropy(model(tokens), wanted)
                loss.backward()
                optimizer.step()
            if mode is None:
                assert loss.item() == pytest.approx(math.log(2), abs=1e-3)
            else:
                assert loss.item() < 0.2

    def test_the_trainer_trains_a_table_on_batches_of_a_loader(self):
        tokens = randint(0, 8, (64, 6), rng=0)
        follows = Tensor((tokens.data * 3 + 1) % 8)
        model = Guess(8, 16, "learned")
        trainer = Trainer(model, Adam(model.parameters(), lr=0.02), cross_entropy)
        loader = DataLoader(TensorDataset(tokens, follows), 16, shuffle=True, seed=0)
        losses = [trainer.train_epoch(loader) for _ in range(6)]
        assert losses[-1] < 0.5 < losses[0]

    def test_a_table_may_share_its_weights_with_the_last_layer(self):
        class Tied(Module):
            def __init__(self):
                self.embed = Embedding(6, 4)

            def forward(self, tokens):
                return self.embed(tokens) @ self.embed.weight.T

        model = Tied()
        assert len(model.parameters()) == 1
        model([[1, 2]]).sum().backward()
        w = model.embed.weight.data
        want = np.tile(w[1] + w[2], (6, 1))
        want[[1, 2]] += w.sum(axis=0)
        assert_close(model.embed.weight.grad, want)

    def test_tables_go_through_a_state_dict(self):
        layers = [EmbeddingLayer(7, 4, 5, rng=seed) for seed in (0, 1)]
        assert list(layers[0].state_dict()) == ["token_embedding.weight", "pos_encoding.position_embeddings"]
        layers[1].load_state_dict(layers[0].state_dict())
        tokens = randint(0, 7, (2, 5))
        assert_close(layers[1](tokens), layers[0](tokens).data, rtol=0, atol=0)

    def test_sines_are_no_part_of_the_state(self):
        assert list(EmbeddingLayer(7, 4, 5, pos_encoding="sinusoidal").state_dict()) == ["token_embedding.weight"]

    def test_a_layer_fits_into_sequential(self):
        model = Sequential(EmbeddingLayer(7, 4, 5), Linear(4, 2))
        assert model(randint(0, 7, (3, 5))).shape == (3, 5, 2)
        assert len(model.parameters()) == 4


class TestRegressionPrevention:
    def test_a_table_costs_four_bytes_per_number(self):
        layer = Embedding(1000, 64)
        assert layer.weight.data.nbytes == 1000 * 64 * 4
        assert layer.num_parameters() == 1000 * 64

    def test_four_times_the_words_and_twice_the_width_cost_eight_times_the_memory(self):
        small, large = Embedding(1000, 64), Embedding(4000, 128)
        assert large.weight.data.nbytes == 8 * small.weight.data.nbytes

    @every_mode
    @pytest.mark.parametrize("tokens", [[], [[], []], np.zeros((2, 0), np.int64), Tensor(np.zeros((0, 5), np.int64))])
    def test_empty_sequences_give_empty_vectors(self, mode, tokens):
        shape = np.shape(tokens)
        out = EmbeddingLayer(10, 4, 8, pos_encoding=mode)(tokens)
        assert (out.shape, out.dtype) == ((*shape, 4), np.float32)

    def test_the_gradient_of_an_empty_batch_is_zero(self):
        layer = Embedding(10, 4)
        layer(np.zeros((2, 0), np.int64)).sum().backward()
        assert_close(layer.weight.grad, np.zeros((10, 4), np.float32))

    @every_mode
    def test_a_single_token(self, mode):
        layer = EmbeddingLayer(10, 4, 8, pos_encoding=mode)
        assert_close(layer([7]), layer([[7]]).data[0], rtol=0, atol=0)

    @every_mode
    def test_one_sequence_needs_no_batch(self, mode):
        layer = EmbeddingLayer(10, 4, 8, pos_encoding=mode)
        tokens = randint(0, 10, 6, rng=0)
        assert_close(layer(tokens), layer(tokens.reshape(1, 6)).data[0], rtol=0, atol=0)

    def test_scaling_multiplies_tokens_and_not_places(self):
        plain, scaled = (EmbeddingLayer(10, 16, 8, scale_embeddings=flag, rng=0) for flag in (False, True))
        tokens = randint(0, 10, (2, 8), rng=0)
        places = plain.pos_encoding.position_embeddings.data
        assert_close(scaled(tokens).data - places, 4 * (plain(tokens).data - places), atol=1e-6)
        assert_close(scaled(tokens), 4 * plain.token_embedding(tokens).data + places)

    def test_changing_the_tokens_afterwards_does_not_change_the_gradient(self):
        layer, tokens = Embedding(5, 2), np.array([1, 1])
        out = layer(tokens)
        tokens[:] = 4
        out.sum().backward()
        assert_close(layer.weight.grad.sum(axis=1), np.array([0, 4, 0, 0, 0], np.float32))

    def test_changing_the_result_does_not_change_the_table(self):
        layer = Embedding(5, 2)
        with no_grad():
            out = layer([1])
        out.data[:] = 9
        assert np.abs(layer.weight.data).max() < 9

    @every_mode
    def test_a_seed_repeats_a_layer_bit_for_bit(self, mode):
        first, second = (EmbeddingLayer(10, 4, 8, pos_encoding=mode, rng=5).state_dict() for _ in range(2))
        assert {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}

    @pytest.mark.parametrize("mode", ["Learned", "sin", True, 0])
    def test_an_unknown_kind_of_places_is_refused(self, mode):
        with pytest.raises(ValueError, match="needs pos_encoding 'learned', 'sinusoidal' or None"):
            EmbeddingLayer(10, 4, pos_encoding=mode)

    def test_token_numbers_above_2_to_the_24_are_not_rounded(self):
        with pytest.raises(ValueError, match="token 16777217 is out of range"):
            Embedding(5, 2)(Tensor([16777217]))
