"""The classes: settings, parameters, printed form."""

import math

import numpy as np
import pytest
from support.checks import assert_close

from tinytorch.core.layers import Sequential
from tinytorch.core.spatial import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    MaxPool2d,
    adaptive_avg_pool2d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    max_pool2d,
)
from tinytorch.core.tensor import Tensor, manual_seed, randn

IMAGE = randn(2, 4, 9, 8, rng=0)
SIGNAL = randn(2, 4, 12, rng=0)


def named(value):
    """Of a case: functions and tensors have no text of their own that is the same in every process."""
    return getattr(value, "__name__", None) or ("x" if isinstance(value, Tensor) else repr(value))


@pytest.mark.parametrize(
    ("layer", "weight", "bias"),
    [
        (Conv2d(4, 6, 3), (6, 4, 3, 3), (6,)),
        (Conv2d(4, 6, (3, 2), groups=2), (6, 2, 3, 2), (6,)),
        (Conv1d(4, 6, 5), (6, 4, 5), (6,)),
        (ConvTranspose2d(4, 6, 3), (4, 6, 3, 3), (6,)),
        (ConvTranspose2d(4, 6, (2, 3), groups=2), (4, 3, 2, 3), (6,)),
        (ConvTranspose1d(4, 6, 2), (4, 6, 2), (6,)),
    ],
    ids=named,
)
def test_shapes_of_the_parameters(layer, weight, bias):
    assert [(name, p.shape) for name, p in layer.named_parameters()] == [("weight", weight), ("bias", bias)]
    assert all(p.requires_grad and p.dtype == np.float32 for p in layer.parameters())


@pytest.mark.parametrize(
    ("layer", "function", "x", "settings"),
    [
        (Conv2d(4, 6, 3, 2, 1, rng=0), conv2d, IMAGE, (2, 1)),
        (Conv2d(4, 4, (3, 2), padding=(0, 1), dilation=2, groups=4, rng=0), conv2d, IMAGE, (1, (0, 1), 2, 4)),
        (Conv2d(4, 2, 3, padding="same", bias=False, rng=0), conv2d, IMAGE, (1, "same")),
        (Conv1d(4, 6, 5, stride=3, padding=2, dilation=2, groups=2, rng=0), conv1d, SIGNAL, (3, 2, 2, 2)),
        (ConvTranspose2d(4, 6, 3, 2, 1, 1, rng=0), conv_transpose2d, IMAGE, (2, 1, 1)),
        (ConvTranspose2d(4, 2, 2, (1, 2), 0, 0, 2, False, 3, rng=0), conv_transpose2d, IMAGE, ((1, 2), 0, 0, 2, 3)),
        (ConvTranspose1d(4, 6, 3, 2, 1, 1, rng=0), conv_transpose1d, SIGNAL, (2, 1, 1)),
    ],
    ids=named,
)
def test_a_convolution_is_its_function_with_its_parameters(layer, function, x, settings):
    assert_close(layer(x), function(x, layer.weight, layer.bias, *settings).data, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "function", "settings"),
    [
        (MaxPool2d(2), max_pool2d, (2,)),
        (MaxPool2d((3, 2), 2, 1), max_pool2d, ((3, 2), 2, 1)),
        (AvgPool2d(3, padding=1), avg_pool2d, (3, None, 1)),
        (AvgPool2d(3, (1, 2)), avg_pool2d, (3, (1, 2))),
        (AdaptiveAvgPool2d(1), adaptive_avg_pool2d, (1,)),
        (AdaptiveAvgPool2d((2, 3)), adaptive_avg_pool2d, ((2, 3),)),
    ],
    ids=named,
)
def test_a_pool_is_its_function_and_has_no_parameters(layer, function, settings):
    assert_close(layer(IMAGE), function(IMAGE, *settings).data, rtol=0, atol=0)
    assert layer.parameters() == []


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (Conv2d(16, 32, 5, rng=0), 16 * 25),
        (Conv2d(16, 64, 3, groups=4, rng=0), 4 * 9),
        (Conv1d(64, 64, 7, rng=0), 64 * 7),
        (ConvTranspose2d(32, 16, 4, rng=0), 16 * 16),  # PyTorch counts the second axis here too
    ],
    ids=named,
)
def test_parameters_start_uniform_up_to_one_over_the_root_of_fan_in(layer, fan_in):
    bound = 1 / math.sqrt(fan_in)
    for p in layer.parameters():
        assert np.abs(p.data).max() <= bound
        assert np.abs(p.data).max() > 0.8 * bound
        assert abs(p.data.mean()) < 0.25 * bound


