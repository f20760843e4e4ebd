"""Which range the inputs of a layer keep to."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.tensor import Tensor, randn
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.optimization.quantization import Observer, calibrate, quantize_model


def network():
    return Sequential(Linear(4, 8, rng=0), ReLU(), Dropout(0.5), Linear(8, 2, rng=1))


def modes_of(model):
    return [layer.training for layer in model.modules() if isinstance(layer, Module)]


class TestObserver:
    def test_smallest_and_largest_of_all_arrays(self):
        observer = Observer()
        for values in ([1.0, 2.0], [-3.0], [[0.5, 1.5]]):
            observer.see(np.array(values))
        assert observer.range() == (-3.0, 2.0)

    def test_percentiles_leave_outliers_out(self):
        values = np.append(np.linspace(-1, 1, 10_000), [1000.0])
        observer = Observer(99.0)
        observer.see(values)
        low, high = observer.range()
        bin_width = 2 * observer.reach / 2048
        assert -0.98 - bin_width <= low <= -0.98
        assert 0.98 <= high <= 0.98 + bin_width

    @pytest.mark.parametrize("percentile", [90, 99, 99.9, 100])
    def test_percentiles_agree_with_numpy_to_a_bin(self, percentile):
        rng = np.random.default_rng(0)
        batches = [rng.normal(size=1001) * size for size in (0.01, 1, 5)]  # reach must grow on the way
        observer = Observer(percentile)
        for batch in batches:
            observer.see(batch)
        want = np.percentile(np.concatenate(batches), [100 - percentile, percentile], method="inverted_cdf")
        assert_close(np.array(observer.range()), want, rtol=0, atol=2 * observer.reach / 2048)

    def test_one_hundred_percent_is_everything(self):
        values = np.random.default_rng(0).normal(size=100)
        exact, all_of_it = Observer(), Observer(100)
        for observer in (exact, all_of_it):
            observer.see(values)
        assert exact.range() == all_of_it.range()

    def test_growing_moves_no_value_into_a_wrong_bin(self):
        observer = Observer(99)
        for scale in (1e-3, 1.0, 700.0):
            observer.see(scale * np.array([-1.0, -0.5, 0.25, 1.0]))
        seen = np.concatenate([scale * np.array([-1.0, -0.5, 0.25, 1.0]) for scale in (1e-3, 1.0, 700.0)])
        assert observer.reach == 1024
        assert observer.counts.tolist() == np.histogram(seen, 2048, (-1024, 1024))[0].tolist()

    def test_order_does_not_matter(self):
        arrays = [np.random.default_rng(i).normal(size=50) * 4.0**i for i in range(4)]
        observers = Observer(95), Observer(95)
        for array in arrays:
            observers[0].see(array)
        for array in reversed(arrays):
            observers[1].see(array)
        assert observers[0].counts.tolist() == observers[1].counts.tolist()
        assert observers[0].range() == observers[1].range()

    @pytest.mark.parametrize("percentile", [None, 99])
    def test_a_constant(self, percentile):
        observer = Observer(percentile)
        observer.see(np.full(10, 3.0))
        assert observer.range() == (3.0, 3.0)

    @pytest.mark.parametrize("percentile", [None, 99])
    def test_zeros(self, percentile):
        observer = Observer(percentile)
        observer.see(np.zeros(10, np.float32))
        assert observer.range() == (0.0, 0.0)

    @pytest.mark.parametrize("percentile", [None, 99])
    def test_nothing_seen_is_an_error(self, percentile):
        observer = Observer(percentile, "layer 'fc'")
        observer.see(np.zeros((0, 3)))
        with pytest.raises(ValueError, match="layer 'fc' saw nothing"):
            observer.range()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused(self, bad):
        with pytest.raises(ValueError, match="not finite"):
            Observer().see(np.array([1.0, bad]))

    @pytest.mark.parametrize("percentile", [0, 50, 100.1, -1])
    def test_percentiles_that_make_no_sense(self, percentile):
        with pytest.raises(ValueError, match="above 50 and up to 100"):
            Observer(percentile)


class TestCalibrate:
    def test_every_linear_layer_is_watched_by_name(self):
        model, x = network(), randn(20, 4)
        observers = calibrate(model, x)
        hidden = np.maximum(model[0](x).numpy(), 0)
        assert list(observers) == ["0", "3"]
        assert_close(np.array(observers["0"].range()), np.array([x.numpy().min(), x.numpy().max()]))
        assert_close(np.array(observers["3"].range()), np.array([0, hidden.max()]))

    def test_all_batches_count(self):
        x = randn(30, 4)
        parts = calibrate(network(), [x[:10], x[10:20], x[20:]])
        assert [o.range() for o in parts.values()] == [o.range() for o in calibrate(network(), x).values()]

    @pytest.mark.parametrize("form", ["tensor", "array", "list", "generator", "loader", "pairs"])
    def test_forms_of_data(self, form):
        x, y = randn(12, 4), Tensor(np.zeros(12, np.int64))
        data = {
            "tensor": x,
            "array": x.numpy(),
            "list": [x[:5], x[5:]],
            "generator": (part for part in (x[:5], x[5:])),
            "loader": DataLoader(TensorDataset(x, y), batch_size=5),
            "pairs": [(x, y)],
        }[form]
        assert calibrate(network(), data)["0"].range() == calibrate(network(), x)["0"].range()

    @pytest.mark.parametrize("data", [[], (), iter([]), np.zeros((0, 4), np.float32), [np.zeros((0, 4), np.float32)]])
    def test_calibrating_on_nothing_is_an_error(self, data):
        with pytest.raises(ValueError, match="no data reached layer '0', '3'"):
            calibrate(network(), data)

    def test_a_layer_that_no_data_reaches_is_named(self):
        model = network()
        model.spare = Linear(3, 3)
        with pytest.raises(ValueError, match="no data reached layer 'spare'"):
            calibrate(model, randn(5, 4))

    def test_nan_is_an_error_that_names_the_layer(self):
        with pytest.raises(ValueError, match="layer '0' saw numbers that are not finite"):
            calibrate(network(), Tensor([[1.0, np.nan, 0.0, 0.0]]))

    def test_what_is_no_data_is_refused(self):
        with pytest.raises(TypeError, match="needs batches of inputs, got int"):
            calibrate(network(), 3)

    def test_the_model_is_left_as_it_was(self):
        model = network()
        model[2].training = False
        model[0].training = True
        modes = modes_of(model)
        before = model.state_dict()
        calibrate(model, randn(5, 4))
        assert modes_of(model) == modes
        assert not model[0]._hooks
        assert not model[3]._hooks
        assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())

    def test_also_when_the_data_does_not_fit(self):
        model = network()
        with pytest.raises(ValueError, match="needs inputs"):
            calibrate(model, randn(5, 3))
        assert model[2].training is True
        assert not model[0]._hooks

    def test_dropout_is_off_meanwhile(self):
        x = randn(200, 4)
        model = network()
        high = calibrate(model, x)["3"].range()[1]
        assert_close(high, np.maximum(model[0](x).numpy(), 0).max())

    def test_nothing_is_recorded_meanwhile(self):
        model, seen = network(), []
        model[3].register_forward_hook(lambda _, inputs, out: seen.append(out.requires_grad))
        calibrate(model, randn(5, 4))
        assert seen == [False]


class TestEffect:
    def test_the_range_of_the_data_is_the_range_of_the_layer(self):
        x = Tensor([[-1.0, 0.0, 1.0, 4.1]])
        layer = quantize_model(network(), x)[0]
        assert_close(layer.input_scale, np.float32(0.02))
        assert layer.input_zero_point == -78

    def test_other_data_gives_another_model(self):
        model, x = network(), randn(10, 4)
        small, large = quantize_model(model, x), quantize_model(model, 50 * x)
        assert_close(large[0].input_scale / small[0].input_scale, 50.0, rtol=1e-4)
        assert not np.array_equal(small(x).numpy(), large(x).numpy())

    def test_a_percentile_survives_an_outlier(self):
        model = Sequential(Linear(4, 2, rng=0))
        x = randn(1000, 4)
        spoiled = Tensor(np.concatenate([x.numpy(), np.full((1, 4), 300.0, np.float32)]))
        want = model(x).numpy()
        errors = [
            np.abs(quantize_model(model, spoiled, percentile)(x).numpy() - want).mean() for percentile in (None, 99.9)
        ]
        assert errors[1] < errors[0] / 10
