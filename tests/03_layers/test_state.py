"""state_dict, load_state_dict and buffers: all or nothing."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.tensor import Tensor, randn


class Averaging(Module):
    """A layer with running statistics."""

    def __init__(self):
        self.scale = Tensor([1.0, 1.0], requires_grad=True)
        self.running_mean = np.zeros(2, np.float32)
        self.count = np.zeros((), np.int64)
        self._scratch = np.ones(100)


class Net(Module):
    def __init__(self, rng=0):
        self.layers = [Linear(3, 2, rng=rng), ReLU(), Averaging()]


NAMES = [
    "layers.0.weight",
    "layers.0.bias",
    "layers.2.scale",
    "layers.2.running_mean",
    "layers.2.count",
]


def snapshot(net):
    return {name: array.tobytes() for name, array in net.state_dict().items()}


class TestBuffers:
    def test_public_arrays_are_buffers_and_private_ones_are_not(self):
        net = Net()
        assert [name for name, _ in net.named_buffers()] == NAMES[3:]
        assert net.buffers()[0] is net.layers[2].running_mean

    def test_a_buffer_is_not_trained(self):
        assert len(Net().parameters()) == 3

    def test_a_buffer_replaced_by_assignment_is_the_new_one(self):
        net = Net()
        net.layers[2].running_mean = np.array([5, 6], np.float32)
        assert net.state_dict()["layers.2.running_mean"].tolist() == [5, 6]


class TestStateDict:
    def test_names_and_values(self):
        net = Net()
        state = net.state_dict()
        assert list(state) == NAMES
        assert_close(state["layers.0.weight"], net.layers[0].weight.data)
        assert all(isinstance(array, np.ndarray) for array in state.values())

    def test_the_names_of_a_sequential_are_pytorchs(self):
        assert list(Sequential(Linear(1, 1), ReLU(), Linear(1, 1, bias=False)).state_dict()) == [
            "0.weight",
            "0.bias",
            "2.weight",
        ]

    def test_it_holds_copies(self):
        net = Net()
        state = net.state_dict()
        for array in state.values():
            array[...] = 9
        assert not (net.layers[0].weight.data == 9).any()
        assert not (net.layers[2].running_mean == 9).any()


class TestLoading:
    def test_values_arrive_in_the_arrays_that_are_there(self):
        source, net = Net(rng=1), Net(rng=2)
        source.layers[2].running_mean[:] = [3, 4]
        source.layers[2].count += 7
        weight, mean = net.layers[0].weight.data, net.layers[2].running_mean
        assert net.load_state_dict(source.state_dict()) == ([], [])
        assert net.layers[0].weight.data is weight
        assert_close(weight, source.layers[0].weight.data, rtol=0, atol=0)
        assert mean.tolist() == [3, 4]
        assert net.layers[2].count == 7

    def test_loaded_weights_share_nothing_with_the_state(self):
        net = Net()
        state = net.state_dict()
        net.load_state_dict(state)
        state["layers.0.weight"][...] = 9
        assert not (net.layers[0].weight.data == 9).any()

    def test_tensors_and_lists_are_welcome_and_dtypes_stay(self):
        layer = Linear(2, 1)
        layer.load_state_dict({"weight": Tensor([[1.0], [2.0]], dtype=np.float64), "bias": [3]})
        assert_close(layer.weight, np.array([[1], [2]], np.float32))
        assert_close(layer.bias, np.array([3], np.float32))
        assert layer.weight.requires_grad

    def test_loading_counts_as_a_change_in_place(self):
        layer = Linear(2, 1)
        before = layer.weight._version
        layer.load_state_dict(layer.state_dict())
        assert layer.weight._version == before + 1

    def test_a_tied_weight_is_loaded_once_for_both(self):
        model = Sequential(Linear(2, 2), Linear(2, 2, bias=False))
        model[1].weight = model[0].weight
        state = model.state_dict()
        assert list(state) == ["0.weight", "0.bias"]
        state["0.weight"] = np.eye(2)
        model.load_state_dict(state)
        assert_close(model[1].weight, np.eye(2, dtype=np.float32))


class TestRefusing:
    def broken(self, **changes):
        state = Net(rng=9).state_dict()
        for name, value in changes.items():
            if value is None:
                del state[name]
            else:
                state[name] = value
        return state

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"layers.0.bias": None}, r"missing: layers\.0\.bias \(2,\)"),
            ({"layers.2.count": None}, r"missing: layers\.2\.count \(\)"),
            ({"head.weight": np.zeros(3)}, r"unexpected: head\.weight"),
            ({"layers.0.weight": np.zeros((2, 3))}, r"shape: layers\.0\.weight is \(3, 2\) here and \(2, 3\)"),
            ({"layers.2.running_mean": np.zeros(1)}, r"shape: layers\.2\.running_mean is \(2,\) here and \(1,\)"),
            ({"layers.2.scale": np.zeros(2, complex)}, r"dtype: layers\.2\.scale is float32 here and complex128"),
            ({"layers.2.count": np.zeros(())}, r"dtype: layers\.2\.count is int64 here and float64"),
        ],
    )
    def test_a_state_that_does_not_fit_is_named_and_nothing_changes(self, changes, message):
        net = Net()
        before = snapshot(net)
        with pytest.raises(ValueError, match=message):
            net.load_state_dict(self.broken(**changes))
        assert snapshot(net) == before

    def test_all_problems_are_listed_at_once_with_the_model(self):
        with pytest.raises(ValueError, match="Net") as caught:
            Net().load_state_dict(
                self.broken(**{"layers.0.bias": None, "extra": np.zeros(1), "layers.2.scale": np.zeros(5)})
            )
        assert all(word in str(caught.value) for word in ("layers.0.bias", "extra", "layers.2.scale"))

    def test_not_strict_takes_what_fits_and_reports_the_rest(self):
        net = Net()
        state = self.broken(**{"layers.0.bias": None, "extra": np.zeros(1)})
        bias = net.layers[0].bias.data.copy()
        assert net.load_state_dict(state, strict=False) == (["layers.0.bias"], ["extra"])
        assert_close(net.layers[0].weight, state["layers.0.weight"])
        assert_close(net.layers[0].bias, bias)

    def test_not_strict_still_refuses_another_shape(self):
        net = Net()
        before = snapshot(net)
        with pytest.raises(ValueError, match="shape"):
            net.load_state_dict(self.broken(**{"layers.2.scale": np.zeros(5)}), strict=False)
        assert snapshot(net) == before


def test_a_model_that_was_loaded_computes_what_the_other_computes():
    a, b = (Sequential(Linear(3, 4, rng=s), ReLU(), Linear(4, 2, rng=s + 1)) for s in (0, 5))
    b.load_state_dict(a.state_dict())
    x = randn(6, 3, rng=0)
    assert_close(b(x), a(x).data, rtol=0, atol=0)
