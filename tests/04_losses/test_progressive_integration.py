"""Module 04 with what came before it: one number for how wrong a network is."""

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core import losses
from tinytorch.core.activations import ReLU, log_softmax, sigmoid, softmax, softplus
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import (
    BCEWithLogitsLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from tinytorch.core.tensor import Tensor, manual_seed, randint, randn

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
LABELS = np.array([0, 2])
SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)

# name, class, what the model says, what is true
PAIRS = [
    ("mse_loss", MSELoss, LOGITS, SHARES),
    ("l1_loss", L1Loss, LOGITS, SHARES),
    ("huber_loss", HuberLoss, LOGITS, SHARES),
    ("binary_cross_entropy", BinaryCrossEntropyLoss, SHARES, np.round(SHARES)),
    ("binary_cross_entropy_with_logits", BCEWithLogitsLoss, LOGITS, np.round(SHARES)),
    ("cross_entropy", CrossEntropyLoss, LOGITS, LABELS),
    ("nll_loss", NLLLoss, np.log(SHARES), LABELS),
    ("kl_div", KLDivLoss, np.log(SHARES), SHARES[::-1]),
]
by_name = pytest.mark.parametrize(("name", "cls", "says", "true"), PAIRS, ids=[pair[0] for pair in PAIRS])


class TestPriorStackStillWorking:
    def test_a_layer_multiplies_and_adds(self):
        layer = Linear(2, 1)
        layer.load_state_dict({"weight": [[2.0], [3.0]], "bias": [1.0]})
        assert_close(layer(Tensor([[1.0, 1.0]])), np.array([[6]], np.float32))

    def test_shares_add_up_to_1(self):
        assert_close(softmax(randn(3, 5, rng=0)).sum(axis=-1), np.ones(3, np.float32))

    def test_comparisons_are_booleans(self):
        assert (Tensor([1.0, 2.0]) > 1.5).tolist() == [False, True]


class TestModule04LossesCore:
    def test_mse_of_a_worked_example(self):
        assert_close(mse_loss([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0]), np.float32(0.375))

    def test_l1_and_huber_of_worked_examples(self):
        assert_close(l1_loss([-0.5, 3.0], [0.0, 0.0]), np.float32(1.75))
        assert_close(huber_loss([-0.5, 3.0], [0.0, 0.0]), np.float32(1.3125))

    def test_binary_cross_entropy_of_a_worked_example(self):
        assert_close(binary_cross_entropy([0.9, 0.2], [1.0, 0.0]), np.float32(-(np.log(0.9) + np.log(0.8)) / 2))

    def test_binary_cross_entropy_with_logits_of_a_worked_example(self):
        assert_close(binary_cross_entropy_with_logits([2.0, -1.0], [1.0, 1.0]), np.float32(0.7200948))

    def test_cross_entropy_of_a_worked_example(self):
        assert_close(cross_entropy(LOGITS, LABELS, reduction="none"), np.array([0.40760595, np.log(3)], np.float32))

    def test_nll_of_a_worked_example(self):
        assert_close(nll_loss([[-0.1, -2.4], [-1.2, -0.4]], [0, 0]), np.float32(0.65))

    def test_kl_of_a_worked_example(self):
        want = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
        assert_close(kl_div(np.log([[0.9, 0.1]]), [[0.5, 0.5]], "batchmean"), np.float32(want))

    @by_name
    def test_mean_sum_and_none_fit_together(self, name, cls, says, true):
        function = getattr(losses, name)
        each = function(says, true, reduction="none")
        assert each.shape == (LABELS.shape if name in ("cross_entropy", "nll_loss") else says.shape)
        assert_close(function(says, true, reduction="sum"), each.data.sum())
        assert_close(function(says, true), each.data.mean())

    @by_name
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_every_loss_has_a_class_that_computes_the_same(self, name, cls, says, true, reduction):
        want = getattr(losses, name)(says, true, reduction=reduction)
        assert_close(cls(reduction=reduction)(Tensor(says), Tensor(true)), want.data, rtol=0, atol=0)