def test_the_seed_decides():
    manual_seed(3)
    first = Conv2d(2, 3, 3).state_dict()
    manual_seed(3)
    second = Conv2d(2, 3, 3).state_dict()
    third = Conv2d(2, 3, 3).state_dict()
    for name in first:
        assert_close(first[name], second[name], rtol=0, atol=0)
        assert (first[name] != third[name]).all()
    assert_close(Conv2d(2, 3, 3, rng=5).weight, Conv2d(2, 3, 3, rng=np.random.default_rng(5)).weight.data, rtol=0)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Conv2d(3, 8, 3), "Conv2d(3, 8, kernel_size=(3, 3))"),
        (
            Conv2d(4, 8, 3, 2, 1, 2, 2, bias=False),
            "Conv2d(4, 8, kernel_size=(3, 3), stride=(2, 2), padding=1, dilation=(2, 2), groups=2, bias=False)",
        ),
        (Conv1d(3, 8, 5, padding="same"), "Conv1d(3, 8, kernel_size=(5,), padding='same')"),
        (
            ConvTranspose2d(3, 8, 3, 2, output_padding=1),
            "ConvTranspose2d(3, 8, kernel_size=(3, 3), stride=(2, 2), output_padding=1)",
        ),
        (MaxPool2d(2), "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"),
        (AdaptiveAvgPool2d(1), "AdaptiveAvgPool2d(output_size=(1, 1))"),
        (BatchNorm2d(8), "BatchNorm2d(8, eps=1e-05, momentum=0.1)"),
    ],
)
def test_printed_form(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(0, 8, 3), "Conv2d needs in_channels of at least 1, got 0"),
        (lambda: Conv2d(3, 8, 0), "Conv2d needs kernel_size of at least 1, got 0"),
        (lambda: Conv2d(3, 8, 3, stride=0), "Conv2d needs stride of at least 1, got 0"),
        (lambda: Conv2d(3, 8, 3, groups=2), "Conv2d with groups=2 needs channels divisible by 2, got 3 in and 8 out"),
        (lambda: Conv2d(3, 8, 3, 2, "same"), "Conv2d can keep the size with padding='same' only at stride 1"),
        (lambda: Conv2d(3, 8, 3, padding=-1), "Conv2d needs padding of at least 0, got -1"),
        (lambda: Conv1d(3, 8, (3, 3)), "Conv1d needs kernel_size as one number or 1"),
        (lambda: ConvTranspose2d(3, 8, 3, padding=-1), "ConvTranspose2d needs padding of at least 0"),
        (lambda: ConvTranspose2d(3, 8, 3, groups=3), "got 3 in and 8 out"),
        (lambda: MaxPool2d(0), "MaxPool2d needs kernel_size of at least 1"),
        (lambda: AvgPool2d(2, 0), "AvgPool2d needs stride of at least 1"),
        (lambda: AdaptiveAvgPool2d(0), "AdaptiveAvgPool2d needs output_size of at least 1"),
        (lambda: BatchNorm1d(0), "BatchNorm1d needs num_features of at least 1"),
    ],
)
def test_settings_are_checked_when_a_layer_is_made(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        make()


def test_a_wrong_channel_count_is_said_with_both_numbers():
    with pytest.raises(ValueError, match=r"needs inputs of 3 channels, got 1 in shape \(2, 1, 28, 28\)"):
        Sequential(Conv2d(3, 8, 3))(np.zeros((2, 1, 28, 28)))
