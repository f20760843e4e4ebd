"""EmbeddingLayer: its parts, its settings, its order of things."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import manual_seed, randint
from tinytorch.text.embeddings import Embedding, EmbeddingLayer, PositionalEncoding, SinusoidalEncoding

every_mode = pytest.mark.parametrize("mode", ["learned", "sinusoidal", None])
TOKENS = randint(0, 11, (3, 7), rng=0)


class TestParts:
    @pytest.mark.parametrize(
        ("mode", "cls", "names"),
        [
            ("learned", PositionalEncoding, ["token_embedding.weight", "pos_encoding.position_embeddings"]),
            ("sinusoidal", SinusoidalEncoding, ["token_embedding.weight"]),
            (None, type(None), ["token_embedding.weight"]),
        ],
    )
    def test_what_it_is_made_of(self, mode, cls, names):
        layer = EmbeddingLayer(11, 4, 9, pos_encoding=mode)
        assert type(layer.token_embedding) is Embedding
        assert type(layer.pos_encoding) is cls
        assert [name for name, _ in layer.named_parameters()] == names

    @pytest.mark.parametrize(("mode", "count"), [("learned", 11 * 4 + 9 * 4), ("sinusoidal", 11 * 4), (None, 11 * 4)])
    def test_how_many_numbers_it_learns(self, mode, count):
        assert EmbeddingLayer(11, 4, 9, pos_encoding=mode).num_parameters() == count

    def test_learned_places_up_to_512_are_the_default(self):
        layer = EmbeddingLayer(11, 4)
        assert layer.pos_encoding.position_embeddings.shape == (512, 4)
        assert layer.scale_embeddings is False

    def test_the_tokens_come_from_the_first_numbers_of_the_generator(self):
        manual_seed(3)
        alone = Embedding(11, 4).weight.data
        for mode in ("learned", "sinusoidal", None):
            manual_seed(3)
            assert_close(EmbeddingLayer(11, 4, 9, pos_encoding=mode).token_embedding.weight, alone, rtol=0, atol=0)

    def test_tokens_and_places_start_different(self):
        layer = EmbeddingLayer(9, 4, 9, rng=0)
        assert not np.allclose(layer.token_embedding.weight.data, layer.pos_encoding.position_embeddings.data)

    def test_it_prints_its_parts(self):
        assert repr(EmbeddingLayer(11, 4, 9)) == (
            "EmbeddingLayer(\n  scale_embeddings=False\n"
            "  (token_embedding): Embedding(vocab_size=11, embed_dim=4)\n"
            "  (pos_encoding): PositionalEncoding(max_seq_len=9, embed_dim=4)\n)"
        )


@every_mode
class TestForward:
    @pytest.mark.parametrize("E", [1, 5, 16])
    def test_scaling_is_by_the_root_of_the_width_before_places_are_added(self, mode, E):
        layer = EmbeddingLayer(11, E, 9, pos_encoding=mode, scale_embeddings=True)
        want = layer.token_embedding(TOKENS).data * np.float32(math.sqrt(E))
        if mode is not None:
            want = want + layer.pos_encoding.position_embeddings.data[:7]
        out = layer(TOKENS)
        assert_close(out, want, rtol=1e-6)
        assert out.dtype == np.float32

    def test_scaling_reaches_the_gradient(self, mode):
        layer = EmbeddingLayer(11, 16, 9, pos_encoding=mode, scale_embeddings=True)
        layer([[1, 2, 2]]).sum().backward()
        want = np.zeros((11, 16), np.float32)
        want[1], want[2] = 4, 8
        assert_close(layer.token_embedding.weight.grad, want)

    def test_the_offset_moves_the_places_and_not_the_tokens(self, mode):
        layer = EmbeddingLayer(11, 4, 20, pos_encoding=mode)
        moved = layer(TOKENS, offset=5).data - layer(TOKENS).data
        if mode is None:
            want = np.zeros((7, 4), np.float32)
        else:
            table = layer.pos_encoding.position_embeddings.data
            want = table[5:12] - table[:7]
        assert_close(moved, np.stack([want] * 3), atol=1e-6)

    @pytest.mark.parametrize("token", [-1, 11])
    def test_tokens_out_of_range_are_refused(self, mode, token):
        with pytest.raises(ValueError, match="out of range"):
            EmbeddingLayer(11, 4, 9, pos_encoding=mode)([[0, token]])

    def test_any_number_of_leading_axes(self, mode):
        layer = EmbeddingLayer(11, 4, 9, pos_encoding=mode)
        tokens = randint(0, 11, (2, 3, 5), rng=0)
        want = np.stack([layer(row).data for row in tokens])
        assert_close(layer(tokens), want, rtol=0, atol=0)

    def test_each_sequence_is_read_on_its_own(self, mode):
        layer = EmbeddingLayer(11, 4, 9, pos_encoding=mode)
        for i in range(3):
            assert_close(layer(TOKENS[i]), layer(TOKENS).data[i], rtol=0, atol=0)

    def test_training_and_evaluation_are_the_same(self, mode):
        layer = EmbeddingLayer(11, 4, 9, pos_encoding=mode)
        assert_close(layer.eval()(TOKENS), layer.train()(TOKENS).data, rtol=0, atol=0)
