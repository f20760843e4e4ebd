"""Places that are added: learned vectors, sines and cosines."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor, randn
from tinytorch.text.embeddings import PositionalEncoding, SinusoidalEncoding, create_sinusoidal_embeddings

both = pytest.mark.parametrize("cls", [PositionalEncoding, SinusoidalEncoding])


@both
class TestAdding:
    @pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (3, 2, 4), (2, 3, 6, 4), (3, 1, 4), (2, 0, 4), (0, 3, 4)])
    def test_the_vector_of_place_t_is_added_at_place_t(self, cls, shape):
        layer, x = cls(6, 4), randn(*shape, rng=0)
        want = x.data + layer.position_embeddings.data[: shape[-2]]
        assert_close(layer(x), want, rtol=0, atol=0)

    @pytest.mark.parametrize(("offset", "T"), [(0, 6), (1, 5), (3, 2), (5, 1), (6, 0)])
    def test_an_offset_says_where_the_first_vector_stands(self, cls, offset, T):
        layer, x = cls(6, 4), randn(2, T, 4, rng=0)
        want = x.data + layer.position_embeddings.data[offset : offset + T]
        assert_close(layer(x, offset=offset), want, rtol=0, atol=0)

    @pytest.mark.parametrize(("offset", "T"), [(0, 7), (1, 6), (6, 1), (7, 0), (0, 1000)])
    def test_what_exceeds_the_maximum_is_refused(self, cls, offset, T):
        message = f"{cls.__name__}: a sequence of {T} from place {offset} exceeds maximum length 6"
        with pytest.raises(ValueError, match=message):
            cls(6, 4)(randn(2, T, 4), offset)

    def test_a_place_before_the_first_is_refused(self, cls):
        with pytest.raises(ValueError, match="from place -1"):
            cls(6, 4)(randn(2, 3, 4), offset=-1)

    @pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 1), (4,), ()])
    def test_vectors_of_another_width_are_refused(self, cls, shape):
        with pytest.raises(ValueError, match=rf"{cls.__name__} needs vectors \(\.\.\., T, 4\), got shape"):
            cls(6, 4)(Tensor(np.ones(shape)))

    def test_float32_stays_float32_and_x_as_it_was(self, cls):
        x = randn(2, 3, 4, rng=0)
        before = x.data.copy()
        assert cls(6, 4)(x).dtype == np.float32
        assert_close(x, before, rtol=0, atol=0)

    def test_the_gradient_passes_to_x(self, cls):
        x = randn(2, 3, 4, rng=0, requires_grad=True)
        cls(6, 4)(x).sum().backward()
        assert_close(x.grad, np.ones((2, 3, 4), np.float32))

    def test_it_prints_its_sizes(self, cls):
        assert repr(cls(6, 4)) == f"{cls.__name__}(max_seq_len=6, embed_dim=4)"


class TestLearned:
    def test_the_table_is_its_only_parameter(self):
        layer = PositionalEncoding(6, 4)
        found = [(name, p.shape, p.requires_grad) for name, p in layer.named_parameters()]
        assert found == [("position_embeddings", (6, 4), True)]

    def test_a_place_collects_its_gradient_from_the_whole_batch(self):
        layer = PositionalEncoding(4, 2)
        grad = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
        layer(Tensor(np.zeros((2, 3, 2)))).backward(grad)
        assert_close(layer.position_embeddings.grad, np.array([[6, 8], [10, 12], [14, 16], [0, 0]], np.float32))

    def test_with_an_offset_the_gradient_goes_to_the_later_places(self):
        layer = PositionalEncoding(4, 2)
        layer(Tensor(np.zeros((2, 2, 2))), offset=1).sum().backward()
        assert_close(layer.position_embeddings.grad[:, 0], np.array([0, 2, 2, 0], np.float32))

    def test_rows_start_as_those_of_tokens_do(self):
        w = PositionalEncoding(2000, 100, rng=0).position_embeddings.data
        assert (w**2).sum(axis=1).mean() == pytest.approx(1, abs=0.02)

    @pytest.mark.parametrize(("sizes", "named"), [((0, 4), "max_seq_len"), ((4, 0), "embed_dim")])
    def test_a_size_is_at_least_1(self, sizes, named):
        with pytest.raises(ValueError, match=f"PositionalEncoding needs {named} of at least 1"):
            PositionalEncoding(*sizes)


def by_the_paper(T, E):
    table = np.zeros((T, E))
    for t in range(T):
        for column in range(E):
            angle = t / 10000 ** (2 * (column // 2) / E)
            table[t, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return table.astype(np.float32)


class TestSines:
    @pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (3, 1), (5, 2), (7, 5), (50, 16), (20, 33)])
    def test_the_formula_of_the_paper(self, sizes):
        assert_close(create_sinusoidal_embeddings(*sizes), by_the_paper(*sizes), rtol=0, atol=1e-6)

    def test_place_0_is_0_and_1_by_turns(self):
        assert create_sinusoidal_embeddings(3, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]

    def test_all_places_have_the_same_length(self):
        table = create_sinusoidal_embeddings(100, 32).data
        assert_close((table**2).sum(axis=1), np.full(100, 16, np.float32))

    def test_far_places_are_exact(self):
        table = create_sinusoidal_embeddings(100_001, 4).data
        want = [math.sin(100_000), math.cos(100_000), math.sin(1000), math.cos(1000)]
        assert_close(table[-1], np.array(want, np.float32), rtol=0, atol=1e-6)

    def test_the_product_of_two_places_knows_only_their_distance(self):
        table = create_sinusoidal_embeddings(60, 16).data.astype(np.float64)
        products = table @ table.T
        for distance in (1, 5, 20):
            assert np.ptp(np.diagonal(products, distance)) < 1e-5

    def test_the_product_falls_with_a_small_distance(self):
        table = create_sinusoidal_embeddings(10, 64).data
        products = table @ table[0]
        assert (np.diff(products[:4]) < 0).all()

    def test_no_two_places_are_alike(self):
        assert len(np.unique(create_sinusoidal_embeddings(5000, 8).data, axis=0)) == 5000

    def test_the_first_pair_turns_by_one_radian_per_place_and_the_last_hardly(self):
        table = create_sinusoidal_embeddings(2, 64).data
        assert_close(table[1, 0], np.float32(math.sin(1)))
        assert 0 < table[1, 62] < 2e-4

    def test_it_is_float32_and_nothing_to_learn(self):
        table = create_sinusoidal_embeddings(5, 4)
        assert (table.dtype, table.requires_grad) == (np.float32, False)
        layer = SinusoidalEncoding(5, 4)
        assert (layer.parameters(), layer.buffers(), layer.state_dict()) == ([], [], {})

    def test_thawing_a_model_does_not_make_sines_learnable(self):
        layer = SinusoidalEncoding(5, 4).requires_grad_()
        assert layer.position_embeddings.requires_grad is False

    @pytest.mark.parametrize(
        ("sizes", "named"), [((0, 4), "max_seq_len"), ((4, 0), "embed_dim"), ((-3, 4), "max_seq_len")]
    )
    def test_a_size_is_at_least_1(self, sizes, named):
        with pytest.raises(ValueError, match=f"create_sinusoidal_embeddings needs {named} of at least 1"):
            create_sinusoidal_embeddings(*sizes)