class TestBackwardIntegration:
    """With modules 01 to 03, on which losses stand."""

    def test_cross_entropy_is_the_negative_log_of_softmax_at_the_class(self):
        x, t = randn(20, 7, rng=0), randint(0, 7, 20, rng=1)
        naive = -np.log(softmax(x).data[np.arange(20), t.data])
        assert_close(cross_entropy(x, t, reduction="none"), naive)

    def test_cross_entropy_is_nll_of_log_softmax(self):
        x, t = randn(20, 7, rng=0), randint(0, 7, 20, rng=1)
        for options in ({}, {"weight": np.arange(1.0, 8)}, {"ignore_index": 3}):
            assert_close(cross_entropy(x, t, **options), nll_loss(log_softmax(x), t, **options).data)

    def test_binary_cross_entropy_with_logits_is_that_of_the_sigmoid(self):
        x, t = randn(50, rng=0), np.arange(50) % 2
        assert_close(
            binary_cross_entropy_with_logits(x, t, "none"), binary_cross_entropy(sigmoid(x), t, "none").data, rtol=1e-4
        )

    def test_binary_cross_entropy_with_logits_is_softplus_minus_tx(self):
        x, t = randn(50, rng=0), np.linspace(0, 1, 50, dtype=np.float32)
        assert_close(binary_cross_entropy_with_logits(x, t, "none"), (softplus(x) - x * t).data)

    @by_name
    def test_lists_arrays_and_tensors_mean_the_same(self, name, cls, says, true):
        function = getattr(losses, name)
        want = function(Tensor(says), Tensor(true)).data
        assert_close(function(says, true), want, rtol=0, atol=0)
        assert_close(function(says.tolist(), true.tolist()), want, rtol=0, atol=0)


class TestForwardIntegration:
    """What the next modules rely on."""

    @by_name
    def test_the_mean_is_a_single_float32_in_an_array(self, name, cls, says, true):
        for reduction in ("mean", "sum"):
            out = getattr(losses, name)(says, true, reduction=reduction)
            assert isinstance(out.data, np.ndarray)
            assert (out.shape, out.dtype) == ((), np.float32)

    @by_name
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_dtype_stays(self, name, cls, says, true, reduction, dtype):
        says = Tensor(says, dtype=dtype)
        true = Tensor(true, dtype=dtype if true.dtype.kind == "f" else None)
        assert getattr(losses, name)(says, true, reduction=reduction).dtype == dtype

    def test_the_dtype_stays_with_weights_smoothing_and_things_to_ignore(self):
        for options in (
            {"weight": np.ones(3)},
            {"label_smoothing": 0.1},
            {"ignore_index": 0},
            {"weight": [1, 2, 3], "label_smoothing": 0.5, "ignore_index": 2},
        ):
            for reduction in ("mean", "sum", "none"):
                assert cross_entropy(LOGITS, LABELS, reduction=reduction, **options).dtype == np.float32

    @pytest.mark.parametrize(
        ("name", "inputs", "saved"),
        [
            ("mse_loss", 2, {"distance", "share"}),
            ("huber_loss", 2, {"slope", "share"}),
            ("binary_cross_entropy", 2, {"yes", "no", "share"}),
            ("binary_cross_entropy_with_logits", 2, {"softplus", "share"}),
            ("kl_div", 2, {"surprise", "share"}),
            ("cross_entropy", 1, {"rows", "part", "softmax"}),
        ],
    )
    def test_fused_losses_are_one_operation(self, name, inputs, saved):
        _, _, says, true = next(pair for pair in PAIRS if pair[0] == name)
        says, true = Tensor(says), Tensor(true)
        found = announced(lambda: getattr(losses, name)(says, true))
        assert [op for op, _, _ in found] == [name]
        assert len(found[0][1]) == inputs
        assert found[0][1][0] is says
        assert set(found[0][2]) == saved

    @pytest.mark.parametrize(("reduction", "share"), [("mean", 1 / 6), ("sum", 1), ("none", 1)])
    def test_the_share_of_each_element_is_saved(self, reduction, share):
        for name, _, says, true in PAIRS:
            if name in ("mse_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"):
                found = announced(lambda n=name, s=says, t=true: getattr(losses, n)(s, t, reduction=reduction))
                assert found[-1][2]["share"] == pytest.approx(share)

    def test_what_cross_entropy_saves_is_the_softmax(self):
        ((_, _, saved),) = announced(lambda: cross_entropy(Tensor(LOGITS), Tensor(LABELS)))
        assert_close(saved["softmax"] / saved["part"][:, None], softmax(LOGITS).data)
        assert saved["part"].tolist() == [1 / 2, 1 / 2]
        assert saved["rows"].tolist() == [0, 2]

    def test_the_part_of_each_row_in_the_result_is_saved(self):
        def part(**options):
            return announced(lambda: cross_entropy(Tensor(LOGITS), Tensor(LABELS), **options))[-1][2]["part"]

        assert_close(part(weight=[1.0, 9.0, 3.0]), np.array([0.25, 0.75], np.float32))
        assert_close(part(weight=[1.0, 9.0, 3.0], reduction="sum"), np.array([1, 3], np.float32))
        assert_close(part(ignore_index=2), np.array([1, 0], np.float32))
        assert_close(part(reduction="none"), np.array([1, 1], np.float32))

    @by_name
    def test_a_loss_has_no_parameters(self, name, cls, says, true):
        assert cls().parameters() == []


