"""Sequential, Flatten and Identity."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU, Sigmoid
from tinytorch.core.layers import Flatten, Identity, Linear, Sequential
from tinytorch.core.tensor import Tensor, randn


class TestSequential:
    def test_each_layer_gets_what_the_one_before_returns(self):
        model = Sequential(lambda x: x + 1, lambda x: x * 10)
        assert model(Tensor([1.0])).tolist() == [20.0]

    def test_without_layers_it_is_the_identity(self):
        x = randn(3)
        assert Sequential()(x) is x

    def test_it_is_a_sequence(self):
        first, second, third = Linear(1, 2), ReLU(), Linear(2, 1)
        model = Sequential(first, second, third)
        assert len(model) == 3
        assert list(model) == [first, second, third]
        assert model.layers == [first, second, third]
        assert model[0] is first
        assert model[-1] is third
        with pytest.raises(IndexError):
            model[3]

    def test_a_slice_is_a_sequential_of_the_same_layers(self):
        model = Sequential(Linear(1, 2), ReLU(), Linear(2, 1))
        part = model[1:]
        assert type(part) is Sequential
        assert part[1] is model[2]
        assert [name for name, _ in part.named_parameters()] == ["1.weight", "1.bias"]

    def test_a_layer_can_be_appended_and_replaced(self):
        model = Sequential(ReLU()).append(Linear(2, 2))
        sigmoid = Sigmoid()
        model[-1] = sigmoid
        assert list(model)[1] is sigmoid
        assert len(model) == 2
        assert_close(model(Tensor([-1.0, 0.0])), np.array([0.5, 0.5], np.float32))
        with pytest.raises(IndexError):
            model[2] = sigmoid

    def test_more_than_ten_layers_stay_in_order(self):
        model = Sequential(*(lambda x, i=i: x * 2 + i for i in range(12)))
        want = 1.0
        for i in range(12):
            want = want * 2 + i
        assert model(Tensor([1.0])).tolist() == [want]

    def test_switching_to_eval_does_not_add_a_layer(self):
        model = Sequential(ReLU()).eval()
        assert len(model) == 1

    @pytest.mark.parametrize("wrong", [[ReLU()], 3, None, Linear])
    def test_what_is_no_layer_is_refused(self, wrong):
        with pytest.raises(TypeError, match="Sequential needs layers, one by one"):
            Sequential(wrong)


class TestFlatten:
    @pytest.mark.parametrize(
        ("layer", "shape", "want"),
        [
            (Flatten(), (2, 3, 4), (2, 12)),
            (Flatten(), (2, 1, 8, 8), (2, 64)),
            (Flatten(), (2, 5), (2, 5)),
            (Flatten(0), (2, 3, 4), (24,)),
            (Flatten(1, 2), (2, 3, 4, 5), (2, 12, 5)),
        ],
    )
    def test_shapes(self, layer, shape, want):
        x = randn(*shape, rng=0)
        assert_close(layer(x), x.data.reshape(want), rtol=0, atol=0)

    def test_it_prints_its_settings(self):
        assert repr(Flatten()) == "Flatten(start_dim=1, end_dim=-1)"


def test_identity_returns_the_tensor_itself():
    x = randn(3)
    assert Identity()(x) is x