class TestCrossModuleIntegration:
    @pytest.mark.parametrize("C", [2, 10, 1000])
    def test_an_untrained_classifier_reads_about_log_c(self, C):
        manual_seed(0)
        model = Sequential(Linear(20, 32), ReLU(), Linear(32, C))
        loss = cross_entropy(model(randn(500, 20)), randint(0, C, 500)).item()
        assert abs(loss - np.log(C)) < 0.1

    def test_a_loss_is_a_module_with_settings(self):
        model = Sequential(Linear(2, 2))
        model.loss = CrossEntropyLoss(weight=np.array([1.0, 2.0], np.float32))
        assert model.loss.training
        assert not model.eval().loss.training
        assert list(model.state_dict()) == ["0.weight", "0.bias", "loss.weight"]

    def test_sequences_of_tokens(self):
        logits, tokens = randn(4, 6, 11, rng=0), randint(0, 11, (4, 6), rng=1)
        want = cross_entropy(logits.reshape(24, 11), tokens.reshape(24))
        assert_close(cross_entropy(logits, tokens), want.data)
        assert cross_entropy(logits, tokens, reduction="none").shape == (4, 6)


class TestRegressionPrevention:
    @by_name
    def test_inputs_are_never_changed(self, name, cls, says, true):
        says, true = Tensor(says), Tensor(true)
        before = says.data.copy(), true.data.copy()
        for reduction in ("mean", "sum", "none"):
            getattr(losses, name)(says, true, reduction=reduction)
        assert_close(says, before[0], rtol=0, atol=0)
        assert_close(true, before[1], rtol=0, atol=0)

    def test_a_column_against_a_row_is_an_error_not_a_square(self):
        for function in (mse_loss, l1_loss, huber_loss, binary_cross_entropy, binary_cross_entropy_with_logits, kl_div):
            with pytest.raises(ValueError, match=rf"{function.__name__} .*\(4, 1\) and \(4,\)"):
                function(np.full((4, 1), 0.5), np.full(4, 0.5))

    @by_name
    def test_an_empty_batch_cannot_be_averaged(self, name, cls, says, true):
        with pytest.raises(ValueError, match=rf"{name} cannot average over an empty batch, got shape \(0, 3\)"):
            getattr(losses, name)(says[:0], true[:0])

    @by_name
    def test_an_empty_batch_sums_to_0(self, name, cls, says, true):
        assert getattr(losses, name)(says[:0], true[:0], reduction="sum").item() == 0

    @by_name
    @pytest.mark.parametrize("reduction", ["average", "Mean", None, 1])
    def test_an_unknown_reduction_is_refused(self, name, cls, says, true, reduction):
        with pytest.raises(ValueError, match=rf"needs reduction 'mean', 'sum' or 'none', got {reduction!r}"):
            getattr(losses, name)(says, true, reduction=reduction)
        with pytest.raises(ValueError, match=rf"{cls.__name__} needs reduction"):
            cls(reduction=reduction)

    def test_ten_thousand_is_finite_everywhere(self):
        for loss, want in [
            (cross_entropy([[1e4, -1e4]], [1]), 2e4),
            (cross_entropy([[1e4, -1e4]], [0]), 0),
            (cross_entropy([[1e4, -1e4]], [[0.5, 0.5]]), 1e4),
            (binary_cross_entropy_with_logits([1e4, -1e4], [1.0, 0.0]), 0),
            (binary_cross_entropy_with_logits([-1e4, 1e4], [1.0, 0.0]), 1e4),
        ]:
            assert_close(loss, np.float32(want))
